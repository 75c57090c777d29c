"""What people and programs are told of each photo."""

from typing import Any

from rpfgsm_jax.jobs.photo_records import Facts
from rpfgsm_jax.jobs.pipeline import Outcome
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.running import RunningJob
from rpfgsm_jax.jobs.summary import IN_WORDS


def shortcoming(outcome: Outcome) -> str | None:
  """Says in one line what a photo's protection lacks.

  Args:
    outcome: what became of it.

  Returns:
    The line; None where there is nothing to say.
  """
  verdict = (outcome.facts or {}).get("verdict", {})
  if verdict.get("status") not in ("partly", "not"):
    return None
  still = [
    f"{network['name']} ({', '.join(failed)})"
    for network in verdict["networks"]
    if network["recognized"]
    and (failed := [name for name, misled in network["misled"].items() if not misled])
  ]
  return f"{IN_WORDS[verdict['status']]}: {outcome.relative}: not misled: {'; '.join(still)}"


def each_photo(running: RunningJob) -> list[dict[str, Any]]:
  """Returns one entry a photo of a run, as JSON values.

  Args:
    running: the job; done as far as it will be.

  Returns:
    Those that are done, then those that failed.
  """
  failed = running.summary().failures
  return [_entry(task, facts) for task, facts in running.records()] + [
    {"photo": photo, "status": "failed", "reason": reason} for photo, reason in failed
  ]


def _entry(task: Task, facts: Facts) -> dict[str, Any]:
  verdict = facts["verdict"]
  return {
    "photo": task.record.relative,
    "source": str(task.record.path.absolute()),
    "output": str(task.output),
    "status": verdict["status"],
    "scenes": [_scenes(network) for network in verdict["networks"]],
    "psnr": verdict["psnr"],
    "ssim": verdict["ssim"],
    "largest_change": verdict["largest_change"],
    "working_size": facts["working_size"],
  }


def _scenes(network: dict[str, Any]) -> dict[str, Any]:
  return {
    "network": network["name"],
    "held_out": network["held_out"],
    "before": network["before"][0][0],
    "after": network["after"][0][0],
  }
