"""What `protect_photo` writes: only where it may, whole, and judged as it was read back."""

import io

import numpy as np
import pytest
from photos.toy_protection import SUFFIXES, run, save, with_encoding
from PIL import Image

from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.photos import PhotoProtector, judging, protect


def test_the_verdict_is_on_what_the_disk_holds(tmp_path, small, asked, monkeypatch):
  black = io.BytesIO()
  Image.fromarray(np.zeros_like(small)).save(black, "PNG")
  real = protect.atomic.through_the_disk
  monkeypatch.setattr(
    protect.atomic, "through_the_disk", lambda path, content: real(path, black.getvalue())
  )
  done = run(small, out=tmp_path / "new.png")
  assert done.content == (tmp_path / "new.png").read_bytes() == black.getvalue()
  assert not done.pixels.any()
  assert done.verdict.largest_change == small.max()


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_a_file_takes_its_name_only_after_its_verdict(tmp_path, small, asked, monkeypatch, there):
  out, names = tmp_path / "new.png", []
  if there:
    out.write_bytes(b"old")

  def fail(original, written, *others):
    np.testing.assert_array_equal(original, small)
    np.testing.assert_array_equal(written, np.minimum(small, 254) + 1)
    names.extend(path.name for path in tmp_path.iterdir())
    raise OSError("no power")

  monkeypatch.setattr(judging, "judge_photo", fail)
  with pytest.raises(OSError, match="no power"):
    run(small, out=out, overwrite=there)
  assert len([name for name in names if ".partial." in name]) == 1
  assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"] * there


def test_what_is_there_is_replaced_on_demand_only(tmp_path, small, asked):
  out = tmp_path / "new.png"
  out.write_bytes(b"mine")
  with pytest.raises(FileExistsError, match=r"out exists: .*new.png; .*overwrite=True"):
    run(small, out=out)
  assert (out.read_bytes(), asked) == (b"mine", [])
  done = run(small, out=out, overwrite=True)
  assert out.read_bytes() == done.content


def test_the_photo_itself_is_never_replaced(tmp_path, small, asked, monkeypatch):
  source = save(tmp_path / "beach.png", small)
  before = source.read_bytes()
  (tmp_path / "link.png").symlink_to(source)
  (tmp_path / "deeper").mkdir()
  monkeypatch.chdir(tmp_path)
  for out in (source, tmp_path / "link.png", "beach.png", tmp_path / "deeper" / ".." / "beach.png"):
    with pytest.raises(ValueError, match="out must not be the photo itself"):
      run(source, out=out, overwrite=True)
    with pytest.raises(ValueError, match="out must not be the photo itself"):
      run(tmp_path / "link.png", out=out, overwrite=True)
  assert (source.read_bytes(), asked) == (before, [])


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("name", ["new.gif", "new", "new.jpeg", "new.png.bak"])
def test_another_suffix_is_refused(tmp_path, small, asked, form, name):
  with pytest.raises(
    ValueError, match=rf"out must end in \{SUFFIXES[form]}, got .*config.encoding"
  ):
    run(small, with_encoding(form), out=tmp_path / name)
  assert (list(tmp_path.iterdir()), asked) == ([], [])


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path, small, asked):
  (tmp_path / "file").touch()
  with pytest.raises(ValueError, match=r"file is in the way: .*below must be a folder"):
    run(small, out=tmp_path / "file" / "below" / "new.png")
  assert asked == []


def test_a_photo_too_long_for_the_format_is_refused_before_the_work(tmp_path, asked):
  strip = np.zeros((32, 16384, 3), np.uint8)
  with pytest.raises(ImageError, match="at most 16383 pixels to be written as webp"):
    run(strip, with_encoding("webp"), out=tmp_path / "new.webp")
  assert (list(tmp_path.iterdir()), asked) == ([], [])


def test_a_file_that_appears_meanwhile_stays(tmp_path, small, asked, monkeypatch):
  out = tmp_path / "beach.png"
  judge = PhotoProtector.judge

  def slow_judge(self, photo, content):
    out.write_text("mine")
    return judge(self, photo, content)

  monkeypatch.setattr(PhotoProtector, "judge", slow_judge)
  with pytest.raises(FileExistsError, match="out exists"):
    run(small, out=out)
  assert out.read_text() == "mine"
  assert [path.name for path in tmp_path.iterdir()] == [out.name]
