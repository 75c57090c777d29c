"""Unseen networks of another size and other classes beside the rest: rows, rates, tables."""

import dataclasses
import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest
import synthetic_rows as synthetic
import toy_classifiers as toys
from PIL import Image

import rpfgsm_jax as rp
from experiments import (
  catalog,
  claims,
  claims_list,
  fullsize,
  options,
  rows,
  show_attacks,
  show_effects,
  show_figures,
  show_fullsize,
  show_rates,
  study,
  variants,
)
from experiments.results import TRUE
from rpfgsm_jax import data
from rpfgsm_jax.defenses import IDENTITY, REQUANTIZE, DefenseBank
from rpfgsm_jax.process import CompileCache

LACKS = "has no class for {} of {} photos: not counted."


def _stranger_apply(params, images):
  return images.reshape(len(images), -1) @ params


def stranger() -> rp.Classifier:
  """Takes 20 x 14 pixels, and of the scenes knows the first one, in another spelling."""
  kernel = np.random.default_rng(9).normal(size=(20 * 14 * 3, 6))
  names = ("a", "b", "Scene-0", "d", "e", "f")
  return rp.Classifier.from_function(
    _stranger_apply,
    jnp.asarray(kernel, jnp.float32),
    class_names=names,
    image_size=(20, 14),
    name="far/stranger",
  )


NETS = {
  network.name: network
  for network in (toys.linear(1, name="toy/a"), toys.convolution(4, name="toy/c"), stranger())
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Five photos of two scenes."""
  place = tmp_path_factory.mktemp("photos")
  for number, image in enumerate(toys.images(5)):
    (place / f"scene {number % 2}").mkdir(exist_ok=True)
    Image.fromarray(image).save(place / f"scene {number % 2}" / f"{number}.png")
  return place


@pytest.fixture(scope="module")
def measured(photos, tmp_path_factory):
  """A study of a few attacks: its folder, and what it says of each photo behind each attack."""
  config = options.StudyConfig(
    data=photos,
    out=tmp_path_factory.mktemp("unseen") / "out",
    seen=("toy/a",),
    unseen=("toy/c", "far/stranger"),
    bank=DefenseBank((IDENTITY, REQUANTIZE)),
    batch_size=3,
    keep=-1,
    seed=1,
  )
  plan = study.prepare(config, load=NETS.__getitem__)
  contenders = {each.name: each for each in variants.paper_attacks(plan.setup)}
  some = [*variants.baselines(plan.setup), contenders["u-fgsm"]]
  study.run(plan, some, say=lambda line: None)
  catalog.show(plan.place, ("table2", "table3", "table4"), say=lambda line: None)
  found = [row for row in rows.read_rows(plan.place / "rows.jsonl") if row["kind"] == "photo"]
  return plan.place, found


def test_a_stranger_sees_the_images_resized_and_is_asked_by_name(measured):
  place, found = measured
  assert len(found) == 15
  for row in found:
    image = data.read_image(place / "images" / row["attack"] / row["png"])
    net = NETS["far/stranger"]
    order = np.argsort(-np.asarray(net(data.resize(image, net.image_size)[None])[0]), kind="stable")
    assert row["classes"][2] == order[:5].tolist()
    if row["photo"].startswith("scene 0/"):
      assert row["label_ranks"][2][0] == order.tolist().index(2)
    else:
      assert set(row["label_ranks"][2]) == {-1}
    assert min(map(min, row["label_ranks"][:2])) >= 0


def test_each_unseen_network_has_its_columns(measured):
  place, found = measured
  text = (place / "table3.md").read_text(encoding="utf-8")
  head = next(line for line in text.splitlines() if line.startswith("| attack | on | PSNR"))
  assert "| c | c, defended | stranger | stranger, defended |" in head
  assert f"stranger {LACKS.format(2, 5)}" in text
  line = next(line for line in text.splitlines() if line.startswith("| U-FGSM | a |"))
  asked = [row for row in found if row["attack"] == "u-fgsm" and row["photo"][6] == "0"]
  misled = 100 * np.mean([row["label_ranks"][2][0] >= 1 for row in asked])
  assert line.split("|")[7].split()[0] == f"{misled:.0f}"
  accuracy = (place / "table2.md").read_text(encoding="utf-8")
  assert "| stranger | unseen |" in accuracy
  assert f"stranger {LACKS.format(2, 5)}" in accuracy
  assert (place / "table4.png").is_file()


def test_seen_networks_share_their_classes(photos, tmp_path):
  config = options.StudyConfig(
    data=photos, out=tmp_path / "out", seen=("toy/a", "far/stranger"), unseen=("toy/c",)
  )
  with pytest.raises(ValueError, match="classifiers must share one list of classes"):
    study.prepare(config, load=NETS.__getitem__)


# Rows that never ran


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  """All attacks of the tables; the second unseen network lacks the class of three of 12 photos."""
  networks = synthetic.networks(("alexnet", "resnet50"), ("densenet161", "vit"))
  networks = (*networks[:3], dataclasses.replace(networks[3], class_names=("x", "y")))
  setup = variants.Setup(networks=networks, reference=networks[1], bank=synthetic.BANK)
  wanted = {}
  for name in ("table3", "table5", "table7", "defaults", "fig5"):
    wanted |= {each.name: each for each in catalog.EXPERIMENTS[name].contenders(setup)}
  generator, names, facts = np.random.default_rng(0), synthetic.names(12), {}
  for name, each in wanted.items():
    used = [network.title for network in each.networks]
    facts[name] = synthetic.random_facts(generator, names, 4, used)
    facts[name].label_ranks[[1, 4, 6], 3] = -1
    targets = np.full(12, 1.0 if getattr(each.config, "targeted", False) else np.nan)
    facts[name].numbers |= {"success": np.ones(12), "target": targets}
  training = synthetic.training_distances(generator, 30, 4)
  path = tmp_path_factory.mktemp("synthetic") / "rows.jsonl"
  made = synthetic.read(path, setup, facts, training=training)
  made.header |= {"image_size": [12, 10], "brisque": False, "device": "cpu"}
  return made


def test_a_network_that_lacks_the_class_has_no_say(results):
  names = results.outcomes["rp-fgsm"].photos
  ranks = results.outcomes["rp-fgsm"].label_ranks
  for networks, defended in itertools.product(([3], [2, 3], [0]), (False, True)):
    settings = range(1, 6) if defended else [0]
    options = {"networks": networks, "defended": defended, "top": 1}
    found = results.misled("rp-fgsm", names, **options)
    for place, value in enumerate(found):
      asked = [
        ranks[place, network, s] >= 1
        for network in networks
        for s in settings
        if ranks[place, network, s] >= 0
      ]
      assert (value == np.mean(asked)) if asked else np.isnan(value)
    assert results.rate("rp-fgsm", names, **options).count == (9 if networks == [3] else 12)
  own = results.misled("rp-fgsm", names, networks=[3], defended=False, top=1, field="ranks")
  assert np.isfinite(own).all()
  assert results.scene == TRUE


def test_a_measure_that_no_row_has_is_no_column(results, measured):
  quality = show_attacks.table3(results)[-2]
  assert quality.columns[-6:] == ("SSIM", "MAD", "BRISQUE", "values changed", "L2", "L∞")
  assert "S-CIELAB" not in quality.note
  text = (measured[0] / "table3.md").read_text(encoding="utf-8")
  assert "| PSNR | SSIM | MAD | S-CIELAB | BRISQUE | values changed | L2 | L∞ |" in text
  (line,) = re.findall(r"^\| U-FGSM \| a \|.* (\S+) \| n/a \| \d+ \| \S+ \| \d+ \|$", text, re.M)
  asked = [row for row in measured[1] if row["attack"] == "u-fgsm"]
  assert float(line) == pytest.approx(np.mean([row["scielab"] for row in asked]), abs=0.006)


def test_every_table_says_how_many_were_not_counted(results):
  tables = [
    *show_attacks.table2(results),
    *show_attacks.table3(results)[:3],
    *show_effects.table5(results),
    *show_effects.table7(results),
    claims.table(results, claims_list.claims_of(results.setup)),
  ]
  for table in tables[:2] + tables[4:]:
    assert f"vit {LACKS.format(3, 12)}" in table.note, table.title
  assert "Unseen: the mean of densenet161, vit." in tables[-1].note
  for table in show_effects.table5(results):
    assert {"densenet161 top-1", "vit top-1", "vit +D top-5"} <= set(table.columns)
    numbers = [cell.value for line in table.rows for cell in line[2:]]
    assert np.isfinite(numbers).all()
  assert show_effects.defaults(results)[0].rows
  lines = [line for line in show_rates.every_rate(results).rows if line[4] == "top-1 true"]
  assert {line[2]: line[1].value for line in lines} == {
    "alexnet": 12,
    "resnet50": 12,
    "densenet161": 12,
    "vit": 9,
  }
  assert show_figures.figure4(results) is not None
  assert show_figures.figure5(results) is not None


# Photos at their own size


@pytest.fixture
def at_their_size(photos, tmp_path, monkeypatch):
  monkeypatch.setattr(rp, "load_classifier", lambda name: NETS[name])
  config = fullsize.FullsizeConfig(
    data=photos,
    out=tmp_path / "out",
    megapixels=0.001,
    classifiers="toy",
    seen=("a",),
    held_out=("c", "far/stranger"),
    settings=("photo itself", "random noise, eps 8"),
  )
  fullsize.run(config, cache=CompileCache(None, False), say=lambda line: None)
  show_fullsize.show(config.out)
  return config.out


def test_photos_at_their_own_size_are_told_by_their_true_scene(at_their_size):
  _, results = show_fullsize.read_results(at_their_size)
  main, scenes = show_fullsize.make_tables(results)[:2]
  assert main.columns[4:6] == ["c, as written", "c, JPEG 90"]
  assert main.columns[9] == "stranger, as written"
  assert scenes.columns[4:] == [
    f"{title}, top-{top}" for title in ("a", "c", "stranger") for top in (1, 5)
  ]
  assert f"stranger {LACKS.format(2, 5)}" in scenes.note
  assert "a attacked (small), c held out (small), stranger held out (small)" in scenes.note
  for line in scenes.rows:
    some = results[line[0]]
    for place, first in ((1, 6), (2, 8)):
      asked = [
        (row["scenes"][place], [name for name, _ in row["verdict"].networks[place].after])
        for row in some.values()
        if row["scenes"][place] is not None
      ]
      assert len(asked) == (5 if place == 1 else 3)
      assert {own for own, _ in asked} <= {"scene 0", "scene 1", "Scene-0"}
      assert line[first].value == np.mean([own == after[0] for own, after in asked])
      assert line[first + 1].value == np.mean([own in after[:5] for own, after in asked])
  assert "True scene still named" in (at_their_size / "fullsize.md").read_text(encoding="utf-8")


def test_without_class_folders_there_is_no_such_table(at_their_size):
  _, results = show_fullsize.read_results(at_their_size)
  for some in results.values():
    for row in some.values():
      del row["scenes"]
  titles = [table.title for table in show_fullsize.make_tables(results)]
  assert "True scene still named" not in titles
