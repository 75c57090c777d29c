"""The same attack on other networks: rows of real runs on toy networks, and their table."""

import dataclasses

import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from PIL import Image

import rpfgsm_jax as rp
from experiments import recipes, rows, surrogates
from experiments import run as script
from experiments.options import SurrogatesConfig
from experiments.photos import StudyPhoto
from rpfgsm_jax.attacks.masking import pixel_limits
from rpfgsm_jax.photos import STRENGTHS, PhotoProtector, photo_attack
from rpfgsm_jax.photos.judging import conditioned
from rpfgsm_jax.process import CompileCache

PHOTO = StudyPhoto(name="", image_id=7, label=0, group="", png="", scene=toys.CLASS_NAMES[3])
JUDGE = "import toy_classifiers as toys\nclassifier = lambda name: toys.linear(9, name=name)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch, photo):
  """Two classes of four and three small photos; toy networks under the bundled names."""
  networks = dict(zip(("a", "b", "c"), toys.three(), strict=True))
  monkeypatch.setattr(rp, "load_classifier", lambda name: networks[name])
  for number in range(7):
    place = tmp_path / "in" / toys.CLASS_NAMES[1 + number % 2]
    place.mkdir(parents=True, exist_ok=True)
    part = photo[20 * number : 20 * number + 40, 30 * number : 30 * number + 48]
    Image.fromarray(part).save(place / f"{number}.png")
  (tmp_path / "judge.py").write_text(JUDGE)
  return tmp_path


def run(folder, **changes):
  """Runs and returns the rows of photos, and the table's text."""
  given = {"judges": (f"{folder}/judge.py:stranger",), "at": ("4/3",), "surrogates": ("a,b",)}
  config = SurrogatesConfig(data=folder / "in", **({"out": folder / "out"} | given | changes))
  surrogates.run(config, cache=CompileCache(None, False), say=lambda line: None)
  surrogates.show(config.out)
  found = [row for row in rows.read_rows(config.out / "rows.jsonl") if row["kind"] == "photo"]
  return found, (config.out / "surrogates.md").read_text()


def test_every_set_is_judged_on_every_photo_once(folder):
  first, _ = run(folder, limit=2)
  found, text = run(folder, surrogates=("a,b", "c"))
  assert found[: len(first)] == first
  settings = ["photo itself", "random noise, eps 4", "a,b, eps 4, 3 passes", "c, eps 4, 3 passes"]
  assert sorted({row["setting"] for row in found}) == sorted(settings)
  assert len({(row["setting"], row["photo"]) for row in found}) == len(found) == 4 * 7
  for setting in settings:
    (line,) = (each for each in text.split("\n") if each.startswith(f"| {setting} |"))
    ranks = [r["ranks"]["stranger"]["JPEG 50"] for r in found if r["setting"] == setting]
    assert f"| {100 * np.mean(np.equal(ranks, 0)):.0f} \\[" in line
  judge = toys.linear(9)
  clean = {row["photo"]: row for row in found if row["setting"] == "photo itself"}
  for name, row in clean.items():
    label = toys.CLASS_NAMES.index(name.split("/")[0])
    for condition, rank in row["ranks"]["stranger"].items():
      shown = conditioned(np.asarray(Image.open(folder / "in" / name)), condition)
      shown = np.asarray(Image.fromarray(shown).resize((10, 12), Image.Resampling.BILINEAR))
      order = np.argsort(-np.asarray(judge(shown[None].astype(np.float32)))[0])
      assert list(order).index(label) == rank


def test_the_halves_are_apart_and_have_every_class(folder):
  shown = []
  for half in (1, 2):
    found, _ = run(folder, half=half, out=folder / f"half{half}")
    shown.append({row["photo"] for row in found})
    assert {name.split("/")[0] for name in shown[-1]} == set(toys.CLASS_NAMES[1:3])
  assert not shown[0] & shown[1]
  assert len(shown[0] | shown[1]) == 7


def test_a_strength_by_name_is_that_of_protect_and_bounds_its_noise(photo):
  found = [surrogates.Setting(how=surrogates.NOISE, at=name) for name in STRENGTHS]
  assert [setting.attack for setting in found] == [photo_attack(name) for name in STRENGTHS]
  pixels = np.clip(photo[:40, :48], 16, 239)  # nothing reaches the ends of the scale
  for setting in found:
    change = np.abs(surrogates.changer(setting, 1)(pixels, PHOTO).astype(int) - pixels)
    limits = pixel_limits(
      setting.attack.masking, pixels[None], np.full(1, setting.attack.epsilon, np.float32)
    )
    np.testing.assert_array_equal(change, np.broadcast_to(limits[0], pixels.shape))


def test_a_strength_with_changes_is_that_attack_changed(folder):
  strong = photo_attack("strong")
  changed = recipes.attack_of("strong+passes=3+no-views+momentum+eps=4")
  assert (changed.num_steps, changed.epsilon, changed.transfer.momentum) == (3, 4.0, 1.0)
  assert changed.step_size == strong.step_size
  more = {"input diversity", "scale", "translate"}
  assert set(changed.defenses.names) == set(strong.defenses.names) - more
  more = recipes.attack_of("medium+flip+crop+shuffle+spectrum").defenses
  bank = rp.defenses
  views = (bank.FLIP, bank.CROP, bank.BLOCK_SHUFFLE, bank.SPECTRUM)
  assert more.families == (*strong.defenses.families, *views)
  first = recipes.attack_of("strong+views-first+flip").defenses.names
  assert first == (*(f"{name} behind a view" for name in changed.defenses.names), "flip")
  assert recipes.attack_of("medium+everywhere+passes=9") == recipes.attack_of("strong+passes=9")
  assert recipes.attack_of("strong+masked+passes=30") == photo_attack("medium")
  plain = recipes.attack_of("strong+plain-steps+passes=60")
  assert (plain.step_size, plain.transfer) == (1.0, rp.TransferOptions())
  found, _ = run(folder, at=("strong+passes=3", "strong+passes=3+smoothing=5"), limit=1)
  names = [
    "random noise, strong+passes=3",
    "a,b, strong+passes=3",
    "a,b, strong+passes=3+smoothing=5",
  ]
  assert [row["setting"] for row in found] == ["photo itself", *names]  # noise once a size


@pytest.mark.parametrize("text", ["strong+", "strong+pases=3", "strong+passes", "strong+passes=x"])
def test_a_change_that_cannot_be_is_refused_with_those_that_can(folder, text):
  with pytest.raises(ValueError, match="passes=N"):
    run(folder, at=(text,))


def test_features_are_those_of_each_attacked_network(monkeypatch):
  network = rp.load_classifier("shield/efficientnet_lite0")
  (inside,) = recipes.networks_of("strong+features", [network])
  assert (inside.name, inside.image_size) == (f"{network.name}:features", network.image_size)
  assert recipes.networks_of("strong", [network]) == [network]
  monkeypatch.setattr(PhotoProtector, "attack", lambda self, photo, number: number)
  change = surrogates.changer(surrogates.Setting(how=network.name, at="strong+features"), 1)
  assert change(np.zeros((40, 48, 3), np.uint8), PHOTO) == 7


@pytest.mark.parametrize("at", ["strong", "strong+true-label"])
def test_the_true_scene_is_told_where_that_is_asked_for(folder, monkeypatch, at):
  told = []

  class Listening(PhotoProtector):
    def attack(self, photo, image_id):
      told.append(self.config.scene)
      return photo.pixels

  monkeypatch.setattr(surrogates, "PhotoProtector", Listening)
  found, _ = run(folder, at=(at,))
  scenes = [row["photo"].split("/")[0] for row in found if row["setting"] == f"a,b, {at}"]
  assert told == (scenes if "true-label" in at else [None] * 7)
  assert set(scenes) == set(toys.CLASS_NAMES[1:3])


def test_a_photo_without_a_true_scene_is_refused_where_that_is_to_be_left(folder, photo):
  change = surrogates.changer(surrogates.Setting(how="a", at="strong+true-label"), 1)
  with pytest.raises(ValueError, match="scene must be a class of linear 1, got ''"):
    change(photo[:40, :48], dataclasses.replace(PHOTO, scene=None))


@pytest.mark.parametrize("text", ["8", "8/0", "0/3", "many/3", "8/30/2"])
def test_a_strength_that_cannot_be_is_refused(folder, text):
  with pytest.raises(ValueError, match="EPS/PASSES"):
    run(folder, at=(text,))


def test_the_command_needs_a_judge(folder):
  command = ["surrogates", "--data", str(folder / "in"), "--out", str(folder / "out")]
  done = CliRunner().invoke(script.cli, command)
  assert done.exit_code == 1
  assert "--judge must name" in done.output
  done = CliRunner().invoke(script.cli, [*command, "--judge", "nowhere.py:x"])
  assert "a file that is there" in done.output
