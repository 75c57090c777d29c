"""Six small photos, and files that are no good ones, from scikit-image's data by fixed code."""

import pathlib

import numpy as np
import skimage.data
from PIL import Image

_ORIENTATION = 0x0112  # EXIF


def make_photos(folder: pathlib.Path) -> None:
  """Writes six photos of three sizes: gray, transparent, turned by EXIF, one in a sub-folder."""
  (folder / "sub").mkdir(parents=True)
  coffee, chelsea, rocket, astronaut = (
    Image.fromarray(getattr(skimage.data, name)())
    for name in ("coffee", "chelsea", "rocket", "astronaut")
  )
  coffee.resize((160, 120)).save(folder / "coffee.jpg", quality=95)
  coffee.crop((100, 0, 500, 400)).resize((128, 128)).convert("L").save(folder / "gray.jpg")
  rocket.resize((160, 120)).save(folder / "sub" / "rocket.jpg", quality=95)
  astronaut.resize((120, 160)).save(folder / "astronaut.png")
  exif = Image.Exif()
  exif[_ORIENTATION], exif[0x010F] = 6, "a camera"
  chelsea.resize((160, 120)).save(folder / "turned.jpg", quality=95, exif=exif)
  clear = chelsea.crop((0, 0, 300, 300)).resize((128, 128)).convert("RGBA")
  clear.putalpha(Image.fromarray(np.tile(np.arange(128, 256, dtype=np.uint8), (128, 1))))
  clear.save(folder / "clear.png")


def make_bad(folder: pathlib.Path) -> None:
  """Writes files that cannot be protected, each for its own reason."""
  folder.mkdir()
  coffee = Image.fromarray(skimage.data.coffee()).resize((160, 120))
  coffee.resize((16, 12)).save(folder / "tiny.png")
  other = coffee.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  coffee.save(folder / "animated.gif", save_all=True, append_images=[other])
  coffee.save(folder / "truncated.jpg")
  content = (folder / "truncated.jpg").read_bytes()
  (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
  (folder / "nonsense.jpg").write_bytes(b"this is no picture")
  (folder / "empty.jpg").touch()
  (folder / "raw.dng").write_bytes(content)
  (folder / "raw.cr2").write_bytes(b"II*\0" + bytes(60))
  Image.new("RGB", (16400, 32), (90, 120, 150)).save(folder / "long.png")
  coffee.resize((400, 300)).save(folder / "large.jpg")
  (folder / "line\nbreak <b>.jpg").write_bytes(b"nothing")
  (folder / "dangling.jpg").symlink_to("nowhere.jpg")


def make_changed(original: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes a noisy PNG of each photo: one smaller, one missing, one that has no original."""
  generator = np.random.default_rng(0)
  for path in sorted(original.rglob("*.*")):
    with Image.open(path) as opened:
      pixels = np.asarray(opened.convert("RGB"), np.int16)
    noisy = np.clip(pixels + generator.choice((-12, 12), pixels.shape), 0, 255).astype(np.uint8)
    target = (folder / path.relative_to(original)).with_suffix(".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy).save(target)
  small = Image.open(folder / "coffee.png").resize((80, 60))
  small.save(folder / "coffee.png")
  small.save(folder / "alone.png")
  (folder / "gray.png").unlink()


def make_classes(folder: pathlib.Path) -> None:
  """Writes four photos in two folders that are named like the networks' classes."""
  for name, scene, box in (
    ("coffee", "kitchen", (0, 0, 400, 400)),
    ("coffee", "kitchen", (200, 0, 600, 400)),
    ("rocket", "sky", (0, 0, 427, 427)),
    ("rocket", "sky", (213, 0, 640, 427)),
  ):
    path = folder / scene / f"{name}-{box[0]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(getattr(skimage.data, name)()).crop(box).resize((128, 128)).save(path)
