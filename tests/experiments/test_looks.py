"""Photos at several strengths side by side: rows, kept images, and the page, on toy networks."""

import numpy as np
import pytest
import toy_classifiers as toys
from PIL import Image
from skimage.metrics import structural_similarity

import rpfgsm_jax as rp
from experiments import looks, rows
from experiments.options import LooksConfig
from rpfgsm_jax.process import CompileCache


@pytest.fixture
def run(tmp_path, monkeypatch, photo):
  monkeypatch.setattr(rp, "load_classifier", lambda name: toys.three()[0])
  (tmp_path / "in").mkdir()
  for number, size in enumerate(((40, 48), (32, 60))):
    part = photo[20 * number : 20 * number + size[0], : size[1]]
    Image.fromarray(part).save(tmp_path / "in" / f"{number}.png")

  def _run(**changes):
    config = LooksConfig(
      data=tmp_path / "in", out=tmp_path / "out", attacked="a", at=("gentle", "strong"), **changes
    )
    looks.run(config, cache=CompileCache(None, False), say=lambda line: None)
    looks.show(config.out)
    found = rows.read_rows(config.out / "rows.jsonl")
    return config, [row for row in found if row["kind"] == "photo"]

  return _run


def test_every_photo_stands_at_every_strength_at_its_own_size(run):
  config, found = run()
  assert len(found) == 2 * 3
  page = np.asarray(Image.open(config.out / "looks.jpg")).astype(int)
  top = 0
  for photo in dict.fromkeys(row["photo"] for row in found):
    line = [row for row in found if row["photo"] == photo]
    assert [row["at"] for row in line] == ["", "gentle", "strong"]
    original = np.asarray(Image.open(config.data / photo))
    height, width = original.shape[:2]
    for place, row in enumerate(line):
      (file,) = config.out.glob(f"images/*{row['at'] or 'itself'}/{row['png']}")
      kept = np.asarray(Image.open(file))
      bound = {"": 0, "gentle": 8, "strong": 16}[row["at"]]
      assert np.abs(kept.astype(int) - original).max() == bound
      expected = structural_similarity(
        original, kept, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=255,
      )  # fmt: skip
      assert row["ssim"] == pytest.approx(expected, abs=2e-3)
      left = place * (width + looks._GAP)
      shown = page[top + looks._LINE :, left:][:height, :width]
      assert np.abs(shown - kept).mean() < 4  # JPEG
    top += height + looks._LINE + looks._GAP


def test_what_is_there_is_not_made_again_and_what_is_gone_is(run):
  config, found = run()
  files = sorted(config.out.glob("images/*/*.png"))
  before = {file: file.stat().st_mtime_ns for file in files}
  gone = files[-1]
  content = gone.read_bytes()
  gone.unlink()
  assert run()[1] == found
  assert gone.read_bytes() == content
  assert {file: file.stat().st_mtime_ns for file in files[:-1]} == dict(list(before.items())[:-1])
