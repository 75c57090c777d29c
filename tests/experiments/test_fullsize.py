"""Photos at their own size: rows of real runs on toy networks, tables of rows made up."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import toy_classifiers as toys
from PIL import Image

import rpfgsm_jax as rp
from experiments import fullsize, rows, show_fullsize
from rpfgsm_jax.photos.judging import CONDITIONS
from rpfgsm_jax.photos.verdict import NetworkVerdict, Verdict, judge
from rpfgsm_jax.process import CompileCache

NO_CACHE = CompileCache(None, False)
QUICK = ("photo itself", "random noise, eps 8", "at the networks' size, eps 4", "by texture, eps 4")


@pytest.fixture
def folder(tmp_path, monkeypatch, photo):
  """Three small photos, and toy networks under the bundled names."""
  networks = dict(zip(("a", "b", "c"), toys.three(), strict=True))
  monkeypatch.setattr(rp, "load_classifier", lambda name: networks[name.rpartition("/")[2]])
  (tmp_path / "in").mkdir()
  for number in range(3):
    part = photo[30 * number : 30 * number + 40, : 48 - 8 * (number == 2)]
    Image.fromarray(part).save(tmp_path / "in" / f"{number}.png")
  return tmp_path


def config_of(folder, **changes) -> fullsize.FullsizeConfig:
  return fullsize.FullsizeConfig(
    data=folder / "in",
    out=folder / "out",
    megapixels=0.001,
    seen=("a", "b"),
    held_out=("c",),
    settings=QUICK,
    **changes,
  )


def run(config: fullsize.FullsizeConfig) -> list[dict]:
  fullsize.run(config, cache=NO_CACHE, say=lambda line: None)
  return [row for row in rows.read_rows(config.out / "rows.jsonl") if row["kind"] == "photo"]


@pytest.mark.long
def test_every_photo_is_judged_in_every_setting_once(folder):
  first = run(config_of(folder, limit=2))
  assert len(first) == 8
  found = run(config_of(folder))
  assert found[:8] == first
  pairs = [(row["setting"], row["photo"]) for row in found]
  assert sorted(pairs) == sorted((s, f"{n}.png") for s in QUICK for n in range(3))
  by_setting = {name: [row for row in found if row["setting"] == name] for name in QUICK}
  for name, largest in zip(QUICK, (0, 8, 4, 4), strict=True):
    changes = {row["verdict"]["largest_change"] for row in by_setting[name]}
    assert changes == {largest}
  # (width, height): the photos' own, or the networks'.
  own = sorted(tuple(row["size"]) for row in by_setting["by texture, eps 4"])
  assert own == [(40, 40), (48, 40), (48, 40)]
  assert {tuple(r["size"]) for r in by_setting["at the networks' size, eps 4"]} == {(10, 12)}
  names = [network["name"] for network in found[0]["verdict"]["networks"]]
  assert names == ["linear 1", "convolution 2", "convolution 3"]
  show_fullsize.show(folder / "out")
  assert "by texture, eps 4" in (folder / "out" / "fullsize.md").read_text()


def test_a_small_photo_is_enlarged_and_a_large_one_is_not(folder):
  quick = dataclasses.replace(config_of(folder), settings=("photo itself",), megapixels=0.01)
  sizes = {tuple(row["size"]) for row in run(quick)}
  assert sizes == {(112, 93), (102, 102)}  # about 10,486 pixels
  small = dataclasses.replace(quick, out=folder / "small", megapixels=0.0001)
  assert {tuple(row["size"]) for row in run(small)} == {(48, 40), (40, 40)}


def test_other_settings_in_the_same_folder_are_refused(folder):
  run(dataclasses.replace(config_of(folder), settings=("photo itself",)))
  with pytest.raises(ValueError, match="begun with another seed"):
    run(config_of(folder, seed=2))


def test_photos_of_another_folder_are_not_mixed_in(folder):
  """Names repeat from camera to camera: rows of one folder would pass for another's."""
  quick = dataclasses.replace(config_of(folder, limit=1), settings=("photo itself",))
  run(quick)
  before = (folder / "out" / "rows.jsonl").read_bytes()
  shutil.copytree(folder / "in", folder / "other")
  for other in (folder / "other", None):
    with pytest.raises(ValueError, match=r"was begun with data = .*in, got"):
      run(dataclasses.replace(quick, data=other))
  assert (folder / "out" / "rows.jsonl").read_bytes() == before


def test_rows_that_do_not_say_which_photos_are_refused(folder):
  """Those of an older version, which had no private record either."""
  quick = dataclasses.replace(config_of(folder), settings=("photo itself",))
  run(quick)
  header, *others = rows.read_rows(folder / "out" / "rows.jsonl")
  del header["data"]
  for name in ("rows.jsonl", "run.json"):
    (folder / "out" / name).unlink()
  rows.append_rows(folder / "out" / "rows.jsonl", [header, *others])
  with pytest.raises(ValueError, match="was begun with data = nothing, got"):
    run(quick)


def test_a_folder_of_something_else_is_refused(folder):
  (folder / "out").mkdir()
  (folder / "out" / "mine.txt").write_text("mine")
  with pytest.raises(ValueError, match=r"holds mine\.txt and was not written by it"):
    run(config_of(folder))


def test_an_unknown_setting_is_named(folder):
  config = dataclasses.replace(config_of(folder), settings=("even", "odd"))
  with pytest.raises(ValueError, match=r"--setting must be among .*, got \['odd'\]"):
    run(config)


def made_up(setting: fullsize.Setting, misled: list[bool], similarity: float, psnr: float):
  """The rows of a setting; the held-out network is misled as given behind JPEG 75 alone."""
  for number, each in enumerate(misled):
    networks = tuple(
      NetworkVerdict(
        name=name,
        held_out=held_out,
        before=(("kitchen", 0.9), ("bar", 0.1)),
        after=(("bar", 0.9), ("kitchen", 0.1)),
        misled={c: (each if held_out and c == "JPEG 75" else True) for c in CONDITIONS},
      )
      for name, held_out in (("seen", False), ("unseen", True))
    )
    verdict = Verdict(
      status=judge(networks), networks=networks, psnr=psnr, ssim=similarity, largest_change=1
    )
    yield {
      "kind": "photo",
      "setting": setting.name,
      "photo": f"{number}.jpg",
      "size": [9, 9],
      "bytes": 1,
      "seconds": 2.0,
      "verdict": verdict.to_json(),
    }


@pytest.fixture
def results(tmp_path):
  """Ten photos: even changes protect 2, 6, 10 of them; by texture 6."""
  settings = {setting.name: setting for setting in fullsize.SETTINGS}
  lines = [{"kind": "run", "experiment": "fullsize", "photos": "ten", "command": "run"}]
  for name, count, similarity, psnr in (
    ("even, eps 4", 2, 0.98, 40.0),
    ("even, eps 8", 7, 0.88, 34.0),
    ("even, eps 16", 10, 0.70, 27.0),
    ("by texture, eps 8", 5, 0.96, 36.0),
    ("at the networks' size, eps 8", 9, 0.9, 33.0),
  ):
    misled = [number < count for number in range(10)]
    lines += made_up(settings[name], misled, similarity, psnr)
  rows.append_rows(tmp_path / "rows.jsonl", lines)
  return show_fullsize.read_results(tmp_path)[1]


def cells(table) -> list[list]:
  return [[getattr(cell, "value", cell) for cell in row] for row in table.rows]


def test_the_tables_count(results):
  every, equal, sizes = show_fullsize.make_tables(results)
  lines = {row[0]: row[1:] for row in cells(every)}
  place = every.columns.index("JPEG 75") - 1
  assert lines["even, eps 8"][:3] == [10, 34.0, pytest.approx(0.88)]
  assert lines["even, eps 8"][place] == 0.7
  assert lines["even, eps 8"][place - 1] == 1.0  # JPEG 90
  assert lines["even, eps 8"][-2] == 0.7  # protected
  # Halfway from 2 of ten to 7 of ten is 3/5 of the way to 5: eps 6.4, and so on.
  found = {row[1]: row[2:] for row in cells(equal)}
  np.testing.assert_allclose(found["even"], [6.4, 0.92, 36.4])
  small = {row[0]: row[1:] for row in cells(sizes)}
  assert small["by texture, eps 8"][:2] == [10, 0.0]  # as written both always mislead
  assert small["by texture, eps 8"][2] == pytest.approx(-0.5)  # 5 of ten against PNG's ten
  assert "even, eps 4" not in small  # the networks' size has no such row here


def test_equal_protection_is_that_of_the_same_photos(results):
  del results["by texture, eps 8"]["2.jpg"], results["by texture, eps 8"]["3.jpg"]
  equal = show_fullsize.make_tables(results)[1]
  # Of the other eight: by texture 3, even 2 and then 5, so that a third of the way is left.
  found = {row[1]: row[2:] for row in cells(equal)}
  np.testing.assert_allclose(found["even"], [4 + 4 / 3, 0.98 - 0.1 / 3, 38.0])


def test_the_figure_has_a_line_a_family_with_two_settings(results):
  left, right = show_fullsize.make_figure(results).axes
  assert [line.get_label() for line in left.get_lines()] == ["even"]
  np.testing.assert_allclose(left.get_lines()[0].get_xydata(), [[0.98, 20], [0.88, 70], [0.7, 100]])
  np.testing.assert_allclose(right.get_lines()[0].get_xydata()[:, 0], [40, 34, 27])
  few = {"photo itself": results["even, eps 4"]}
  assert show_fullsize.make_figure(few) is None


def test_settings_have_names_of_their_own_and_configs_that_differ():
  names = [setting.name for setting in fullsize.SETTINGS]
  assert len(set(names)) == len(names)
  told = [
    (s.how, s.epsilon, json.dumps(dataclasses.asdict(s.config(1)), default=repr))
    for s in fullsize.SETTINGS
  ]
  assert len(set(told)) == len(told)
