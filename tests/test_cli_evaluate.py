"""`rpfgsm evaluate`: what it prints, its exit codes, and its files, with a bundled network."""

import json

import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner
from PIL import Image

from rpfgsm_jax import cli, comparison
from rpfgsm_jax.data import images
from rpfgsm_jax.models import weights

NETWORK = "scenes25/alexnet"


@pytest.fixture
def rpfgsm(monkeypatch, tmp_path):
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))  # no model of BRISQUE there
  monkeypatch.delenv("RPFGSM_BRISQUE", raising=False)
  runner = CliRunner()

  def run(*arguments):
    return runner.invoke(cli.cli, ["evaluate", *map(str, arguments)])

  return run


@pytest.fixture
def folders(tmp_path):
  """Three photographs, as JPEG and, with strong noise, as PNG."""
  generator = np.random.default_rng(0)
  for name in ("astronaut", "coffee", "chelsea"):
    photo = Image.fromarray(getattr(skimage.data, name)()).resize((150, 130))
    for side in ("original", "protected"):
      (tmp_path / side / "library").mkdir(parents=True, exist_ok=True)
    photo.save(tmp_path / "original/library" / f"{name}.jpg")
    pixels = np.asarray(Image.open(tmp_path / "original/library" / f"{name}.jpg"), int)
    noisy = np.clip(pixels + generator.choice([-90, 90], pixels.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "protected/library" / f"{name}.png")
  return tmp_path / "original", tmp_path / "protected"


def test_measures_two_folders_from_end_to_end(rpfgsm, folders, tmp_path):
  (folders[0] / "alone.png").write_bytes(b"x")
  result = rpfgsm(*folders, "--network", NETWORK, "--out", tmp_path / "out")
  assert (result.exit_code, result.stderr) == (0, "")
  assert "3 pairs" in result.stdout
  assert "1 file without a partner among the protected photos: alone.png" in result.stdout
  assert "run 'rpfgsm weights fetch brisque', or" in result.stdout
  assert "true class" in result.stdout
  assert result.stdout.splitlines()[-1] == str(tmp_path / "out" / "index.html")
  header, *rows = map(json.loads, (tmp_path / "out" / "rows.jsonl").read_text().splitlines())
  assert header["networks"] == [{"name": NETWORK, "image_size": [128, 128]}]
  assert [row["photo"] for row in rows if row["kind"] == "photo"] == [
    "library/astronaut",
    "library/chelsea",
    "library/coffee",
  ]
  network = weights.load_classifier(NETWORK)
  for row in rows[:3]:
    for side, folder in zip(("original", "protected"), folders, strict=True):
      image = Image.open(folder / row[side]).resize((128, 128), Image.Resampling.BILINEAR)
      logits = np.asarray(network(np.asarray(image, np.float32)))
      judged = row["networks"][0][side]
      assert judged["answer"] == network.class_names[logits.argmax()]
      place = network.class_names.index("library")
      assert judged["label_ranks"][0] == (logits > logits[place]).sum()
    assert row["linf"] == 90
  misled = [row["networks"][0]["protected"]["ranks"][0] >= 1 for row in rows[:3]]
  assert f" {100 * np.mean(misled):.0f} [" in result.stdout
  assert "<h2" in (tmp_path / "out" / "index.html").read_text()


def test_options_reach_the_comparison(rpfgsm, monkeypatch):
  given = {}

  def stop(original, protected, networks, **options):
    given.update(options, networks=networks)
    raise comparison.ComparisonError("stopped here.")

  monkeypatch.setattr(comparison, "compare_folders", stop)
  options = ("--train", "c", "--train-limit", 7, "--preprocess", "places365", "--network", "x")
  assert rpfgsm("a", "b", *options, "--network", "y").stderr == "Error: stopped here.\n"
  assert (given["training_limit"], given["preprocess"]) == (7, "places365")
  assert (str(given["training"]), given["networks"]) == ("c", ("x", "y"))
  rpfgsm("a", "b")
  assert given["networks"] == cli.BUNDLED_NETWORKS


REFUSED = {
  "missing": (("NO", "PROTECTED"), "original must be a folder of images"),
  "same": (("ORIGINAL", "ORIGINAL"), "must be two folders"),
  "network": (("ORIGINAL", "PROTECTED", "--network", "scenes25/alexnot"), "did you mean scenes25"),
  "inside": (
    ("ORIGINAL", "PROTECTED", "--out", "ORIGINAL/new"),
    "out and the folders that are read must lie apart",
  ),
  "foreign": (("ORIGINAL", "PROTECTED", "--out", "FOREIGN"), "letter.txt"),
  "training": (
    ("ORIGINAL", "PROTECTED", "--train", "ORIGINAL"),
    "training and the compared folders must lie apart",
  ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_failure_is_one_message_and_exit_code_1(rpfgsm, folders, tmp_path, kind):
  (tmp_path / "foreign").mkdir()
  (tmp_path / "foreign" / "letter.txt").write_text("mine")
  arguments, says = REFUSED[kind]
  named = {"NO": "no", "ORIGINAL": "original", "PROTECTED": "protected", "FOREIGN": "foreign"}
  given = [tmp_path / named[a] if a in named else a for a in arguments]
  given = [tmp_path / "original/new" if a == "ORIGINAL/new" else a for a in given]
  result = rpfgsm(*given)
  assert result.exit_code == 1
  assert result.stdout == ""
  assert result.stderr.startswith("Error: ")
  assert says in result.stderr
  assert isinstance(result.exception, SystemExit)


def test_a_damaged_model_of_brisque_is_one_message(rpfgsm, folders, tmp_path, monkeypatch):
  monkeypatch.setenv("RPFGSM_BRISQUE", str(tmp_path))
  for name in ("allmodel", "allrange"):
    (tmp_path / name).write_text("nonsense\n")
  result = rpfgsm(*folders, "--network", NETWORK)
  assert result.exit_code == 1
  assert "allmodel" in result.stderr
  assert isinstance(result.exception, SystemExit)


def test_names_written_out_are_those_of_the_package():
  assert set(cli.BUNDLED_NETWORKS) <= set(weights.available_networks())
  for name in cli.PREPROCESSINGS:
    images.check_how(name)
