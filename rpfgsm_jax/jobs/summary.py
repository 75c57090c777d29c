"""What a run of a job has done, for people and for programs."""

import dataclasses
from typing import Any

_NAMED = 20  # failures that the end of a run repeats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """Counts of one run."""

  done: int  # photos that this run has written
  skipped: int  # photos that were done before
  left: int  # photos that it did not come to
  failures: tuple[tuple[str, str], ...]  # relative path and reason
  seconds: float  # from the first photo's reading to the last one's writing; compilation included
  idle_share: float | None  # of the devices, 0..1; None: not known

  @property
  def rate(self) -> float:
    """Photos a second."""
    return self.done / self.seconds if self.seconds else 0.0

  def to_text(self) -> str:
    """Returns lines for people."""
    counts = [f"{self.done} done", f"{len(self.failures)} failed", f"{self.skipped} skipped"]
    facts = [", ".join([*counts, *([f"{self.left} left"] if self.left else [])])]
    if self.done:
      facts.append(f"{self.seconds:.1f} s, {self.rate:.2f} photos/s")
    if self.idle_share is not None:
      facts.append(f"devices idle {100 * self.idle_share:.1f} %")
    lines = ["; ".join(facts)]
    lines += [f"failed: {reason}" for _, reason in self.failures[:_NAMED]]
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
    }
