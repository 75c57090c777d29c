"""Adversaries who know: what is left of the protection where somebody works against it.

Photos are protected as in `surrogates.py`, and judged behind everything that may take the change
out again: `purifiers.py`, and a denoiser that was trained on pairs of protected and original
photos. Beside the judges stand classifiers that were trained further on protected photos. Who
learns does so from photos of `--train`, which are not judged, protected in the same settings with
another seed, and from the same photos unchanged. 300 photos to learn from, a hundred to judge and
two judges take one to two hours on two cores.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import photos, rows, surrogates
from experiments.journal import Say
from experiments.options import AdaptiveConfig
from experiments.purifiers import PURIFIERS, Purifier, needs_wavelets
from experiments.tables import csv_text
from experiments.training import denoiser, fine_tune
from experiments.training.loop import Split
from rpfgsm_jax import atomic, data, result_folder
from rpfgsm_jax.process import CompileCache
from rpfgsm_jax.report import Cell, Table, markdown
from rpfgsm_jax.report.cells import number_cell

EXPERIMENT = "adaptive"
TRAINED = "trained denoiser"
AFTER = ", trained on protected photos"
_LEARNING = "learning"  # folder of what is learned from, and of checkpoints


def run(config: AdaptiveConfig, *, cache: CompileCache, say: Say) -> None:
  """Appends the rows that are not there yet; trains first what is not trained yet."""
  needs_wavelets()
  judges = surrogates.load_judges(config)
  for name in config.tuned:
    fine_tune.open_network(name)  # what cannot be trained is refused before anything is computed
    judges[name] = rp.load_classifier(name)
  result_folder.check_apart(config.train, config.data, "--train and --data")
  result_folder.check_apart(config.out, config.train, "--out and --train")
  chosen = surrogates.choose_photos(config, judges)
  labels = surrogates.labels_of(chosen, judges)
  learned_from = _learned_from(config, judges)
  learned_labels = surrogates.labels_of(learned_from, judges)
  names = [each for name in judges for each in (name, *([name + AFTER] * (name in config.tuned)))]
  further = {
    **{name: getattr(config, name) for name in ("train_limit", "steps", "epochs")},
    **{name: list(getattr(config, name)) for name in ("surrogates", "at", "tuned")},
    "train": str(config.train),
  }
  found = surrogates.open_rows(EXPERIMENT, config, names, say, **further)
  say(
    f"{len(chosen)} photos of {config.data}, {len(learned_from)} of {config.train} to learn from; "
    f"{cache.describe()}"
  )
  protected = [_protect(config, place, learned_from) for place in range(len(_attacks(config)))]
  originals = [config.train / photo.name for photo in learned_from]
  files = list(zip(originals, *protected, strict=True))
  purifiers = PURIFIERS | {TRAINED: _train_denoiser(config, files)}
  for name in config.tuned:
    own = [learned_labels[photo.name][name] for photo in learned_from]
    judges[name + AFTER] = _train_further(config, name, own, files)
    for each in labels.values():
      each[name + AFTER] = each[name]

  def measure(original: np.ndarray, changed: np.ndarray, photo: photos.StudyPhoto) -> rows.Row:
    shown = {name: purify(changed) for name, purify in purifiers.items()}
    looks = {name: surrogates.looks(original, each) for name, each in shown.items()}
    return {"looks": looks, "ranks": surrogates.ranks(shown, labels[photo.name], judges)}

  surrogates.append_missing(config, chosen, found, measure)


def _attacks(config: AdaptiveConfig) -> list[surrogates.Setting]:
  return [setting for setting in surrogates.settings_of(config) if setting.attacked]


def _learned_from(
  config: AdaptiveConfig, judges: Mapping[str, rp.Classifier]
) -> list[photos.StudyPhoto]:
  """Returns the photos that are learned from, of all classes alike."""
  source = photos.open_source(config.train, list(judges.values()))
  return surrogates.half_of(source.photos, None, "--train")[: config.train_limit]


Files = Sequence[tuple[pathlib.Path, ...]]
"""Of each photo that is learned from the original, then the protected ones, a setting each."""


def _protect(
  config: AdaptiveConfig, place: int, some: Sequence[photos.StudyPhoto]
) -> list[pathlib.Path]:
  """Returns the files of photos protected with another seed, made where they are not there yet."""
  setting = _attacks(config)[place]
  files = [config.out / _LEARNING / str(place) / photo.png for photo in some]
  missing = [pair for pair in zip(some, files, strict=True) if not pair[1].is_file()]
  if missing:
    change = surrogates.changer(setting, config.seed + 1)
    for photo, file in tqdm(missing, desc=setting.name, unit="photo", disable=None):
      pixels = change(data.read_image(config.train / photo.name), photo)
      data.write_png(file, pixels)
  return files


def _train_denoiser(config: AdaptiveConfig, files: Files) -> Purifier:
  """Returns what takes changes out, trained on every photo in every setting and unchanged."""
  pairs = []
  for some in files:
    original, *changed = (data.read_image(file) for file in some)
    pairs += [(each, original) for each in (original, *changed)]
  file = config.out / _LEARNING / "denoiser.npz"
  params = denoiser.train(pairs, file, seed=config.seed, steps=config.steps)
  return lambda photo: denoiser.clean(params, photo)


def _train_further(
  config: AdaptiveConfig, name: str, labels: Sequence[int], files: Files
) -> rp.Classifier:
  """Returns a network trained further on every photo in every setting and unchanged."""
  side = fine_tune.open_network(name)[1].stored_size
  images = [data.read_image(file, (side, side)) for some in files for file in some]
  labels = np.repeat(labels, len(files[0])).astype(np.int32)
  split = Split(images=np.stack(images), labels=labels)
  file = config.out / _LEARNING / f"{config.tuned.index(name)}.npz"
  return fine_tune.fine_tune(
    name, name + AFTER, split, file, seed=config.seed, epochs=config.epochs
  )


def show(folder: pathlib.Path) -> None:
  """Writes adaptive.md and adaptive.csv from the rows of a folder."""
  header, by_setting = surrogates.read_settings(folder)
  tables = list(make_tables(header, by_setting))
  head = f"# Adversaries who know\n\n`{header['command']}`\n\n"
  atomic.write_text(folder / "adaptive.md", head + markdown(tables))
  atomic.write_text(folder / "adaptive.csv", csv_text(tables))


def make_tables(header: rows.Row, by_setting: Mapping[str, list[rows.Row]]) -> Iterator[Table]:
  """Yields what purifiers do to the looks, and how often each judge names the true scene."""
  purifiers = list(next(iter(by_setting.values()))[0]["looks"])
  titles = [_title(setting, header["surrogates"]) for setting in by_setting]
  counts = "; ".join(
    f"{title}: {len(some)}" for title, some in zip(titles, by_setting.values(), strict=True)
  )
  attacked = " and ".join(header["surrogates"])
  lines = [
    [purifier, *(cell for some in by_setting.values() for cell in _looks(some, purifier))]
    for purifier in purifiers
  ]
  yield Table(
    "What purifiers do to the looks",
    ["behind", *(f"{title}{what}" for title in titles for what in (": PSNR, dB", ": SSIM"))],
    lines,
    note=f"Against the original. Attacked: {attacked}. Photos: {counts}.",
  )
  note = (
    "How often it still names the true scene first, or among five, in %; lower is better for who "
    "protects. In brackets: 95 % Wilson interval."
  )
  for judge in header["judges"]:
    lines = []
    for purifier in purifiers:
      cells = [surrogates.recognized(some, judge, purifier) for some in by_setting.values()]
      lines.append([purifier, *(cell for pair in cells for cell in pair)])
    columns = [each for title in titles for each in (title, f"top {surrogates.TOP}")]
    yield Table(f"Behind purifiers: {judge}", ["behind", *columns], lines, note=note)


def _title(setting: str, attacked: Sequence[str]) -> str:
  """A setting's name; where one set of networks was attacked "protected" stands for it."""
  return setting.replace(attacked[0], "protected") if len(attacked) == 1 else setting


def _looks(some: Sequence[rows.Row], purifier: str) -> list[Cell]:
  psnr, ssim = ([row["looks"][purifier][name] for row in some] for name in ("psnr", "ssim"))
  known = [each for each in psnr if each is not None]  # of an unchanged photo it is infinite
  return [
    number_cell(float(np.mean(known)) if known else None, 1),
    number_cell(float(np.mean(ssim)), 3),
  ]
