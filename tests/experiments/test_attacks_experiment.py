"""The comparison of all attacks, end to end on toy networks: rows, table, resuming, refusals."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from PIL import Image

import rpfgsm_jax as rp
from experiments import attack_table, attacks, lineup, paper_attacks, rows
from experiments import run as script
from rpfgsm_jax import data
from rpfgsm_jax.defenses import IDENTITY, REQUANTIZE, DefenseBank
from rpfgsm_jax.evaluation import wilson_interval

BANK = DefenseBank((IDENTITY, REQUANTIZE))
NETS = {"toy/resnet50": toys.linear(1), "toy/b": toys.convolution(2), "toy/c": toys.convolution(4)}
CHOSEN = ("deepfool", "u-fgsm", "rp-fgsm", "jsma")


def config(place, **changes):
  options = {
    "out": place / "out",
    "data": place / "photos",
    "seen": ("toy/b", "toy/resnet50"),
    "unseen": ("toy/c",),
    "attacks": CHOSEN,
    "limit": 5,
    "slow_limit": 2,
    "batch_size": 3,
    "bank": BANK,
    "seed": 11,
  }
  return attacks.AttacksConfig(**options | changes)


def run(settings):
  said = []
  place = attacks.run(attacks.prepare(settings, load=NETS.__getitem__), say=said.append)
  return place, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Six images in class folders, and a broken one that nobody chooses."""
  place = tmp_path_factory.mktemp("attacks")
  for number, image in enumerate(toys.images(6)):
    path = place / "photos" / f"scene {number % 2}" / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  return place


@pytest.fixture(scope="module")
def result(folder):
  return run(config(folder))


def photo_rows(place):
  return [row for row in rows.read_rows(place / "rows.jsonl") if row["kind"] == "photo"]


def test_a_row_for_each_photograph_and_attack_and_fewer_for_the_slow(result):
  counts = {}
  for row in photo_rows(result[0]):
    counts[row["attack"]] = counts.get(row["attack"], 0) + 1
  fast = {name: 5 for name in ("original", "sign-noise", "deepfool", "u-fgsm", "rp-fgsm")}
  assert counts == fast | {"jsma": 2}
  pairs = [(row["photo"], row["attack"]) for row in photo_rows(result[0])]
  assert len(pairs) == len(set(pairs))
  slow = {photo for photo, attack in pairs if attack == "jsma"}
  assert slow < {photo for photo, _ in pairs}
  assert {photo.split("/")[0] for photo in slow} == {"scene 0", "scene 1"}


def test_rows_say_what_the_attack_by_itself_does(result, folder):
  net, found = NETS["toy/resnet50"], photo_rows(result[0])
  for row in (row for row in found if row["attack"] == "deepfool"):
    image = data.read_image(folder / "photos" / row["photo"])
    raw = rp.deepfool(jax.random.key(11), image[None], [net], rp.DeepFoolConfig(quantize=False))
    written = np.clip(np.rint(np.asarray(raw.adversarial)), 0, 255)
    change = written[0] - image
    assert row["success"] == bool(raw.success[0])
    assert row["evaluations"] == int(raw.gradient_evaluations[0])
    clean, after = (int(net(x)[0].argmax()) for x in (image[None], written))
    assert row["written_success"] == (clean != after)
    assert row["l0"] == np.count_nonzero(change)
    assert row["linf"] == np.abs(change).max()
    assert row["l2"] == pytest.approx(np.sqrt((change.astype(float) ** 2).sum()), abs=1e-3)
    reference = 1  # toy/resnet50 is the second seen network
    order = np.argsort(-np.asarray(net(written)[0]), kind="stable").tolist()
    assert row["ranks"][reference][0] == order.index(clean)
    assert row["label_ranks"][reference][0] == order.index(row["label"])


def test_the_table_repeats_the_rows(result):
  text = (result[0] / "table.md").read_text(encoding="utf-8")
  found = [row for row in photo_rows(result[0]) if row["attack"] == "rp-fgsm"]
  ranks = np.asarray([row["label_ranks"] for row in found])
  cells = [
    " / ".join(f"{100 * (ranks[:, network, part] >= top).mean():.0f}" for top in (1, 5))
    for network in (1, 2)
    for part in (slice(0, 1), slice(1, None))
  ]
  line = next(line for line in text.splitlines() if line.startswith("| RP-FGSM |"))
  assert [cell.strip() for cell in line.split("|")[8:12]] == cells
  assert line.split("|")[2:5] == [" 2 networks ", " 5 ", " 40 "]
  shared = {row["photo"] for row in photo_rows(result[0]) if row["attack"] == "jsma"}
  some = np.asarray([row["label_ranks"] for row in found if row["photo"] in shared])[:, 2, 1:] >= 1
  low, high = wilson_interval(some.mean(axis=1).sum(), 2)
  expected = f"| RP-FGSM | {100 * some.mean():.1f} % [{100 * low:.0f}, {100 * high:.0f}] |"
  assert expected in text
  baseline = np.asarray(
    [
      row["label_ranks"]
      for row in photo_rows(result[0])
      if row["attack"] == "original" and row["photo"] in shared
    ]
  )
  line = next(line for line in text.splitlines() if line.startswith("| original, of these |"))
  assert line.split("|")[3] == " 2 "
  assert line.split("|")[10].split("/")[0].strip() == f"{100 * (baseline[:, 2, 0] >= 1).mean():.0f}"
  assert "Budget of the slow attacks: **quick**" in text


def test_run_again_it_goes_on_where_it_stopped(result, folder, tmp_path):
  """Cut in the middle of a row: the piece goes, the missing rows come, no other is touched."""
  place = tmp_path / "out"
  place.mkdir()
  for name in attacks.ENTRIES:
    (place / name).write_bytes((result[0] / name).read_bytes())
  whole = (place / "rows.jsonl").read_bytes()
  kept = whole[: len(whole) * 2 // 3]
  (place / "rows.jsonl").write_bytes(kept)
  _, said = run(config(folder, out=place, seed=None))
  assert "taken away" in said[0]
  again = (place / "rows.jsonl").read_bytes()
  assert again.startswith(kept[: kept.rindex(b"\n") + 1])

  def facts(content):
    lines = [json.loads(line) for line in content.splitlines()]
    timing = ("seconds", "compiled")
    return sorted(json.dumps({k: v for k, v in line.items() if k not in timing}) for line in lines)

  assert facts(again) == facts(whole)
  assert run(config(folder, out=place, seed=None))[1][0].startswith("0 of 27 rows")


def test_a_cut_first_row_is_as_good_as_none(result, folder, tmp_path):
  place = tmp_path / "out"
  place.mkdir()
  (place / "run.json").write_bytes((result[0] / "run.json").read_bytes())
  (place / "rows.jsonl").write_bytes((result[0] / "rows.jsonl").read_bytes()[:100])
  run(config(folder, out=place, attacks=("u-fgsm",)))
  assert [row["kind"] for row in rows.read_rows(place / "rows.jsonl")].count("run") == 1


@pytest.mark.parametrize(
  ("change", "named"),
  [({"epsilon": 8.0}, "epsilon, attacks"), ({"seed": 12}, "seed"), ({"limit": 4}, "photos")],
)
def test_rows_of_other_settings_are_not_mixed(result, folder, change, named):
  before = (result[0] / "rows.jsonl").read_bytes()
  with pytest.raises(ValueError, match=f"made with other settings.*{named}"):
    attacks.prepare(config(folder, **change), load=NETS.__getitem__)
  assert (result[0] / "rows.jsonl").read_bytes() == before


def test_all_attacks_of_the_paper_are_there():
  networks = lineup.load_networks(("toy/resnet50", "toy/b"), ("toy/c",), NETS.__getitem__)
  found = paper_attacks.paper_attacks(networks, networks[0], 16.0, "quick", BANK)
  used = {contender.name: len(contender.networks) for contender in found if contender.attack}
  assert used == {
    "jsma": 1,
    "cw": 1,
    "deepfool": 1,
    "sparsefool": 1,
    "u-fgsm": 1,
    "r-fgsm": 1,
    "l-fgsm": 1,
    "p-fgsm": 1,
    "eot": 1,
    "di-fgsm-targeted": 2,
    "di-fgsm": 2,
    "e-fgsm": 2,
    "rp-fgsm-targeted": 2,
    "rp-fgsm": 2,
  }


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"limit": 0}, "limit must be at least 1"),
    ({"slow_limit": 0}, "slow_limit must be at least 1"),
    ({"budget": "huge"}, "budget must be 'quick' or 'paper'"),
    ({"attacks": ("pgd",)}, "attacks must be some of jsma, cw, .*; got pgd"),
    ({"seed": 2**32}, "seed must be in"),
    ({"epsilon": 256.0}, r"epsilon must be in 0\.\.255"),
  ],
)
def test_a_bad_config_is_refused_before_anything_is_written(folder, tmp_path, changes, message):
  settings = dataclasses.replace(config(folder), out=tmp_path / "new", **changes)
  with pytest.raises(ValueError, match=message):
    attacks.prepare(settings, load=NETS.__getitem__)
  assert not (tmp_path / "new").exists()


def test_a_file_that_is_no_experiments_is_refused(tmp_path):
  rows.append_rows(tmp_path / "rows.jsonl", [{"kind": "photo"}])
  with pytest.raises(rows.RowsError, match="must begin with a row of kind 'run'"):
    attack_table.write_table(tmp_path)


def test_the_command_explains_itself_and_its_errors():
  shown = CliRunner().invoke(script.cli, ["attacks", "--help"])
  assert shown.exit_code == 0
  assert "--slow-limit" in shown.output
  failed = CliRunner().invoke(script.cli, ["attacks", "--budget", "huge"])
  assert failed.exit_code == 2
  assert "huge" in failed.output
