"""Which photos are meant: names for folders, files and patterns; what is left out or refused."""

import os
import pathlib

import pytest

from rpfgsm_jax.jobs import plan
from rpfgsm_jax.jobs.spec import Job, SettingsError
from rpfgsm_jax.result_folder import FolderError


@pytest.fixture
def album(tmp_path, monkeypatch):
  """Folders of files; the current folder is the one above them."""
  names = (
    "trip/a.jpg", "trip/B.JPEG", "trip/day 1/a.jpg", "trip/day 1/deep/c.png", "trip/notes.txt",
    "trip/.hidden.jpg", "trip/.thumbs/t.jpg", "home/a.jpg", "home/trip/z.webp", "loose.png",
    "2019/IMG.jpg", "2020/IMG.jpg", "scan",
  )  # fmt: skip
  for name in names:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  monkeypatch.chdir(tmp_path)
  return tmp_path


def found_in(*given):
  return plan.make_plan(Job(sources=given, out=pathlib.Path("out"), networks=()))


def names(*given):
  return {each.relative: str(each.path) for each in found_in(*given).tasks}


NAMED = {
  "a folder": (
    ["trip"],
    {
      "B.JPEG": "trip/B.JPEG",
      "a.jpg": "trip/a.jpg",
      "day 1/a.jpg": "trip/day 1/a.jpg",
      "day 1/deep/c.png": "trip/day 1/deep/c.png",
    },
  ),
  "two folders": (
    ["trip/day 1", "./home/"],
    {
      "day 1/a.jpg": "trip/day 1/a.jpg",
      "day 1/deep/c.png": "trip/day 1/deep/c.png",
      "home/a.jpg": "home/a.jpg",
      "home/trip/z.webp": "home/trip/z.webp",
    },
  ),
  "two folders of one name": (
    ["trip", "home/trip"],
    {
      "trip/B.JPEG": "trip/B.JPEG",
      "trip/a.jpg": "trip/a.jpg",
      "trip/day 1/a.jpg": "trip/day 1/a.jpg",
      "trip/day 1/deep/c.png": "trip/day 1/deep/c.png",
      "trip/z.webp": "home/trip/z.webp",
    },
  ),
  "a file": (["trip/day 1/deep/c.png"], {"c.png": "trip/day 1/deep/c.png"}),
  "a file of any suffix": (["scan"], {"scan": "scan"}),
  "files of one name": (
    ["2019/IMG.jpg", "2020/IMG.jpg", "loose.png"],
    {"2019/IMG.jpg": "2019/IMG.jpg", "2020/IMG.jpg": "2020/IMG.jpg", "loose.png": "loose.png"},
  ),
  "a folder and a file of one name": (
    ["home", "trip/a.jpg"],
    {
      "home/a.jpg": "home/a.jpg",
      "home/trip/z.webp": "home/trip/z.webp",
      "trip/a.jpg": "trip/a.jpg",
    },
  ),
  "a file twice": (
    ["home", "home/a.jpg", "./home/../home/a.jpg"],
    {"a.jpg": "home/a.jpg", "trip/z.webp": "home/trip/z.webp"},
  ),
  "a pattern": (["20*/*.jpg"], {"2019/IMG.jpg": "2019/IMG.jpg", "2020/IMG.jpg": "2020/IMG.jpg"}),
  "a pattern of folders": (
    ["20*"],
    {"2019/IMG.jpg": "2019/IMG.jpg", "2020/IMG.jpg": "2020/IMG.jpg"},
  ),
  "all below": (
    ["trip/**/*.*g"],
    {
      "trip/a.jpg": "trip/a.jpg",
      "day 1/a.jpg": "trip/day 1/a.jpg",
      "c.png": "trip/day 1/deep/c.png",
    },
  ),
  "everything below": (["home/**"], {"a.jpg": "home/a.jpg", "z.webp": "home/trip/z.webp"}),
}


@pytest.mark.parametrize("name", NAMED)
def test_each_photo_has_a_name_of_its_own(album, name):
  given, expected = NAMED[name]
  assert names(*given) == expected
  assert list(names(*given)) == sorted(expected)


def test_a_file_whose_name_is_a_pattern_is_that_file(album):
  (album / "a[1].jpg").touch()
  assert names("a[1].jpg") == {"a[1].jpg": "a[1].jpg"}


def test_a_pattern_may_begin_at_home(album, monkeypatch):
  monkeypatch.setenv("HOME", str(album))
  assert names("~/loose.*") == {"loose.png": str(album / "loose.png")}


def test_other_files_are_counted(album):
  (album / "trip" / "film.MOV").touch()
  (album / "trip" / "film2.mov").touch()
  (note,) = found_in("trip").notes
  assert note == "files that are no photos were left out: 2 .mov, 1 .txt"


def test_copies_that_servers_and_systems_keep_are_no_photos(album):
  for name in ("trip/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "trip/day 1/@eaDir/b.jpg/T.jpg",
               "trip/#recycle/old.jpg", "trip/@Recycle/old.jpg", "trip/__MACOSX/a.jpg",
               "trip/$RECYCLE.BIN/S-1/a.jpg", "trip/Trip Previews.lrdata/a.jpg"):  # fmt: skip
    (album / name).parent.mkdir(parents=True)
    (album / name).touch()
  found = found_in("trip")
  assert [each.relative for each in found.tasks] == list(NAMED["a folder"][1])
  note = found.notes[1]
  assert note.startswith("folders of thumbnails, deleted files or the like were left out: 2 @eaDir")
  assert names("trip/**/*.*g") == NAMED["all below"][1]
  assert list(names("trip/@eaDir/**")) == ["SYNOPHOTO_THUMB_XL.jpg"]
  assert names("trip/@eaDir") == {
    "a.jpg/SYNOPHOTO_THUMB_XL.jpg": "trip/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg"
  }


REFUSED = {
  "nothing there": (["absent"], "got nothing of that name: absent; check the path"),
  "nothing matches": (["*.tif"], r"pattern '\*\.tif', which matches no files"),
  "no photo matches": (["trip/*.txt"], "matches 1 files and none with a photo's suffix"),
  "no photo": (["empty"], "must hold photos .* got nothing in empty"),
  "results": (["out"], "must lie apart, got out and out"),
  "in results": (["out/sub/a.png"], "must lie apart, got out/sub/a.png and out"),
  "around results": (["."], r"must lie apart, got \. and out"),
  "others' results": (["other"], r"not protected yet, got other in .*other, a folder of results"),
  "in others' results": (["other/sub/a.png"], "not protected yet, got other/sub/a.png in .*other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_photos_is_refused(album, name):
  for folder in ("empty", "out/sub", "other/sub", "other/.rpfgsm"):
    (album / folder).mkdir(parents=True, exist_ok=True)
  (album / "other/sub/a.png").touch()
  (album / "out/sub/a.png").touch()
  given, message = REFUSED[name]
  with pytest.raises((SettingsError, FolderError), match=message):
    found_in(*given)


def test_a_file_beside_the_results_is_fine(album):
  assert names("loose.png") == {"loose.png": "loose.png"}


def test_results_below_a_folder_of_photos_are_left_out_and_named(album):
  (album / "trip" / "protected" / ".rpfgsm").mkdir(parents=True)
  (album / "trip" / "protected" / "a.png").touch()
  found = found_in("trip")
  assert not [each for each in found.tasks if "protected" in each.relative]
  assert found.failures == [
    (
      "trip/protected",
      "trip/protected is a folder of results: what it holds is protected already.",
    )
  ]


def test_links_are_followed_once(album):
  (album / "trip" / "round").symlink_to(album / "trip")
  (album / "trip" / "self.jpg").symlink_to(album / "trip" / "self.jpg")
  (album / "trip" / "linked").symlink_to(album / "home")
  found = names("trip")
  assert not [name for name in found if name.startswith("round")]
  assert found["linked/a.jpg"] == "trip/linked/a.jpg"
  assert "self.jpg" in found  # named, so that its reader says what is wrong with it


def test_a_folder_that_cannot_be_read_costs_its_own_photos_only(album, monkeypatch):
  real = pathlib.Path.iterdir

  def refuse(self):
    if self.name == "day 1":  # permissions do not bind the superuser, who may run this
      raise PermissionError(13, "Permission denied")
    return real(self)

  monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
  found = found_in("trip")
  assert [each.relative for each in found.tasks] == ["B.JPEG", "a.jpg"]
  ((name, reason),) = found.failures
  assert name == os.path.join("trip", "day 1")
  assert "must be a readable folder, got Permission denied; change its permissions" in reason


def test_ids_come_from_names(album):
  first = {each.relative: each.image_id for each in found_in("trip").tasks}
  (album / "trip" / "0.jpg").touch()
  later = {each.relative: each.image_id for each in found_in("trip").tasks}
  assert later.pop("0.jpg") not in first.values()
  assert later == first
