"""Photos at their own size: what each strength and each form of the change costs and buys.

Every photo is attacked in every setting, encoded as `rpfgsm protect` would write it, decoded again,
and judged on these bytes: by the networks of the attack, by a held-out one, as written and after
what platforms do. A photo of fewer pixels than wanted is enlarged first.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import options, photos, rows, runtime
from experiments.journal import Journal, Say, open_journal
from experiments.options import FullsizeConfig
from rpfgsm_jax import data, defenses, result_folder
from rpfgsm_jax.data.photo_files import Encoding, Photo, decode_photo, encode_photo
from rpfgsm_jax.photos import PhotoConfig, PhotoProtector
from rpfgsm_jax.photos.judging import judge_photo
from rpfgsm_jax.process import CompileCache

EXPERIMENT = "fullsize"
_MEGA = 2**20
_TOGETHER = 32  # photos in memory at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """One way to change a photo."""

  family: str  # settings of one family differ in epsilon alone
  epsilon: float  # largest change, gray levels
  how: Literal["attack", "noise", "nothing"] = "attack"  # RP-FGSM; a random sign a value; nothing
  options: tuple[tuple[str, object], ...] = ()  # of `PhotoConfig`
  attack: tuple[tuple[str, object], ...] = ()  # of its attack

  @property
  def name(self) -> str:
    """How rows call it."""
    return f"{self.family}, eps {self.epsilon:g}" if self.epsilon else self.family

  def config(self, together: int) -> PhotoConfig:
    """Returns what `PhotoProtector` is given, for so many photos computed at once."""
    given = {"epsilon": self.epsilon, "micro_batch": together, **dict(self.attack)}
    return PhotoConfig(
      attack=rp.RPFGSMConfig(**given), **{"working_pixels": None, **dict(self.options)}
    )


def _family(family: str, epsilons: Sequence[float], **given: object) -> tuple[Setting, ...]:
  return tuple(Setting(family=family, epsilon=epsilon, **given) for epsilon in epsilons)


_TEXTURE, _GRAY = ("masking", rp.TextureMasking()), ("gray", True)
_WORKING = ("working_pixels", 2**18)
NETWORK_SIZE, EVEN, TEXTURE = "at the networks' size", "even", "by texture"
DEFAULT = "even, attacked at 0.26 MP"  # as large photos are attacked on a CPU
TEXTURE_DEFAULT = "by texture, attacked at 0.26 MP"
LUMA, TEXTURE_LUMA = "luma only", "by texture, luma only"
SETTINGS = (
  Setting(family="photo itself", epsilon=0.0, how="nothing"),
  *_family("random noise", (8.0, 16.0), how="noise"),
  *_family(
    NETWORK_SIZE,  # as in the paper
    (4.0, 8.0, 12.0, 16.0),
    options=(("size", "network"),),
    attack=(("micro_batch", rp.RPFGSMConfig().micro_batch),),
  ),
  *_family(EVEN, (2.0, 4.0, 6.0, 8.0, 12.0, 16.0)),
  *_family(DEFAULT, (2.0, 4.0, 6.0, 8.0, 12.0, 16.0), options=(_WORKING,)),
  *_family(
    f"{DEFAULT}, JPEG 90", (8.0,), options=(_WORKING, ("encoding", Encoding(format="jpeg")))
  ),
  *_family(TEXTURE, (4.0, 8.0, 12.0, 16.0, 24.0, 32.0), attack=(_TEXTURE,)),
  *_family(LUMA, (4.0, 8.0, 16.0), attack=(_GRAY,)),
  *_family(TEXTURE_LUMA, (16.0, 24.0), attack=(_TEXTURE, _GRAY)),
  *_family(TEXTURE_DEFAULT, (8.0, 16.0, 24.0), options=(_WORKING,), attack=(_TEXTURE,)),
  *_family(
    "by texture, attacked at 0.07 MP",
    (16.0,),
    options=(("working_pixels", 2**16),),
    attack=(_TEXTURE,),
  ),
  *_family(
    "by texture, defenses at full size",
    (16.0,),
    options=(("shrink", None),),
    attack=(
      _TEXTURE,
      ("defenses", defenses.platform_bank()),
    ),
  ),
)


def run(config: FullsizeConfig, *, cache: CompileCache, say: Say) -> None:
  """Appends the rows that are not there yet."""
  settings = _chosen(config.settings)
  nets, held_out = (
    [rp.load_classifier(options.network_named(name, config.classifiers)) for name in names]
    for names in (config.seen, config.held_out)
  )
  source = photos.open_source(config.data, nets, limit=config.limit)
  scenes = _scenes(nets[0].class_names, [*nets, *held_out])
  found = _open(config, source, say)
  wanted = [
    (setting, [photo for photo in source.photos if not found.has(setting.name, photo.name)])
    for setting in settings
  ]
  say(f"{source.description}; {cache.describe()}")

  def judge(pair: tuple[np.ndarray, bytes]) -> rows.Row:
    original, encoded = pair
    verdict = judge_photo(original, decode_photo(encoded, None), nets, held_out)
    size = [original.shape[1], original.shape[0]]
    return {"size": size, "bytes": len(encoded), "verdict": verdict.to_json()}

  bar = tqdm(total=sum(len(some) for _, some in wanted), unit="photo", disable=None)
  with bar, concurrent.futures.ThreadPoolExecutor() as pool:
    for setting, some in wanted:
      change = _changer(setting, config, nets, held_out)
      for group in _groups(some, config):
        started = time.perf_counter()
        changed = change([pixels for _, pixels in group], [photo.image_id for photo, _ in group])
        changed = list(changed)
        seconds = (time.perf_counter() - started) / len(group)
        for (photo, _), judged in zip(group, pool.map(judge, changed), strict=True):
          facts = {"kind": "photo", "setting": setting.name, "photo": photo.name}
          known = {"scenes": scenes[photo.label]} if photo.label >= 0 else {}
          found.append([{**facts, **known, **judged, "seconds": round(seconds, 3)}])
          bar.update()


def _scenes(
  class_names: Sequence[str], networks: Sequence[rp.Classifier]
) -> list[list[str | None]]:
  """Returns for each class what each network calls it; None where it has no such class."""
  own = photos.classes_by_name(class_names, networks)
  return [
    [
      None if place < 0 else network.class_names[place]
      for place, network in zip(places, networks, strict=True)
    ]
    for places in own.T
  ]


def _chosen(names: Sequence[str]) -> list[Setting]:
  known = {setting.family for setting in SETTINGS} | {setting.name for setting in SETTINGS}
  unknown = sorted(set(names) - known)
  if unknown:
    raise ValueError(f"--setting must be among {sorted(known)}, got {unknown}.")
  wanted = set(names) or known
  return [setting for setting in SETTINGS if wanted & {setting.family, setting.name}]


def _open(config: FullsizeConfig, source: photos.Source, say: Say) -> Journal:
  """Returns the rows of the folder, which must be of the same photos and settings."""
  if config.data is not None:
    result_folder.check_apart(config.out, config.data, "--out and --data")
  header = {
    "kind": "run",
    "experiment": EXPERIMENT,
    "command": config.command,
    "photos": source.description,
    "versions": runtime.versions(),
    "data": None if config.data is None else str(config.data),
    **{name: getattr(config, name) for name in ("megapixels", "seed", "classifiers")},
    "seen": list(config.seen),
    "held_out": list(config.held_out),
  }
  return open_journal(config.out, header, config.seed, config, say)


def _groups(
  some: Sequence[photos.StudyPhoto], config: FullsizeConfig
) -> Iterator[list[tuple[photos.StudyPhoto, np.ndarray]]]:
  """Yields photographs of one size each, a few at a time."""
  waiting = collections.defaultdict(list)
  for photo in some:
    pixels = _read(photo, config)
    same = waiting[pixels.shape]
    same.append((photo, pixels))
    if len(same) == (_TOGETHER if config.together > 1 else 1):
      yield waiting.pop(pixels.shape)
  yield from waiting.values()


def _read(photo: photos.StudyPhoto, config: FullsizeConfig) -> np.ndarray:
  if config.data is None:
    side = round(math.sqrt(config.megapixels * _MEGA))
    return _samples(side)[photo.name]
  pixels = data.read_image(config.data / photo.name)
  height, width = pixels.shape[:2]
  factor = math.sqrt(config.megapixels * _MEGA / (height * width))
  if factor <= 1:
    return pixels
  size = (round(width * factor), round(height * factor))
  return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


@functools.cache
def _samples(side: int) -> dict[str, np.ndarray]:
  return dict(data.sample_photos((side, side), photos.SAMPLE_VIEWS))


Changed = Iterable[tuple[np.ndarray, bytes]]
"""The originals, as they are compared with, and the files of the changed ones."""


def _changer(
  setting: Setting,
  config: FullsizeConfig,
  nets: Sequence[rp.Classifier],
  held_out: Sequence[rp.Classifier],
) -> Callable[[list[np.ndarray], list[int]], Changed]:
  """Returns what a setting makes of photographs of one size with their ids."""
  photo_config = setting.config(config.together)
  protector = PhotoProtector(nets, photo_config, held_out=held_out, seed=config.seed)

  def write(original: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, bytes]:
    return original, encode_photo(Photo(pixels=original), pixels, photo_config.encoding)

  def attack(some: list[np.ndarray], ids: list[int]) -> Changed:
    shown = [protector.prepare(Photo(pixels=pixels)) for pixels in some]
    return map(write, [each.pixels for each in shown], protector.attack_together(shown, ids))

  def noise(some: list[np.ndarray], ids: list[int]) -> Changed:
    for pixels, number in zip(some, ids, strict=True):
      signs = np.random.default_rng((config.seed, number)).choice((-1, 1), pixels.shape)
      changed = np.clip(pixels + setting.epsilon * signs, 0, 255).astype(np.uint8)
      yield write(pixels, changed)

  def nothing(some: list[np.ndarray], ids: list[int]) -> Changed:
    return map(write, some, some)

  return {"attack": attack, "noise": noise, "nothing": nothing}[setting.how]
