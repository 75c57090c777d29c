"""The same attack, other surrogates: what networks that nobody attacked make of the photos.

Photos with known scenes are protected at their own size as `rpfgsm protect` does it, by attacking
each given set of networks with the same strength and number of gradient passes. Judges, which no
attack saw, say how often they still recognize the true scene, as the photo was written and behind
JPEG 50. Beside them the photo itself and random noise. Sets are chosen on one half of the photos
(`--half 1`) and reported on the other.
"""

import collections
import dataclasses
import importlib.util
import pathlib
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import lineup, photos, rows, runtime
from experiments.journal import Journal, Say, open_journal
from experiments.options import SurrogatesConfig
from experiments.tables import csv_text
from rpfgsm_jax import atomic, data, quality, result_folder
from rpfgsm_jax.data.photo_files import Photo
from rpfgsm_jax.evaluation import misleading_rate
from rpfgsm_jax.photos import PhotoConfig, PhotoProtector, photo_attack
from rpfgsm_jax.photos.judging import conditioned
from rpfgsm_jax.photos.verdict import AS_WRITTEN
from rpfgsm_jax.process import CompileCache
from rpfgsm_jax.report import Cell, Table, markdown
from rpfgsm_jax.report.cells import number_cell, rate_cell

EXPERIMENT = "surrogates"
CONDITIONS = (AS_WRITTEN, "JPEG 50")
_TOP = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """One way to change the photos."""

  how: str  # "photo itself", "random noise", or networks with commas between
  epsilon: float = 0.0  # largest change, gray levels
  passes: int = 0  # gradients a photo

  @property
  def name(self) -> str:
    """How rows call it."""
    return ", ".join(
      [
        self.how,
        *([f"eps {self.epsilon:g}"] if self.epsilon else []),
        *([f"{self.passes} passes"] if self.passes else []),
      ]
    )


def settings_of(config: SurrogatesConfig) -> list[Setting]:
  """Returns the photos themselves, then noise and every set of networks at every strength."""
  found = [Setting(how="photo itself")]
  for text in config.at:
    epsilon, passes = _strength(text)
    found.append(Setting(how="random noise", epsilon=epsilon))
    found += [Setting(how=each, epsilon=epsilon, passes=passes) for each in config.surrogates]
  return list(dict.fromkeys(found))


def _strength(text: str) -> tuple[float, int]:
  epsilon, _, passes = text.partition("/")
  try:
    strength = float(epsilon), int(passes)
  except ValueError:
    strength = 0.0, 0
  if not (1.0 <= strength[0] <= 255.0 and strength[1] >= 1):
    raise ValueError(f"--at must be EPS/PASSES with EPS in 1..255, as in 8/30, got {text!r}.")
  return strength


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
  settings = settings_of(config)
  judges = {name.rpartition(":")[2]: load_judge(name) for name in config.judges}
  if not judges:
    raise ValueError("--judge must name at least one network that is not attacked, got none.")
  source = photos.open_source(config.data, list(judges.values()))
  chosen = half_of(source.photos, config.half)[: config.limit]
  found = _open(config, list(judges), say)
  missing = [
    (setting, [photo for photo in chosen if not found.has(setting.name, photo.name)])
    for setting in settings
  ]
  say(f"{len(chosen)} of {source.description}; {cache.describe()}")
  with tqdm(total=sum(len(some) for _, some in missing), unit="photo", disable=None) as bar:
    for setting, some in missing:
      if not some:
        continue
      bar.set_description(setting.name)
      change = _changer(setting, config.seed)
      for photo in some:
        original, started = data.read_image(config.data / photo.name), time.perf_counter()
        changed = change(original, photo.image_id)
        row = {"kind": "photo", "setting": setting.name, "photo": photo.name}
        row["seconds"] = round(time.perf_counter() - started, 3)
        row |= _looks(original, changed) | {"ranks": _ranks(changed, photo.label, judges)}
        found.append([row])
        bar.update()


def half_of(some: Sequence[photos.StudyPhoto], half: int | None) -> list[photos.StudyPhoto]:
  """Returns every second labeled photo of each class: of half 1 the first one, of 2 the second."""
  seen: collections.Counter[int] = collections.Counter()
  kept = []
  for photo in some:
    if photo.label >= 0 and (half is None or seen[photo.label] % 2 == half - 1):
      kept.append(photo)
    seen[photo.label] += 1
  if not kept:
    raise ValueError("--data must hold folders named as the judges' classes, found no such photo.")
  return kept


def _open(config: SurrogatesConfig, judges: list[str], say: Say) -> Journal:
  result_folder.check_apart(config.out, config.data, "--out and --data")
  header = {
    "kind": "run",
    "experiment": EXPERIMENT,
    "command": config.command,
    "data": str(config.data),
    "half": config.half,
    "seed": config.seed,
    "judges": judges,
    "versions": runtime.versions(),
  }
  return open_journal(config.out, header, config.seed, config, say)


def _changer(setting: Setting, seed: int) -> Callable[[np.ndarray, int], np.ndarray]:
  """Returns what a setting makes of a photo with its id."""
  if setting.how == "photo itself":
    return lambda pixels, number: pixels
  if setting.how == "random noise":
    epsilon = setting.epsilon
    return lambda pixels, number: lineup.sign_noise(pixels[None], [number], seed, epsilon)[0]
  attack = dataclasses.replace(photo_attack(), epsilon=setting.epsilon, num_steps=setting.passes)
  networks = [rp.load_classifier(name) for name in setting.how.split(",")]
  protector = PhotoProtector(networks, PhotoConfig(attack=attack), seed=seed)
  return lambda pixels, number: protector.attack(Photo(pixels=pixels), number)


def _looks(original: np.ndarray, changed: np.ndarray) -> rows.Row:
  same = np.array_equal(original, changed)  # whose PSNR is infinite
  return {
    "psnr": None if same else float(quality.psnr(changed, original)),
    "ssim": float(quality.ssim(changed, original)),
    "scielab": round(float(quality.scielab(changed, original)), 4),
  }


def _ranks(changed: np.ndarray, label: int, judges: dict[str, rp.Classifier]) -> rows.Row:
  """Returns judge -> condition -> how many classes stand before the true one."""
  shown = [conditioned(changed, each) for each in CONDITIONS]
  found = {}
  for name, judge in judges.items():
    images = np.stack([data.preprocess(each, judge.image_size) for each in shown])
    logits = np.asarray(_logits(judge, images.astype(np.float32)))
    before = np.sum(logits >= logits[:, label, None], axis=1) - 1
    found[name] = {each: int(rank) for each, rank in zip(CONDITIONS, before, strict=True)}
  return found


@jax.jit
def _logits(classifier: rp.Classifier, images: jax.Array) -> jax.Array:
  return classifier(images)


def show(folder: pathlib.Path) -> None:
  """Writes surrogates.md and surrogates.csv from the rows of a folder."""
  header, found = rows.read_run(rows.find_rows(folder))
  by_setting: dict[str, list[rows.Row]] = collections.defaultdict(list)
  for row in found:
    if row["kind"] == "photo":
      by_setting[row["setting"]].append(row)
  tables = [make_table(header, by_setting)]
  head = f"# Other surrogates\n\n`{header['command']}`\n\n"
  atomic.write_text(folder / "surrogates.md", head + markdown(tables))
  atomic.write_text(folder / "surrogates.csv", csv_text(tables))


def make_table(header: rows.Row, by_setting: dict[str, list[rows.Row]]) -> Table:
  """Returns how often each judge still recognizes the true scene, a line a setting."""
  columns = ["attacked", "photos", "PSNR, dB", "SSIM"]
  colors = all("scielab" in row for some in by_setting.values() for row in some)
  if colors:  # rows of before do not have it
    columns.append("S-CIELAB")
  asked = [(judge, condition) for judge in header["judges"] for condition in CONDITIONS]
  for judge, condition in asked:
    where = "" if condition == AS_WRITTEN else f", {condition}"
    columns += [f"{judge}{where}", f"top {_TOP}"]
  lines = []
  for setting, some in by_setting.items():
    psnr = [row["psnr"] for row in some if row["psnr"] is not None]
    line = [setting, Cell(str(len(some)), len(some))]
    line.append(number_cell(float(np.mean(psnr)) if psnr else None, 1))
    line.append(number_cell(float(np.mean([row["ssim"] for row in some])), 3))
    if colors:
      line.append(number_cell(float(np.mean([row["scielab"] for row in some])), 2))
    for judge, condition in asked:
      ranks = np.array([row["ranks"][judge][condition] for row in some])
      line += [rate_cell(misleading_rate(ranks < top)) for top in (1, _TOP)]
    lines.append(line)
  note = (
    "How often judges, which no attack saw, still name the true scene first, or among five, in %; "
    "lower is better. In brackets: 95 % Wilson interval."
  )
  return Table("The same attack, other surrogates", columns, lines, note=note)
