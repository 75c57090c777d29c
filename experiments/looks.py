"""Photos at every strength side by side: what protection looks like, to eyes and by measures."""

import functools
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import photos, rows, runtime, surrogates
from experiments.journal import Say, open_journal
from experiments.options import LooksConfig
from rpfgsm_jax import atomic, data, result_folder
from rpfgsm_jax.process import CompileCache

EXPERIMENT = "looks"
_SIDE = 256  # of scikit-image's pictures, pixels
_GAP, _LINE, _LETTERS = 8, 20, 13  # of the picture, pixels
_QUALITY = 90  # as JPEG: a PNG of changed pixels is five times as large


def run(config: LooksConfig, *, cache: CompileCache, say: Say) -> None:
  """Protects the photos and measures the changes, where that is not done yet."""
  if config.data is not None:
    result_folder.check_apart(config.out, config.data, "--out and --data")
  source = _open(config)
  header = {
    "kind": "run",
    "experiment": EXPERIMENT,
    "command": config.command,
    "data": None if config.data is None else str(config.data),
    "photos": source.description,
    "seed": config.seed,
    "versions": runtime.versions(),
  }
  found = open_journal(config.out, header, config.seed, config, say)
  say(f"{source.description}; {cache.describe()}")
  wanted = [surrogates.Setting(how=surrogates.UNCHANGED)]
  wanted += [surrogates.Setting(how=config.attacked, at=at) for at in config.at]
  with tqdm(total=len(wanted) * len(source.photos), unit="photo", disable=None) as bar:
    for setting in wanted:
      files = {photo: _file(config.out, setting.name, photo.png) for photo in source.photos}
      known = {photo for photo in files if found.has(setting.name, photo.name)}
      missing = [photo for photo, file in files.items() if not (photo in known and file.is_file())]
      bar.update(len(files) - len(missing))
      if not missing:
        continue
      change = surrogates.changer(setting, config.seed)
      for photo in missing:
        original = _read(config, source, photo)
        changed = change(original, photo)
        data.write_png(files[photo], changed)
        if photo not in known:
          row = {"kind": "photo", "setting": setting.name, "at": setting.at, "photo": photo.name}
          found.append([row | {"png": photo.png} | surrogates.looks(original, changed)])
        bar.update()


def _open(config: LooksConfig) -> photos.Source:
  if config.data is None:
    return photos.open_samples((_SIDE, _SIDE), config.limit)
  network = rp.load_classifier(config.attacked.split(",")[0])
  return photos.open_source(config.data, [network], limit=config.limit)


def _read(config: LooksConfig, source: photos.Source, photo: photos.StudyPhoto) -> np.ndarray:
  if source.loaded is not None:
    return source.loaded[source.photos.index(photo)]
  return data.read_image(config.data / photo.name)


def _file(folder: pathlib.Path, setting: str, png: str) -> pathlib.Path:
  return folder / "images" / setting.replace("/", "-").replace(",", "") / png


def show(folder: pathlib.Path) -> None:
  """Writes looks.jpg from the rows and images of a folder: a line a photo, a column a strength."""
  _, by_setting = surrogates.read_settings(folder)
  columns = [{row["photo"]: row for row in some} for some in by_setting.values()]
  lines = [
    [_titled(folder, column[name]) for column in columns if name in column] for name in columns[0]
  ]
  width = max(sum(card.width for card in line) for line in lines)
  page = Image.new("RGB", (width, sum(line[0].height for line in lines)), "white")
  top = 0
  for line in lines:
    left = 0
    for card in line:
      page.paste(card, (left, top))
      left += card.width
    top += line[0].height
  with atomic.replacing(folder / "looks.jpg") as temporary:
    page.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)


def _titled(folder: pathlib.Path, row: rows.Row) -> Image.Image:
  """Returns a photo at its own size under a line that says what was done and measured."""
  photo = data.read_image(_file(folder, row["setting"], row["png"]))
  height, width = photo.shape[:2]
  card = Image.new("RGB", (width + _GAP, height + _LINE + _GAP), "white")
  text = row["photo"]
  if row["at"]:
    text = f"{row['at']}: SSIM {row['ssim']:.2f}, S-CIELAB {row['scielab']:.1f}"
  ImageDraw.Draw(card).text((2, 2), text, fill="black", font=_font())
  card.paste(Image.fromarray(photo), (0, _LINE))
  return card


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
  return ImageFont.load_default(_LETTERS)
