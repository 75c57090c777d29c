"""Which photo becomes which file: names, shares, leftovers."""

import os
import pathlib

import pytest

from rpfgsm_jax import atomic
from rpfgsm_jax.data.folders import image_id
from rpfgsm_jax.data.result_names import output_names
from rpfgsm_jax.jobs import plan
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError, Shard

NAMES = {
  "suffix": (["a.JPG", "sub/b.c.jpeg"], ["a.png", "sub/b.c.png"]),
  "one stem": (["a.jpg", "a.png", "b.png"], ["a.jpg.png", "a.png.png", "b.png"]),
  "case": (["A.jpg", "a.jpg", "b.gif"], ["A.jpg.png", "a.jpg.png", "b.png"]),
  "case of a folder": (["X/a.jpg", "x/a.png"], ["X/a.jpg.png", "x/a.png.png"]),
  "accents": (["caf\u00e9.jpg", "cafe\u0301.jpg"], ["caf\u00e9.jpg.png", "cafe\u0301.jpg.png"]),
  "a whole name": (
    ["a.jpg", "a.jpg.png", "a.png"],
    ["a.jpg.png", "a.jpg.png.png", "a.png.png"],
  ),
  "a folder's name": (["a.jpg", "a.png/b.jpg"], ["a.jpg.png", "a.png/b.png"]),
  "a raw photo": (["a.CR2", "a.jpg"], ["a.CR2.png", "a.png"]),
  "hidden stem": (["a..jpg"], ["a..png"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_photo_has_a_name_of_its_own(name):
  relatives, expected = NAMES[name]
  assert output_names(relatives) == expected


def tasks(out, *relatives):
  return [
    Task(pathlib.Path("in") / each, each, image_id(each), out / name)
    for each, name in zip(relatives, output_names(relatives), strict=True)
  ]


def test_shards_part_the_photos_and_new_files_move_none():
  names = [f"photo {index}.jpg" for index in range(100)]
  out = pathlib.Path("out")
  shares = [
    {each.relative for each in plan.share(tasks(out, *names), Shard(index, 3))}
    for index in range(3)
  ]
  assert sorted(set.union(*shares)) == sorted(names)
  assert sum(map(len, shares)) == 100
  assert min(map(len, shares)) > 15
  later = tasks(out, "new.jpg", *names)
  for index, share in enumerate(shares):
    assert share <= {each.relative for each in plan.share(later, Shard(index, 3))}


@pytest.mark.parametrize("text", ["3/3", "1", "a/2", "-1/2", "1/0", "1/2/3", " 0/1", ""])
def test_a_shard_is_i_of_n_counted_from_zero(text):
  with pytest.raises(SettingsError, match=r"must be I/N with 0 <= I < N, got .*0/3, 1/3 and 2/3"):
    Shard.parse(text)


def test_a_shard_is_read_and_written_alike():
  assert str(Shard.parse("10/12")) == "10/12"
  assert Shard.parse("0/1").holds(7)


def test_names_that_one_disk_confuses_are_refused_there_only(tmp_path):
  with pytest.raises(SettingsError, match=r"A\.jpg and a\.jpg; rename one"):
    plan.check_names_differ(tasks(tmp_path, "A.jpg", "a.jpg"))


def test_only_temporary_files_of_ours_are_removed(tmp_path):
  token = "0123456789abcdef"
  ours = [f".photo.{token}.partial.png", f".job.{token}.partial.json", f"..{token}.partial.png"]
  others = [".photo.partial.png", f"photo.{token}.partial.png", f".a.{token}.partial.gif", "a.png"]
  for name in [*ours, *others]:
    (tmp_path / name).touch()
  folders = [tmp_path, tmp_path / "absent"]
  now = (tmp_path / "a.png").stat().st_mtime

  def removed(alone):
    before = len(os.listdir(tmp_path))
    atomic.remove_leftovers(folders, alone=alone, now=now)
    return before - len(os.listdir(tmp_path))

  assert removed(alone=False) == 0
  os.utime(tmp_path / ours[0], (now - 4000, now - 4000))
  assert removed(alone=False) == 1
  assert removed(alone=True) == 2
  assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_file_in_the_way_of_a_folder_is_found_before_the_work(tmp_path):
  (tmp_path / "sub").touch()
  with pytest.raises(JobError, match=r"sub is in the way: .* must be a folder; move the file"):
    plan.check_outputs_writable(tasks(tmp_path, "sub/deep/a.jpg"))


def test_a_read_only_folder_is_found_before_the_work(tmp_path, monkeypatch):
  (tmp_path / "sub").mkdir()
  found = tasks(tmp_path, "a.jpg", "sub/deep/a.jpg")
  plan.check_outputs_writable(found)
  # Permissions do not bind the superuser, who may run this.
  monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "sub")
  with pytest.raises(JobError, match=r"sub cannot be written to; change its permissions"):
    plan.check_outputs_writable(found)


def test_a_plan_names_the_photos_in_their_order(tmp_path):
  for name in ("b.jpg", "sub/a.jpg"):
    (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / name).touch()
  job = Job(sources=[tmp_path / "in"], out=tmp_path / "out", networks=())
  made = plan.make_plan(job)
  outputs = [task.output.relative_to(tmp_path / "out").as_posix() for task in made.tasks]
  assert outputs == ["b.png", "sub/a.png"]
  assert [task.image_id for task in made.tasks] == [image_id("b.jpg"), image_id("sub/a.jpg")]
