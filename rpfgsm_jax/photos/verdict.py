"""What is claimed of a protected photo, and what it rests on: values only, no pixels, no files."""

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, get_args

from rpfgsm_jax.models.kinds import KINDS, NetworkKind

Status = Literal["protected", "partly", "not", "no scene"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""See `judge`."""

AS_WRITTEN = "as written"
CONFIDENT = 0.5
"""Probability from which a network counts as having recognized a scene."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkVerdict:
  """What one network makes of a photo before and after.

  Attributes:
    name: of the network.
    held_out: the attack does not use it, it only judges.
    before: its most likely classes of the original, with their probabilities; at most five.
    after: likewise of the written file.
    misled: for each condition whether its first class is no longer that of the original, or, where
      there is a `scene`, not that.
    kind: "small", "modern" or "other", see `rpfgsm_jax.models.kinds`; None: a record of before does
      not say.
    scene: its class of what the photo shows, where the user has named one that it knows.
  """

  name: str
  held_out: bool
  before: tuple[tuple[str, float], ...]
  after: tuple[tuple[str, float], ...]
  misled: dict[str, bool]
  kind: NetworkKind | None = None
  scene: str | None = None

  @property
  def recognized(self) -> bool:
    """Whether it was sure of the scene before: there was something to hide from it."""
    name, probability = self.before[0]
    return probability >= CONFIDENT and self.scene in (None, name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """The verdict on one written file, from its own bytes.

  Attributes:
    status: see `judge`.
    networks: the judges, those of the attack first.
    psnr: dB, of the decoded file against the original; infinite where nothing differs.
    ssim: at most 1; None where the photo is smaller than SSIM's window.
    largest_change: gray levels, of the decoded file: what eps came to in the end.
  """

  status: Status
  networks: tuple[NetworkVerdict, ...]
  psnr: float
  ssim: float | None
  largest_change: int

  @property
  def judged_by(self) -> str:
    """Who judged, in words, and whether a modern network did."""
    return judged_by(network.kind for network in self.networks)

  def to_json(self) -> dict[str, Any]:
    """Returns JSON values; an infinite PSNR is None."""
    values = dataclasses.asdict(self)
    values["psnr"] = self.psnr if self.psnr < float("inf") else None
    for network, found in zip(self.networks, values["networks"], strict=True):
      found["recognized"] = network.recognized
      if network.scene is None:  # as in records of before
        del found["scene"]
    return values

  @classmethod
  def from_json(cls, values: dict[str, Any]) -> "Verdict":
    """Reads what `to_json` wrote.

    Args:
      values: the mapping.

    Returns:
      The verdict.

    Raises:
      KeyError, TypeError, ValueError: it is something else.
    """

    def classes(pairs: list) -> tuple[tuple[str, float], ...]:
      return tuple((str(name), float(probability)) for name, probability in pairs)

    networks = tuple(
      NetworkVerdict(
        name=each["name"],
        held_out=each["held_out"],
        before=classes(each["before"]),
        after=classes(each["after"]),
        misled=dict(each["misled"]),
        kind=each.get("kind"),
        scene=each.get("scene"),
      )
      for each in values["networks"]
    )
    if values["status"] not in STATUSES:
      raise ValueError(f"status must be one of {STATUSES}, got {values['status']!r}.")
    for network in networks:
      if network.kind not in (*KINDS, None):
        raise ValueError(f"kind must be one of {KINDS} or absent, got {network.kind!r}.")
    return cls(
      status=values["status"],
      networks=networks,
      psnr=float("inf") if values["psnr"] is None else float(values["psnr"]),
      ssim=None if values["ssim"] is None else float(values["ssim"]),
      largest_change=int(values["largest_change"]),
    )


def judge(networks: tuple[NetworkVerdict, ...]) -> Status:
  """Returns the status that a photo's judges support.

  Only networks that recognized a scene in the original have a say.

  - "no scene": there is none; nothing was there to hide.
  - "protected": each of them is misled under every condition.
  - "not": the held-out ones, the modern among them where there are any, are misled under no
    condition; without such ones, none of the others is.
  - "partly": everything between.
  """
  sure = [network for network in networks if network.recognized]
  if not sure:
    return "no scene"
  if all(all(network.misled.values()) for network in sure):
    return "protected"
  held_out = [network for network in sure if network.held_out]
  decisive = [network for network in held_out if network.kind == "modern"] or held_out or sure
  if not any(any(network.misled.values()) for network in decisive):
    return "not"
  return "partly"


_WORDS: dict[NetworkKind | None, str] = {
  "small": "small {}",
  "modern": "modern {}",
  "other": "other {}",
  None: "{} of unknown kind",
}


def judged_by(kinds: Iterable[NetworkKind | None]) -> str:
  """Says what the judges are, in words that follow "judged by"."""
  counts = collections.Counter(kinds)
  parts = [
    f"{counts[kind]} {words.format('network' if counts[kind] == 1 else 'networks')}"
    for kind, words in _WORDS.items()
    if counts[kind]
  ]
  if not parts:
    return "nobody"
  if set(counts) == {"small"}:
    parts.append("none like those in use")
  said = ", ".join(parts)
  return said if counts["modern"] or counts[None] else f"{said}; not judged by a modern network"
