"""What became of photos, for people and for programs."""

from typing import Any, NamedTuple

from rpfgsm_jax.jobs.photo_records import Facts
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.photos.verdict import Status

IN_WORDS: dict[Status, str] = {
  "protected": "protected",
  "partly": "partly protected",
  "not": "not protected",
  "no scene": "without a scene that a network is sure of",
}


class Outcome(NamedTuple):
  """What became of one photo."""

  relative: str  # its name in the job
  failure: str | None  # None: its file is written, whole; else a sentence saying why not
  notes: tuple[str, ...] = ()  # what was lost on the way; sentences naming the file
  facts: Facts | None = None  # its record


def one_line(text: str) -> str:
  """Returns a message in printable characters: file names hold what no terminal should get."""
  return "".join(
    each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
  )


def shortcoming(outcome: Outcome) -> str | None:
  """Says in one line what a photo's protection lacks; None where there is nothing to say."""
  verdict = outcome.facts and outcome.facts["verdict"]
  if not verdict or verdict["status"] not in ("partly", "not"):
    return None
  still = [
    f"{network['name']} ({', '.join(failed)})"
    for network in verdict["networks"]
    if network["recognized"]
    and (failed := [name for name, misled in network["misled"].items() if not misled])
  ]
  return f"{IN_WORDS[verdict['status']]}: {outcome.relative}: not misled: {'; '.join(still)}"


def photo_entry(task: Task, facts: Facts) -> dict[str, Any]:
  """Returns a photo that is done as JSON values, for other programs."""
  entry = {
    "photo": task.relative,
    "source": str(task.path.absolute()),
    "output": str(task.output),
    "working_size": facts["working_size"],
  }
  verdict = facts["verdict"]
  if verdict is None:
    return entry | {"status": "not judged"}
  return entry | {
    "status": verdict["status"],
    "scenes": [_scenes(network) for network in verdict["networks"]],
    "psnr": verdict["psnr"],
    "ssim": verdict["ssim"],
    "largest_change": verdict["largest_change"],
  }


def _scenes(network: dict[str, Any]) -> dict[str, Any]:
  return {
    "network": network["name"],
    "held_out": network["held_out"],
    "before": network["before"][0][0],
    "after": network["after"][0][0],
  }
