"""The demo from end to end on toy networks: its files, its numbers, its refusals."""

import hashlib
import json
import os
import shutil
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from PIL import Image

import rpfgsm_jax as rp
from experiments import demo, lineup, report, rows, runtime, study, verify
from experiments import run as script
from rpfgsm_jax import data
from rpfgsm_jax.defenses import IDENTITY, JPEG, REQUANTIZE, DefenseBank
from rpfgsm_jax.process import CompileCache

BANK = DefenseBank((IDENTITY, REQUANTIZE, JPEG))  # medians take longest to compile
NETS = {"toy/resnet50": toys.linear(1), "toy/b": toys.convolution(2), "toy/c": toys.convolution(4)}
EPSILON = 16.0
ATTACKS = ("original", "sign-noise", "u-fgsm", "rp-fgsm", "rp-fgsm-targeted")
NAMES = ("plain.png", "scene 0/a.png", "scene 0/b.png", "scene 3/a.png", "scene 3/b.bmp")


def config(place, **changes):
  options = {
    "out": place / "out",
    "data": place / "photos",
    "seen": ("toy/b", "toy/resnet50"),
    "unseen": ("toy/c",),
    "epsilon": EPSILON,
    "batch_size": 3,
    "bank": BANK,
    "seed": 11,
  }
  return demo.config_of(**options | changes)


def run(settings):
  said = []
  place = demo.run(demo.prepare(settings, load=NETS.__getitem__), say=said.append)
  return place, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with five images at the networks' size, one larger, one broken."""
  place = tmp_path_factory.mktemp("demo")
  for name, image in zip(NAMES, toys.images(len(NAMES)), strict=True):
    path = place / "photos" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  (place / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
  return place


@pytest.fixture(scope="module")
def result(folder):
  """(results folder, lines said, rows of photographs by name and attack)."""
  place, said = run(config(folder))
  found = [row for row in rows.read_rows(place / "rows.jsonl") if row["kind"] == "photo"]
  return place, said, {(row["photo"], row["attack"]): row for row in found}


@pytest.fixture
def copy(result, tmp_path):
  """A copy of the results to be damaged."""
  return shutil.copytree(result[0], tmp_path / "out")


def pixels(place, row):
  return data.read_image(place / row["png"])


def test_a_row_for_each_photograph_and_attack(result):
  assert set(result[2]) == {(name, attack) for name in NAMES for attack in ATTACKS}


def test_files_are_the_evaluated_images_inside_the_ball(result, folder):
  place, _, found = result
  for (name, attack), row in found.items():
    original, image = data.read_image(folder / "photos" / name), pixels(place, row)
    change = np.abs(image.astype(int) - original).max()
    assert change == row["largest_change"]
    assert change == 0 if attack == "original" else 0 < change <= EPSILON
    assert row["sha256"] == hashlib.sha256(image.tobytes()).hexdigest()


def test_ranks_are_those_of_the_networks_under_each_defense(result):
  place, _, found = result
  networks = [NETS[name] for name in ("toy/b", "toy/resnet50", "toy/c")]
  defenses = {
    0: lambda image: image,
    3: lambda image: rp.defenses.requantize(image, 3),
    8: lambda image: rp.defenses.jpeg(image, 25),
    11: lambda image: rp.defenses.jpeg(image, 100),
  }
  for (name, _), row in found.items():
    image = jnp.asarray(pixels(place, row), jnp.float32)
    clean = pixels(place, found[name, "original"])
    for index, network in enumerate(networks):
      predicted = int(network(clean).argmax())
      for setting, defend in defenses.items():
        order = np.argsort(-np.asarray(network(defend(image))), kind="stable").tolist()
        assert row["ranks"][index][setting] == order.index(predicted)
        if row["label"] is not None:
          assert row["label_ranks"][index][setting] == order.index(row["label"])


def test_samples_are_views_that_all_networks_call_the_same_and_the_held_out_one_is_sure_of(
  tmp_path,
):
  nets = NETS | {"toy/again": NETS["toy/c"]}
  given = {"data": None, "seen": ("toy/c",), "unseen": ("toy/again",), "reference": "toy/c"}
  plan = demo.prepare(config(tmp_path, **given), load=nets.__getitem__)
  (batch,) = plan.source.batches(100)
  logits = NETS["toy/c"](batch.images.astype(np.float32))
  assert (jax.nn.softmax(logits).max(-1) >= 0.5).all()
  assert 2 <= len(batch.photos) <= 24
  assert len({photo.name for photo in batch.photos}) == len(batch.photos)
  assert len({image.tobytes() for image in batch.images}) == len(batch.photos)
  scenes = logits.argmax(-1).tolist()
  first = len(set(scenes))  # one of each scene comes before a second one of any
  assert len(set(scenes[:first])) == first
  fewer = demo.prepare(config(tmp_path, limit=2, **given), load=nets.__getitem__).source.photos
  assert fewer == tuple(batch.photos[:2])


def test_where_networks_agree_on_no_view_the_usual_ones_are_shown(tmp_path):
  far = rp.Classifier.from_function(
    lambda params, images: images.reshape(len(images), -1)[:, :2] * params,
    jnp.float32(1.0),
    class_names=("elsewhere", "nowhere"),
    image_size=toys.SIZE,
    name="far",
  )
  given = {"data": None, "seen": ("toy/b",), "unseen": ("far",), "reference": "toy/b"}
  nets = NETS | {"far": far}
  plan = demo.prepare(config(tmp_path, **given), load=nets.__getitem__)
  assert len({photo.group for photo in plan.source.photos}) > 1


def test_class_folders_give_true_classes_and_other_images_none(result):
  labels = {name: row["label"] for (name, attack), row in result[2].items() if attack == "original"}
  assert labels == dict(zip(NAMES, (None, 0, 0, 3, 3), strict=True))


def test_confident_means_that_some_network_is_sure_of_the_clean_photo(result):
  place, _, found = result
  flags = set()
  for (name, _), row in found.items():
    clean = pixels(place, found[name, "original"])
    sure = max(float(jax.nn.softmax(network(clean)).max()) for network in NETS.values())
    assert row["confident"] == (sure >= 0.5)
    flags.add(row["confident"])
  assert True in flags


def test_each_attack_is_the_librarys_own_with_the_recorded_seed(result):
  place, _, found = result
  images = np.stack([pixels(place, found[name, "original"]) for name in NAMES])
  ids = [data.image_id(name) for name in NAMES]
  seed = json.loads((place / "run.json").read_text())["seed"]
  seen = [NETS["toy/b"], NETS["toy/resnet50"]]
  paper = rp.RPFGSMConfig(epsilon=EPSILON, defenses=BANK)
  plain = rp.RPFGSMConfig(epsilon=EPSILON, defenses=rp.defenses.no_defenses())
  targeted = rp.RPFGSMConfig(epsilon=EPSILON, defenses=BANK, targeted=True)
  for attack, networks, settings in (
    ("rp-fgsm", seen, paper),
    ("rp-fgsm-targeted", seen, targeted),
    ("u-fgsm", seen[1:], plain),  # of ResNet50 by name, the second one here
  ):
    expected = rp.protect(images, networks, settings, seed=seed, image_ids=ids, batch_size=3)
    written = np.stack([pixels(place, found[name, attack]) for name in NAMES])
    np.testing.assert_array_equal(written, expected)


def test_the_attack_misleads_the_networks_it_saw(result):
  found = result[2]
  hidden = [found[name, "rp-fgsm"]["ranks"][index][0] > 0 for name in NAMES for index in (0, 1)]
  assert np.mean(hidden) > 0.8


def test_the_report_can_be_made_anew_from_the_rows_alone(result, tmp_path):
  shutil.copy(result[0] / "rows.jsonl", tmp_path)
  text = report.report_from_rows(tmp_path)
  assert text == (result[0] / "report.md").read_text(encoding="utf-8")
  assert "## The true scene" in text
  assert "5 done, 1 could not be read" in text


def test_the_broken_image_is_reported_and_the_others_are_done(result):
  place, said, _ = result
  assert any(line.startswith("left out:") and "broken.jpg" in line for line in said)
  assert "broken.jpg" in (place / "report.md").read_text(encoding="utf-8").split("Could not")[1]


def test_the_seed_stays_in_the_private_record(folder, tmp_path):
  plans = [
    demo.prepare(config(folder, seed=None, out=tmp_path), load=NETS.__getitem__) for _ in range(2)
  ]
  assert plans[0].seed != plans[1].seed
  study.open_journal(plans[0], print)
  assert json.loads((tmp_path / "run.json").read_text())["seed"] == plans[0].seed
  if os.name == "posix":
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
  assert str(plans[0].seed) not in (tmp_path / "rows.jsonl").read_text()


def test_the_figure_is_a_picture_of_whole_rows(result):
  height, width, _ = data.read_image(result[0] / "figure.png").shape
  assert width > height > 300


def test_a_second_run_replaces_the_first_and_leaves_nothing_else(copy, folder):
  before = (copy / "rows.jsonl").read_bytes()
  (copy / "protected" / "old.png").touch()
  run(config(folder, out=copy, seed=12))
  assert (copy / "rows.jsonl").read_bytes() != before
  assert not (copy / "protected" / "old.png").exists()
  assert [path.name for path in copy.parent.iterdir()] == ["out"]


def test_a_run_that_stops_leaves_the_old_result_and_says_where_the_new_one_is(
  copy, folder, monkeypatch
):
  before = (copy / "rows.jsonl").read_bytes()

  def stop(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(verify, "verify", stop)
  said = []
  plan = demo.prepare(config(folder, out=copy, seed=12), load=NETS.__getitem__)
  with pytest.raises(KeyboardInterrupt):
    demo.run(plan, say=said.append)
  assert (copy / "rows.jsonl").read_bytes() == before
  assert said[-1].startswith("not finished; what was done is in")
  text = report.report_from_rows(next(copy.parent.glob("partial-*")))
  assert "did not come to its end" in text


def spoil_pixel(place, row):
  image = pixels(place, row)
  image[0, 0, 0] ^= 1
  data.write_png(place / row["png"], image)
  return {}


def swap_answers(place, row):
  return {"classes": [some[::-1] for some in row["classes"]]}


def shift_ranks(place, row):
  return {"ranks": [[rank + 1 for rank in some] for some in row["ranks"]]}


def grow(place, row):
  image = pixels(place, row)
  image[0, 0] = np.where(image[0, 0] < 128, 255, 0)
  data.write_png(place / row["png"], image)
  return {"sha256": verify.pixel_digest(image)}


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (spoil_pixel, "does not hold the pixels that were evaluated"),
    (grow, "differs from its original by"),
    (swap_answers, "answers to the file read back differ"),
    (shift_ranks, "own prediction must have rank 0"),
    (lambda place, row: (place / row["png"]).unlink(), "there is none"),
    (lambda place, row: {"attack": "u-fgsm"}, "has two rows"),
    (lambda place, row: {"kind": "other"}, "must have a row for each image and attack"),
  ],
  ids=["pixel", "ball", "answers", "ranks", "missing", "double", "gap"],
)
def test_verification_finds(copy, damage, message):
  lines = list(rows.read_rows(copy / "rows.jsonl"))
  attack = "original" if damage is shift_ranks else "rp-fgsm"
  place = next(i for i, row in enumerate(lines) if row.get("attack") == attack)
  lines[place] |= damage(copy, lines[place]) or {}
  (copy / "rows.jsonl").unlink()
  rows.append_rows(copy / "rows.jsonl", lines)
  networks = [NETS[name] for name in ("toy/b", "toy/resnet50", "toy/c")]
  with pytest.raises(verify.VerificationError, match=message):
    verify.verify(copy, networks, 3)


def test_noise_is_plus_or_minus_eps_and_follows_seed_and_id():
  images = toys.images(3)
  noisy = lineup.sign_noise(images, [5, 6, 7], 1, 6.7)
  change = noisy.astype(int) - images
  clipped = (noisy == 0) | (noisy == 255)
  assert (np.abs(change)[~clipped] == 6).all()
  assert np.abs(change).max() == 6
  assert abs(np.sign(change[~clipped]).mean()) < 0.1
  np.testing.assert_array_equal(lineup.sign_noise(images[1:], [6, 7], 1, 6.7), noisy[1:])
  assert (lineup.sign_noise(images, [5, 6, 7], 2, 6.7) != noisy).any()


def test_a_folder_that_is_not_ours_is_refused_and_stays(folder, tmp_path):
  for name, content in (("notes.txt", "mine"), ("run.json", '{"experiment": "other"}')):
    place = tmp_path / name.split(".")[0]
    place.mkdir()
    (place / name).write_text(content)
    with pytest.raises(ValueError, match="was not written by it"):
      demo.prepare(config(folder, out=place), load=NETS.__getitem__)
    assert (place / name).read_text() == content


def test_somebodys_file_beside_our_result_is_never_lost(copy, folder):
  (copy / "notes.txt").write_text("mine")
  with pytest.raises(ValueError, match=r"notes\.txt beside an earlier result"):
    demo.prepare(config(folder, out=copy), load=NETS.__getitem__)


@pytest.mark.parametrize("place", [".", "photos", "photos/results"])
def test_results_and_photographs_lie_apart(folder, place):
  data_folder = folder / "photos"
  out = data_folder.parent / place if place != "." else data_folder / "scene 0" / "deep"
  with pytest.raises(ValueError, match=r"must lie apart|was not written by it"):
    demo.prepare(config(folder, out=out), load=NETS.__getitem__)


@pytest.fixture
def invoke(monkeypatch):
  """Runs the script in this process without touching the process's settings."""
  monkeypatch.setattr(runtime, "prepare", lambda: CompileCache(None, False))
  monkeypatch.setattr(demo.prepare, "__kwdefaults__", {"load": NETS.__getitem__})
  return lambda *arguments: CliRunner().invoke(script.cli, [str(each) for each in arguments])


NETWORK_OPTIONS = ("--seen", "toy/b", "--seen", "toy/resnet50", "--unseen", "toy/c")


def test_script_says_what_is_wrong_in_one_line(invoke, tmp_path):
  (tmp_path / "empty").mkdir()
  out = ("--out", tmp_path / "out", *NETWORK_OPTIONS)
  for arguments, message in (
    (("demo", "--data", tmp_path / "empty", *out), "got an empty folder"),
    (("--data", tmp_path / "absent", *out), "got nothing of that name"),  # the demo by default
    (("--data", tmp_path / "empty", "--out", __file__, *NETWORK_OPTIONS), "is a file"),
  ):
    found = invoke(*arguments)
    assert found.exit_code in (1, 2)
    assert message in found.output
    assert "Traceback" not in found.output
  assert not (tmp_path / "out").exists()


def test_script_fails_when_not_one_image_can_be_read(invoke, tmp_path):
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
  found = invoke("--data", tmp_path / "photos", "--out", tmp_path / "out", *NETWORK_OPTIONS)
  assert found.exit_code == 1
  assert "none of the 1 images could be read" in found.output
  assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_script_names_unknown_experiments_and_shows_help(invoke):
  assert invoke("tables").exit_code == 2
  assert "demo" in invoke("--help").output
