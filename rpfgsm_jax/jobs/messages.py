"""What a run of a job has done, for people and for programs."""

import collections
import dataclasses
from typing import Any, NamedTuple

from rpfgsm_jax.jobs.photo_records import Facts
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.photos.verdict import STATUSES, Status, judged_by

IN_WORDS: dict[Status, str] = {
  "protected": "protected",
  "partly": "partly protected",
  "not": "not protected",
  "no scene": "without a scene that a network is sure of",
}
_NAMED = 20  # failures that the end of a run repeats


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """Counts of one run."""

  done: int  # photos that this run has written
  skipped: int  # photos that were done before
  left: int  # photos that it did not come to
  failures: tuple[tuple[str, str], ...]  # name and reason
  seconds: float  # from the first photo's reading to the last one's writing; compilation included
  idle_share: float | None  # of the devices, 0..1; None: not known
  statuses: tuple[Status, ...] = ()  # verdicts on what this run has written
  judges: tuple[dict[str, Any], ...] = ()  # who gave them and earlier ones, see `judges_of`

  @property
  def rate(self) -> float:
    """Photos a second."""
    return self.done / self.seconds if self.seconds else 0.0

  @property
  def verdicts(self) -> dict[Status, int]:
    """How often each verdict was given; none that was never given."""
    counts = collections.Counter(self.statuses)
    return {status: counts[status] for status in STATUSES if counts[status]}

  @property
  def judged(self) -> str:
    """How many of the photos with a scene are protected, and who says so."""
    scenes = [status for status in self.statuses if status != "no scene"]
    found = f"{scenes.count('protected')} of {len(scenes)} scenes" if scenes else "nothing to be"
    return f"{found} protected, judged by {judged_by(each['kind'] for each in self.judges)}"

  def to_text(self) -> str:
    """Returns lines for people."""
    found = ", ".join(f"{count} {IN_WORDS[status]}" for status, count in self.verdicts.items())
    counts = [f"{self.done} done" + (f" ({found})" if found else "")]
    counts += [f"{len(self.failures)} failed", f"{self.skipped} skipped"]
    facts = [", ".join([*counts, *([f"{self.left} left"] if self.left else [])])]
    if self.done:
      facts.append(f"{self.seconds:.1f} s, {self.rate:.2f} photos/s")
    if self.idle_share is not None:
      facts.append(f"devices idle {100 * self.idle_share:.1f} %")
    lines = ["; ".join(facts), *([f"{self.judged}."] if self.statuses else [])]
    lines += [f"failed: {one_line(reason)}" for _, reason in self.failures[:_NAMED]]
    if len(self.failures) > _NAMED:
      lines.append(f"and {len(self.failures) - _NAMED} more, named above")
    return "\n".join(lines)

  def to_json(self) -> dict[str, Any]:
    """Returns the same as JSON values."""
    return {
      "done": self.done,
      "failed": len(self.failures),
      "skipped": self.skipped,
      "left": self.left,
      "seconds": round(self.seconds, 3),
      "photos_per_second": round(self.rate, 3),
      "idle_share": None if self.idle_share is None else round(self.idle_share, 4),
      "failures": [{"photo": photo, "reason": reason} for photo, reason in self.failures],
      "verdicts": self.verdicts,
      "judges": list(self.judges),
      "judged_by": judged_by(judge["kind"] for judge in self.judges),
    }


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


def judges_of(facts: Facts) -> dict[str, dict[str, Any]]:
  """Returns who judged a photo: name -> name, role and kind, as JSON values."""
  networks = facts["verdict"]["networks"] if facts["verdict"] else ()
  return {
    each["name"]: {
      "network": each["name"],
      "held_out": each["held_out"],
      "kind": each.get("kind"),
    }
    for each in networks
  }


def photo_entry(task: Task, facts: Facts) -> dict[str, Any]:
  """Returns a photo that is done as JSON values, for other programs."""
  entry = {
    "photo": task.record.relative,
    "source": str(task.record.path.absolute()),
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
    "kind": network.get("kind"),
    "before": network["before"][0][0],
    "after": network["after"][0][0],
  }
