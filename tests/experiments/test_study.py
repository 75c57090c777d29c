"""A study of tables and figures, end to end on toy networks: rows, resuming, refusals."""

import dataclasses
import errno
import json
import re

import jax
import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from PIL import Image

import rpfgsm_jax as rp
from experiments import catalog, journal, options, rows, study, variants
from experiments import run as script
from rpfgsm_jax import data, quality
from rpfgsm_jax.attacks.targets import candidate_mass
from rpfgsm_jax.defenses import IDENTITY, REQUANTIZE, DefenseBank

BANK = DefenseBank((IDENTITY, REQUANTIZE))
NETS = {"toy/resnet50": toys.linear(1), "toy/b": toys.convolution(2), "toy/c": toys.convolution(4)}
FAST = ("original", "sign-noise", "deepfool", "u-fgsm", "rp-fgsm")
CHOSEN = (*FAST, "jsma")
TIMING = ("seconds", "compiled")


def config(place, **changes):
  settings = {
    "out": place / "out",
    "data": place / "photos",
    "train": place / "train",
    "train_limit": 4,
    "seen": ("toy/b", "toy/resnet50"),
    "unseen": ("toy/c",),
    "limit": 5,
    "slow_limit": 2,
    "batch_size": 3,
    "keep": 1,
    "bank": BANK,
    "seed": 11,
  }
  return options.StudyConfig(**settings | changes)


def prepare(settings):
  return study.prepare(settings, load=NETS.__getitem__)


def run(settings, names=CHOSEN):
  said = []
  plan = prepare(settings)
  contenders = (*variants.baselines(plan.setup), *variants.paper_attacks(plan.setup))
  study.run(plan, [each for each in contenders if each.name in names], say=said.append)
  return plan.place, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Six images in class folders, and four clean ones for the thresholds."""
  place = tmp_path_factory.mktemp("study")
  for number, image in enumerate(toys.images(10)):
    part = "photos" if number < 6 else "train"
    path = place / part / f"scene {number % 2}" / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  return place


@pytest.fixture(scope="module")
def result(folder):
  return run(config(folder))


def found(place, kind="photo"):
  return [row for row in rows.read_rows(place / "rows.jsonl") if row["kind"] == kind]


def facts(place):
  """All rows without their seconds, in one order."""
  lines = rows.read_rows(place / "rows.jsonl")
  return sorted(json.dumps({k: v for k, v in line.items() if k not in TIMING}) for line in lines)


def copy(result, place):
  place.mkdir()
  for name in ("rows.jsonl", "run.json"):
    (place / name).write_bytes((result[0] / name).read_bytes())
  return place


def test_a_row_for_each_photograph_and_attack_and_fewer_for_the_slow(result):
  counts = {}
  for row in found(result[0]):
    counts[row["attack"]] = counts.get(row["attack"], 0) + 1
  assert counts == dict.fromkeys(FAST, 5) | {"jsma": 2}
  pairs = [(row["photo"], row["attack"]) for row in found(result[0])]
  assert len(pairs) == len(set(pairs))
  slow = {photo for photo, attack in pairs if attack == "jsma"}
  assert {photo.split("/")[0] for photo in slow} == {"scene 0", "scene 1"}
  assert len(found(result[0], "training")) == 4
  assert [row["name"] for row in found(result[0], "attack")] == [
    "original", "sign-noise", "jsma", "deepfool", "u-fgsm", "rp-fgsm",
  ]  # fmt: skip


def test_rows_say_what_the_attack_by_itself_does(result, folder):
  net = NETS["toy/resnet50"]
  for row in (row for row in found(result[0]) if row["attack"] == "deepfool"):
    image = data.read_image(folder / "photos" / row["photo"])
    raw = rp.deepfool(jax.random.key(11), image[None], [net], rp.DeepFoolConfig(quantize=False))
    written = np.clip(np.rint(np.asarray(raw.adversarial)), 0, 255)
    change = written[0] - image
    assert row["success"] == bool(raw.success[0])
    assert row["evaluations"] == int(raw.gradient_evaluations[0])
    clean, after = (int(net(x)[0].argmax()) for x in (image[None], written))
    assert row["written_success"] == (clean != after)
    assert row["reached"] == [clean != after]
    assert row["l0"] == np.count_nonzero(change)
    assert row["linf"] == np.abs(change).max()
    assert row["l2"] == pytest.approx(np.sqrt((change.astype(float) ** 2).sum()), abs=1e-3)
    assert row["scielab"] == pytest.approx(float(quality.scielab(written[0], image)), abs=1e-3)
    reference = 1  # toy/resnet50 is the second seen network
    order = np.argsort(-np.asarray(net(written)[0]), kind="stable").tolist()
    assert row["ranks"][reference][0] == order.index(clean)
    assert row["label_ranks"][reference][0] == order.index(row["label"])
    assert (row["mad"], row["brisque"]) == (None, None)  # the images are too small for either


def test_rows_of_the_original_count_the_candidates_of_eq_17(result, folder):
  for row in (row for row in found(result[0]) if row["attack"] == "original"):
    image = data.read_image(folder / "photos" / row["photo"])[None]
    logits = np.stack([NETS[name](image)[0] for name in ("toy/b", "toy/resnet50")])
    mass = np.asarray(candidate_mass(logits))
    expected = [int((mass > np.float32(gamma)).sum()) for gamma in (0.1, 0.5, 0.99)]
    assert [row["candidates"][place] for place in (0, 4, 9)] == expected


def test_kept_images_are_what_was_measured(result, folder):
  kept = [row for row in found(result[0]) if "png" in row]
  assert {row["photo"] for row in kept} == {kept[0]["photo"]}
  assert len(kept) == len(CHOSEN)
  for row in kept:
    image = data.read_image(result[0] / "images" / row["attack"] / row["png"])
    original = data.read_image(folder / "photos" / row["photo"])
    assert np.count_nonzero(image.astype(int) - original) == row["l0"]
    for network, classes in zip(("toy/b", "toy/resnet50", "toy/c"), row["classes"], strict=True):
      assert int(NETS[network](image[None])[0].argmax()) == classes[0]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.999])
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_rows(result, folder, tmp_path, share):
  """Cut in the middle of a row: the piece goes, the missing rows come, no other is touched."""
  place = copy(result, tmp_path / "out")
  whole = (place / "rows.jsonl").read_bytes()
  # Rows hold seconds, so their lengths differ from run to run: never cut exactly between two.
  kept = whole[: int(len(whole) * share)].rstrip(b"}\n")
  (place / "rows.jsonl").write_bytes(kept)
  _, said = run(config(folder, out=place, seed=None))
  assert "taken away" in said[0]
  assert (place / "rows.jsonl").read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
  assert facts(place) == facts(result[0])
  assert any(line.startswith("0 of 27 rows") for line in run(config(folder, out=place))[1])


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(result, folder, tmp_path, monkeypatch):
  place, calls, append = tmp_path / "out", [], rows.append_rows

  def fill(path, lines):
    calls.append(path)
    if len(calls) == 9:
      with open(path, "ab") as file:
        file.write(b'{"kind":"photo","pho')
      raise OSError(errno.ENOSPC, "No space left on device")
    append(path, lines)

  monkeypatch.setattr(rows, "append_rows", fill)
  with pytest.raises(OSError, match="No space left"):
    run(config(folder, out=place))
  monkeypatch.undo()
  run(config(folder, out=place))
  assert facts(place) == facts(result[0])


def test_a_larger_limit_adds_photographs_and_another_attack_adds_its_rows(folder, tmp_path):
  place = tmp_path / "out"
  small = config(folder, out=place, limit=2)
  run(small, ("original", "u-fgsm"))
  before = (place / "rows.jsonl").read_bytes()
  run(dataclasses.replace(small, limit=4), ("original", "rp-fgsm"))
  after = (place / "rows.jsonl").read_bytes()
  assert after.startswith(before)
  counts = [row["attack"] for row in found(place)]
  assert {name: counts.count(name) for name in counts} == {
    "original": 4,
    "u-fgsm": 2,
    "rp-fgsm": 4,
  }


def test_an_image_that_vanished_is_reported_once_and_left_out(folder, tmp_path):
  place = tmp_path / "photos"
  for number, image in enumerate(toys.images(3)):
    path = place / "scene 0" / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  settings = config(folder, data=place, out=tmp_path / "out")
  plan, said = prepare(settings), []
  (place / "scene 0" / "1.png").unlink()
  for _ in range(2):
    study.run(plan, variants.baselines(plan.setup), say=said.append)
  assert [row["photo"] for row in found(plan.place, "failure")] == ["scene 0/1.png"]
  assert len(found(plan.place)) == 4
  assert sum(line.startswith("left out: ") for line in said) == 2


def test_a_cut_first_row_is_as_good_as_none(result, folder, tmp_path):
  place = copy(result, tmp_path / "out")
  (place / "rows.jsonl").write_bytes((result[0] / "rows.jsonl").read_bytes()[:100])
  run(config(folder, out=place), ("u-fgsm",))
  assert len(found(place, "run")) == 1


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"epsilon": 8.0}, "epsilon"),
    ({"seed": 12}, "seed"),
    ({"seen": ("toy/resnet50",)}, "networks"),
    ({"train": None}, "train"),
    ({"oracle_defenses": True}, "oracle_defenses"),
  ],
  ids=lambda value: value if isinstance(value, str) else None,
)
def test_rows_of_other_settings_are_not_mixed(result, folder, change, named):
  before = (result[0] / "rows.jsonl").read_bytes()
  with pytest.raises(ValueError, match=f"was begun with (another )?{named}"):
    prepare(config(folder, **change))
  assert (result[0] / "rows.jsonl").read_bytes() == before


def test_another_environment_is_worth_a_note(result, folder, tmp_path):
  place = copy(result, tmp_path / "out")
  content = (place / "rows.jsonl").read_text()
  (place / "rows.jsonl").write_text(content.replace('"jax":"', '"jax":"0.', 1))
  assert "versions.jax 0." in run(config(folder, out=place))[1][0]


def test_an_attack_of_the_same_name_with_other_settings_is_refused(result, folder):
  plan = prepare(config(folder))
  contender = variants.rp_variant(plan.setup)
  changed = dataclasses.replace(
    contender, config=dataclasses.replace(contender.config, step_size=2.0)
  )
  with pytest.raises(ValueError, match="rows of rp-fgsm with another config"):
    study.run(plan, [changed], say=lambda line: None)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"limit": 0}, "limit must be at least 1"),
    ({"slow_limit": 0}, "slow_limit must be at least 1"),
    ({"train_limit": 0}, "train_limit must be at least 1"),
    ({"budget": "huge"}, "budget must be 'quick' or 'paper'"),
    ({"seed": 2**32}, "seed must be in"),
    ({"epsilon": 256.0}, r"epsilon must be in 0\.\.255"),
    ({"epsilon": float("nan")}, r"epsilon must be in 0\.\.255"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"seen": ()}, "at least one seen"),
    ({"seen": ("toy/c",)}, "each network must be named once"),
    ({"reference": "toy/c"}, "reference must be one of the seen networks"),
    ({"keep": -2}, "keep must be -1"),
    ({"labels": "places365_val.txt", "data": None}, "name them with --data"),
  ],
  ids=lambda value: re.sub(r"\W+", " ", value) if isinstance(value, str) else None,
)
def test_a_bad_config_is_refused_before_anything_is_written(folder, tmp_path, changes, message):
  settings = dataclasses.replace(config(folder), out=tmp_path / "new", **changes)
  with pytest.raises(ValueError, match=message):
    prepare(settings)
  assert not (tmp_path / "new").exists()


def test_the_catalog_runs_and_shows_a_table(folder, tmp_path):
  place, said = tmp_path / "out", []
  plan = prepare(config(folder, out=place, limit=2, timed=1))
  catalog.run(plan, "table2", say=said.append)
  assert {path.name for path in place.iterdir()} == {
    "rows.jsonl", "run.json", "images", "table2.md", "table2.csv", "fig3.png", "index.html",
  } - {"fig3.png"}  # fmt: skip
  text = (place / "table2.md").read_text(encoding="utf-8")
  ranks = np.asarray([row["label_ranks"] for row in found(place)])
  right = f"{100 * (ranks[:, 0, 0] < 1).mean():.0f}"
  line = next(line for line in text.splitlines() if line.startswith("| b |"))
  assert line.split("|")[3].split()[0] == right


def test_titles_of_the_command_are_those_of_the_catalog():
  assert set(script.TITLES) == {*catalog.EXPERIMENTS, "all"}


def test_seconds_are_those_of_one_photograph_each(folder, tmp_path, monkeypatch):
  def few(setup):
    attacks = [each for each in variants.paper_attacks(setup) if each.name in CHOSEN]
    return attacks, variants.network_counts(setup)

  monkeypatch.setattr(catalog.timing, "timed_contenders", few)
  plan = prepare(config(folder, out=tmp_path / "out", limit=3, timed=2))
  catalog.timing.run(plan, say=lambda line: None)
  timed = [(row["attack"], row["photo"]) for row in found(plan.place, "timing")]
  assert len(timed) == len(set(timed))
  counts = {name: [attack for attack, _ in timed].count(name) for name, _ in timed}
  assert counts["rp-fgsm"] == counts["rp-fgsm+b"] == counts["rp-fgsm+resnet50"] == 2
  assert counts["jsma"] == 1  # slow ones on fewer
  before = len(journal.Journal(plan.place / "rows.jsonl").timed)
  catalog.timing.run(plan, say=lambda line: None)
  assert len(found(plan.place, "timing")) == before


def test_the_command_explains_itself_and_its_errors():
  shown = CliRunner().invoke(script.cli, ["table3", "--help"])
  assert shown.exit_code == 0
  assert "--slow-limit" in shown.output
  listed = CliRunner().invoke(script.cli, ["--help"]).output
  assert all(name in listed for name in script.TITLES)
  for words in (["table3", "--out", ""], ["--data=", "--out", "o"]):  # the latter: of the demo
    empty = CliRunner().invoke(script.cli, words)
    assert empty.exit_code == 2
    assert "must not be empty; is a variable not set?" in " ".join(empty.output.split())
  unknown = CliRunner().invoke(script.cli, ["table9"])
  assert unknown.exit_code == 2
  assert "table9" in unknown.output
  assert "table3" in unknown.output
