"""`rpfgsm protect` on a folder of everything that goes wrong with people's photos.

Every good photo is done, every bad one is named with its reason, nothing is half written, the
originals stay as they are, and the exit code says so. The attack is a stand-in; files, decoding,
writing and records are real.
"""

import errno
import hashlib
import io
import os
import pathlib
import resource
import struct
import zlib

import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from jobs.fake_protector import FakePhotoProtector
from PIL import Image

from rpfgsm_jax import cli, process
from rpfgsm_jax.data import images
from rpfgsm_jax.jobs import engines, photo_records

SIZE = (40, 50)  # (height, width) of the good photos
NEWLINE, EMOJI = "two\nlines.jpg", "🏖️ 海.jpg"


def pixels(seed: int) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def picture(seed: int) -> Image.Image:
  return Image.fromarray(pixels(seed))


def bomb() -> bytes:
  """A PNG of a hundred bytes that says it has 3.6 gigapixels."""

  def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

  header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def write_good(folder: pathlib.Path) -> dict[str, str]:
  """Writes what can be protected; returns which file becomes which."""
  (folder / "sub").mkdir(parents=True)
  picture(0).save(folder / "plain.jpg")
  picture(1).save(folder / "sub" / "plain.png")
  picture(2).save(folder / "a png.jpg", format="PNG")
  picture(3).convert("CMYK").save(folder / "cmyk.jpg")
  deep = np.random.default_rng(4).integers(0, 2**16, SIZE, np.uint16)
  Image.fromarray(deep).save(folder / "16 bit.png")
  palette = picture(5).quantize(200)
  palette.save(folder / "palette.png", transparency=7)
  picture(6).save(folder / "Same.jpg")
  picture(7).save(folder / "same.jpg")
  picture(8).save(folder / NEWLINE)
  picture(9).save(folder / EMOJI)
  Image.new("RGB", SIZE[::-1], (90, 120, 30)).save(folder / "sub" / ("n" * 200 + ".jpg"))
  names = ["plain.jpg", "sub/plain.png", "a png.jpg", "cmyk.jpg", "16 bit.png", "palette.png"]
  names += [NEWLINE, EMOJI, "sub/" + "n" * 200 + ".jpg"]
  becomes = {name: f"{name.rpartition('.')[0]}.png" for name in names}
  return becomes | {"Same.jpg": "Same.jpg.png", "same.jpg": "same.jpg.png"}


def write_bad(folder: pathlib.Path) -> dict[str, str]:
  """Writes what cannot; returns what the reason must contain."""
  (folder / "empty.jpg").touch()
  picture(20).save(folder / "cut.jpg")
  content = (folder / "cut.jpg").read_bytes()
  (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
  (folder / "text.png").write_text("not a picture at all")
  picture(21).save(folder / "moving.gif", save_all=True, append_images=[picture(22)])
  Image.new("RGB", (1, 1)).save(folder / "1x1.png")
  Image.new("RGB", (5000, 1)).save(folder / "1x5000.png")
  Image.new("1", (8000, 6250)).save(folder / "50 megapixels.png")
  (folder / "bomb.png").write_bytes(bomb())
  picture(23).save(folder / "forbidden.jpg")
  picture(24).save(folder / "growing.jpg")
  (folder / "camera.NEF").write_bytes(b"II*\0 raw")
  os.mkfifo(folder / "pipe.jpg")
  (folder / "loop.jpg").symlink_to("loop.jpg")
  (folder / "gone.jpg").symlink_to("nowhere.jpg")
  # No photos: they fail nothing.
  (folder / "folder.jpg").mkdir()
  (folder / "round").symlink_to(folder)
  (folder / "film.mov").touch()
  return {
    "empty.jpg": "got 0 bytes",
    "cut.jpg": "truncated or damaged",
    "text.png": "20 bytes of something else",
    "moving.gif": "several frames",
    "1x1.png": "got 1x1",
    "1x5000.png": "got 5000x1",
    "50 megapixels.png": "at most 20000000 pixels",
    "bomb.png": "at most 20000000 pixels",
    "forbidden.jpg": "Permission denied",
    "growing.jpg": "changed",
    "camera.NEF": "raw file",
    "pipe.jpg": "special file",
    "loop.jpg": "symbolic links",
    "gone.jpg": "there is none",
  }


class Growing(io.FileIO):
  """A file that somebody else adds to whenever it is read."""

  def read(self, size=-1):
    found = super().read(size)
    with open(self.name, "ab") as file:
      file.write(b"more")
    return found


@pytest.fixture
def torture(tmp_path, monkeypatch):
  """The folder; what is good in it, and what is bad and why."""
  good, bad = write_good(tmp_path / "in"), write_bad(tmp_path / "in")

  def opened(path, *arguments, **options):
    name = pathlib.Path(path).name
    if name == "forbidden.jpg":  # permissions do not bind the superuser, who may run this
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if name == "growing.jpg":
      return Growing(path)
    return open(path, *arguments, **options)

  monkeypatch.setattr(images, "open", opened, raising=False)
  monkeypatch.setattr(process, "prepare", lambda: process.CompileCache(None, False))
  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", lambda name: toys.linear(1, name=name))
  monkeypatch.setenv("RPFGSM_STATE", str(tmp_path / "state"))
  monkeypatch.chdir(tmp_path)
  return tmp_path / "in", good, bad


def run(*options):
  runner = CliRunner()
  arguments = ["protect", "in", "--out", "out", "--max-megapixels", "20", *options]
  return runner.invoke(cli.cli, arguments, catch_exceptions=False)


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, str]]:
  """Time and digest of every file of a folder, that one aside which changes by itself."""
  return {
    str(path.relative_to(folder)): (
      path.stat().st_mtime_ns,
      hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    for path in folder.iterdir()
    if path.is_file() and path.name != "growing.jpg"
  }


def results(out: pathlib.Path) -> set[str]:
  """Checks that every result is whole and recorded, and nothing else is there; names them."""
  found = {
    path.relative_to(out).as_posix(): path
    for path in out.rglob("*")
    if path.is_file() and ".rpfgsm" not in path.parts
  }
  for name, path in found.items():
    assert ".partial" not in name
    facts = photo_records.read(photo_records.path_of(out, name))
    assert facts is not None, name
    assert facts["output_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    with Image.open(path) as opened:
      assert opened.size == SIZE[::-1]
      opened.load()
  assert not list((out / ".rpfgsm").rglob("*.partial*"))
  return set(found)


def test_every_good_photo_is_done_and_every_bad_one_is_named(torture, tmp_path):
  folder, good, bad = torture
  before = snapshot(folder)
  result = run()
  assert result.exit_code == 1
  counts = f"{len(good)} done ("
  assert result.stdout.startswith(counts)
  assert f"), {len(bad)} failed, 0 skipped" in result.stdout
  for text in (result.stdout, result.stderr):
    lines = [line for line in text.splitlines() if line.startswith("failed: ")]
    assert len(lines) == len(bad)
    for name, reason in bad.items():
      (line,) = [line for line in lines if line.startswith(f"failed: {pathlib.Path('in') / name} ")]
      assert reason in line
  assert "files that are no photos were left out: 1 .mov" in result.stderr
  assert results(tmp_path / "out") == set(good.values())
  assert snapshot(folder) == before
  # Transparency stays: what nobody sees of the original is not there either.
  with Image.open(tmp_path / "out" / "palette.png") as opened:
    assert opened.mode == "RGBA"
    transparent = np.asarray(opened)[..., 3] == 0
    assert transparent.any()
    assert (np.asarray(opened)[transparent][:, :3] == 255).all()


def test_the_same_command_again_does_nothing_and_says_the_same(torture, tmp_path):
  folder, good, bad = torture
  run()
  done = snapshot(tmp_path / "out")
  again = run()
  assert again.exit_code == 1
  assert again.stdout.startswith(f"0 done, {len(bad)} failed, {len(good)} skipped")
  assert snapshot(tmp_path / "out") == done
  for name in bad:
    path = folder / name
    path.unlink()
  assert run().exit_code == 0


def test_a_dry_run_says_it_beforehand(torture, tmp_path):
  _, good, bad = torture
  result = run("--dry-run")
  assert result.exit_code == 1
  refused = [line for line in result.stdout.splitlines() if line.startswith("refused: ")]
  # Broken pixels, and a file that changes when it is read as a whole, show later only.
  late = {"cut.jpg"}
  assert {line.split(": ")[1].split(" -> ")[0] for line in refused} == bad.keys() - late
  assert result.stderr.startswith(f"{len(good) + len(late)} to do, 0 done")
  assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_leaves_whole_photos_and_the_command_goes_on(
  torture, tmp_path, monkeypatch
):
  _, good, _ = torture
  real, written = os.fsync, []

  def fill(descriptor):
    written.append(descriptor)
    whole = [path for path in (tmp_path / "out").glob("*.png") if ".partial" not in path.name]
    if len(written) > 30 and whole:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(descriptor)

  monkeypatch.setattr(os, "fsync", fill)
  result = run()
  assert result.exit_code == 1
  assert "No space left on device. Make room or name another disk; the same" in result.stderr
  there = results(tmp_path / "out")
  assert 0 < len(there) < len(good)
  assert result.stdout.startswith(f"{len(there)} done")
  monkeypatch.setattr(os, "fsync", real)
  assert run().stdout.startswith(f"{len(good) - len(there)} done")
  assert results(tmp_path / "out") == set(good.values())


def test_photos_above_a_limit_of_the_system_fail_alone(torture, tmp_path):
  _, good, bad = torture
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # bytes a file; noise has 6000
  try:
    result = run()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert result.exit_code == 1
  there = results(tmp_path / "out")
  assert 0 < len(there) < len(good)
  assert f"{len(bad) + len(good) - len(there)} failed" in result.stdout
  assert result.stderr.count("could not be written: File too large") == len(good) - len(there)
  assert run().stdout.startswith(f"{len(good) - len(there)} done")


def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(
  torture, tmp_path, monkeypatch
):
  (tmp_path / "out" / "sub").mkdir(parents=True)
  real = os.access
  monkeypatch.setattr(
    os, "access", lambda path, mode: pathlib.Path(path).name != "sub" and real(path, mode)
  )
  result = run()
  assert result.exit_code == 1
  assert "sub cannot be written to; change its permissions" in result.stderr
  assert results(tmp_path / "out") == set()
