"""The same attack, other surrogates: what networks that nobody attacked make of the photos.

Photos with known scenes are protected at their own size as `rpfgsm protect` does it, by attacking
each given set of networks with the same strength and number of gradient passes. Judges, which no
attack saw, say how often they still recognize the true scene, as the photo was written and behind
JPEG 50. Beside them the photo itself and random noise. Sets are chosen on one half of the photos
(`--half 1`) and reported on the other.
"""

import collections
import dataclasses
import functools
import importlib.util
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import lineup, photos, recipes, rows, runtime
from experiments.journal import Journal, Say, open_journal
from experiments.options import SurrogatesConfig
from experiments.tables import csv_text
from rpfgsm_jax import atomic, data, quality, result_folder
from rpfgsm_jax.attacks.masking import pixel_limits
from rpfgsm_jax.data.photo_files import Photo
from rpfgsm_jax.evaluation import misleading_rate
from rpfgsm_jax.photos import STRENGTHS, PhotoConfig, PhotoProtector
from rpfgsm_jax.photos.judging import conditioned
from rpfgsm_jax.photos.verdict import AS_WRITTEN
from rpfgsm_jax.process import CompileCache
from rpfgsm_jax.report import Cell, Table, markdown
from rpfgsm_jax.report.cells import number_cell, rate_cell

EXPERIMENT = "surrogates"
CONDITIONS = (AS_WRITTEN, "JPEG 50")
TOP = 5
UNCHANGED, NOISE = "photo itself", "random noise"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """One way to change the photos."""

  how: str  # UNCHANGED, NOISE, or networks with commas between
  at: str = ""  # how strongly, see recipes.attack_of; "" where nothing is changed

  @property
  def name(self) -> str:
    """How rows call it."""
    if not self.at or self.at.split("+")[0] in STRENGTHS:
      return ", ".join(filter(None, (self.how, self.at)))
    passes = f", {self.attack.num_steps} passes" if self.attacked else ""
    return f"{self.how}, eps {self.attack.epsilon:g}{passes}"

  @property
  def attacked(self) -> tuple[str, ...]:
    """Its networks; none where nothing is attacked."""
    return () if self.how in (UNCHANGED, NOISE) else tuple(self.how.split(","))

  @property
  def attack(self) -> rp.RPFGSMConfig:
    """What its networks are attacked with, and what bounds its noise."""
    return recipes.attack_of(self.at)


def settings_of(config: SurrogatesConfig) -> list[Setting]:
  """Returns the photos themselves, then noise of every size and every set at every strength."""
  found, sizes = [Setting(how=UNCHANGED)], set()
  for text in config.at:
    attack = recipes.attack_of(text)
    size = attack.epsilon, attack.masking is None
    if size not in sizes:
      found.append(Setting(how=NOISE, at=text))
    sizes.add(size)
    found += [Setting(how=each, at=text) for each in config.surrogates]
  return list({setting.name: setting for setting in found}.values())


def load_judge(name: str) -> rp.Classifier:
  """Returns a network by name or folder, or of `FILE.py:NAME` what its `classifier(NAME)` gives."""
  file, _, inner = name.rpartition(":")
  if not file.endswith(".py"):
    return rp.load_classifier(name)
  if not pathlib.Path(file).is_file():
    raise FileNotFoundError(f"--judge must name a file that is there, got {file}.")
  spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.classifier(inner)


def run(config: SurrogatesConfig, *, cache: CompileCache, say: Say) -> None:
  """Appends the rows that are not there yet."""
  judges = load_judges(config)
  chosen = choose_photos(config, judges)
  found = open_rows(EXPERIMENT, config, list(judges), say)
  say(f"{len(chosen)} photos of {config.data}; {cache.describe()}")
  labels = labels_of(chosen, judges)

  def measure(original: np.ndarray, changed: np.ndarray, photo: photos.StudyPhoto) -> rows.Row:
    shown = {condition: conditioned(changed, condition) for condition in CONDITIONS}
    return looks(original, changed) | {"ranks": ranks(shown, labels[photo.name], judges)}

  append_missing(config, chosen, found, measure)


Measure = Callable[[np.ndarray, np.ndarray, photos.StudyPhoto], rows.Row]
"""What a row says of an original and of what a setting made of it."""


def append_missing(
  config: SurrogatesConfig,
  chosen: Sequence[photos.StudyPhoto],
  found: Journal,
  measure: Measure,
) -> None:
  """Appends a row of each setting and photo that is not there yet."""
  missing = [
    (setting, [photo for photo in chosen if not found.has(setting.name, photo.name)])
    for setting in settings_of(config)
  ]
  with tqdm(total=sum(len(some) for _, some in missing), unit="photo", disable=None) as bar:
    for setting, some in missing:
      if not some:
        continue
      bar.set_description(setting.name)
      change = changer(setting, config.seed)
      for photo in some:
        original, started = data.read_image(config.data / photo.name), time.perf_counter()
        changed = change(original, photo)
        row = {"kind": "photo", "setting": setting.name, "photo": photo.name}
        row["seconds"] = round(time.perf_counter() - started, 3)
        found.append([row | measure(original, changed, photo)])
        bar.update()


def load_judges(config: SurrogatesConfig) -> dict[str, rp.Classifier]:
  """Returns the judges by the names that rows have."""
  judges = {name.rpartition(":")[2]: load_judge(name) for name in config.judges}
  if not judges:
    raise ValueError("--judge must name at least one network that is not attacked, got none.")
  return judges


def choose_photos(
  config: SurrogatesConfig, judges: Mapping[str, rp.Classifier]
) -> list[photos.StudyPhoto]:
  """Returns the photos that are judged, labeled as the first judge's classes."""
  source = photos.open_source(config.data, list(judges.values()))
  return half_of(source.photos, config.half)[: config.limit]


def labels_of(
  chosen: Sequence[photos.StudyPhoto], judges: Mapping[str, rp.Classifier]
) -> dict[str, dict[str, int]]:
  """Returns photo -> judge -> its class; refuses a judge that has no class for a photo's scene."""
  names = next(iter(judges.values())).class_names
  places = dict(zip(judges, photos.classes_by_name(names, list(judges.values())), strict=True))
  for judge, own in places.items():
    lacking = sorted({names[photo.label] for photo in chosen if own[photo.label] < 0})
    if lacking:
      raise ValueError(f"{judge} must have a class for every scene of the photos, lacks {lacking}.")
  return {
    photo.name: {judge: int(own[photo.label]) for judge, own in places.items()} for photo in chosen
  }


def half_of(
  some: Sequence[photos.StudyPhoto], half: int | None, option: str = "--data"
) -> list[photos.StudyPhoto]:
  """Returns every second labeled photo of each class: of half 1 the first one, of 2 the second."""
  seen: collections.Counter[int] = collections.Counter()
  kept = []
  for photo in some:
    if photo.label >= 0 and (half is None or seen[photo.label] % 2 == half - 1):
      kept.append(photo)
    seen[photo.label] += 1
  if not kept:
    raise ValueError(
      f"{option} must hold folders named as the judges' classes, found no such photo."
    )
  return kept


def open_rows(
  experiment: str, config: SurrogatesConfig, judges: list[str], say: Say, **further: object
) -> Journal:
  """Returns the rows of the results folder, which must be of the same photos and settings."""
  result_folder.check_apart(config.out, config.data, "--out and --data")
  header = {
    "kind": "run",
    "experiment": experiment,
    "command": config.command,
    "data": str(config.data),
    "half": config.half,
    "seed": config.seed,
    "judges": judges,
    **further,
    "versions": runtime.versions(),
  }
  return open_journal(config.out, header, config.seed, config, say)


def changer(setting: Setting, seed: int) -> Callable[[np.ndarray, photos.StudyPhoto], np.ndarray]:
  """Returns what a setting makes of a photo's pixels."""
  if setting.how == UNCHANGED:
    return lambda pixels, photo: pixels
  if setting.how == NOISE:
    return lambda pixels, photo: _noise(pixels, photo.image_id, setting.attack, seed)
  whole = [rp.load_classifier(name) for name in setting.attacked]
  networks = recipes.networks_of(setting.at, whole)
  judges = [] if networks == whole else whole  # of embedders alone: somebody could judge

  @functools.cache
  def protector_of(scene: str | None) -> PhotoProtector:
    config = PhotoConfig(attack=setting.attack, scene=scene)
    return PhotoProtector(networks, config, held_out=judges, seed=seed)

  def change(pixels: np.ndarray, photo: photos.StudyPhoto) -> np.ndarray:
    protector = protector_of(recipes.scene_of(setting.at, photo))
    return protector.attack(Photo(pixels=pixels), photo.image_id)

  return change


def _noise(pixels: np.ndarray, number: int, attack: rp.RPFGSMConfig, seed: int) -> np.ndarray:
  """Returns a photo whose every value is as far up or down as the attack may move it."""
  epsilon = attack.epsilon
  if attack.masking is not None:
    everywhere = np.full(1, epsilon, np.float32)
    epsilon = np.asarray(pixel_limits(attack.masking, pixels[None], everywhere))[0]
  return lineup.sign_noise(pixels[None], [number], seed, epsilon)[0]


def looks(original: np.ndarray, changed: np.ndarray) -> rows.Row:
  """Returns what a changed photo has in common with the original: PSNR in dB, and SSIM."""
  same = np.array_equal(original, changed)  # whose PSNR is infinite
  return {
    "psnr": None if same else float(quality.psnr(changed, original)),
    "ssim": float(quality.ssim(changed, original)),
    "scielab": round(float(quality.scielab(changed, original)), 4),
  }


def ranks(
  shown: Mapping[str, np.ndarray], labels: Mapping[str, int], judges: Mapping[str, rp.Classifier]
) -> rows.Row:
  """Returns judge -> condition -> how many classes stand before the true one."""
  found = {}
  for name, judge in judges.items():
    images = np.stack([data.preprocess(each, judge.image_size) for each in shown.values()])
    logits = np.asarray(_logits(judge, images.astype(np.float32)))
    before = np.sum(logits >= logits[:, labels[name], None], axis=1) - 1
    found[name] = {each: int(rank) for each, rank in zip(shown, before, strict=True)}
  return found


@jax.jit
def _logits(classifier: rp.Classifier, images: jax.Array) -> jax.Array:
  return classifier(images)


def show(folder: pathlib.Path) -> None:
  """Writes surrogates.md and surrogates.csv from the rows of a folder."""
  header, by_setting = read_settings(folder)
  tables = [make_table(header, by_setting)]
  head = f"# Other surrogates\n\n`{header['command']}`\n\n"
  atomic.write_text(folder / "surrogates.md", head + markdown(tables))
  atomic.write_text(folder / "surrogates.csv", csv_text(tables))


def read_settings(folder: pathlib.Path) -> tuple[rows.Row, dict[str, list[rows.Row]]]:
  """Returns the first row of a folder, and the rows of photos by setting."""
  header, found = rows.read_run(rows.find_rows(folder))
  by_setting: dict[str, list[rows.Row]] = collections.defaultdict(list)
  for row in found:
    if row["kind"] == "photo":
      by_setting[row["setting"]].append(row)
  return header, by_setting


def make_table(header: rows.Row, by_setting: dict[str, list[rows.Row]]) -> Table:
  """Returns how often each judge still recognizes the true scene, a line a setting."""
  columns = ["attacked", "photos", "PSNR, dB", "SSIM"]
  colors = all("scielab" in row for some in by_setting.values() for row in some)
  if colors:  # rows of before do not have it
    columns.append("S-CIELAB")
  asked = [(judge, condition) for judge in header["judges"] for condition in CONDITIONS]
  for judge, condition in asked:
    where = "" if condition == AS_WRITTEN else f", {condition}"
    columns += [f"{judge}{where}", f"top {TOP}"]
  lines = []
  for setting, some in by_setting.items():
    psnr = [row["psnr"] for row in some if row["psnr"] is not None]
    line = [setting, Cell(str(len(some)), len(some))]
    line.append(number_cell(float(np.mean(psnr)) if psnr else None, 1))
    line.append(number_cell(float(np.mean([row["ssim"] for row in some])), 3))
    if colors:
      line.append(number_cell(float(np.mean([row["scielab"] for row in some])), 2))
    for judge, condition in asked:
      line += recognized(some, judge, condition)
    lines.append(line)
  note = (
    "How often judges, which no attack saw, still name the true scene first, or among five, in %; "
    "lower is better. In brackets: 95 % Wilson interval."
  )
  return Table("The same attack, other surrogates", columns, lines, note=note)


def recognized(some: Sequence[rows.Row], judge: str, condition: str) -> list[Cell]:
  """Returns how often a judge names the true scene first, and among five, under a condition."""
  before = np.array([row["ranks"][judge][condition] for row in some])
  return [rate_cell(misleading_rate(before < top)) for top in (1, TOP)]
