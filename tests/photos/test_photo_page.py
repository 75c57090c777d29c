"""The page of a run: counts, words, limits, and what it does when files are gone; no browser."""

import dataclasses
import io
import json
import os
import re
import tracemalloc

import numpy as np
import pytest
from page_material import (
  CONDITIONS,
  HELD_OUT,
  LARGEST,
  SEEN,
  VERDICTS,
  changed,
  network,
  photograph,
  verdict,
  written,
)
from PIL import Image
from report.parsed import Parsed, decode

from rpfgsm_jax.photos import page, page_pictures
from rpfgsm_jax.photos.page import Entry, write_photo_page
from rpfgsm_jax.photos.verdict import Verdict

HOSTILE = "</script></title></style>--><img src=x onerror=\"alert('1')\">&lt;&#60;.jpg"


def read(tmp_path, entries: list[Entry]) -> Parsed:
  """The page of some photos, taken apart."""
  path = write_photo_page(tmp_path / "page" / "report.html", entries)
  return Parsed(path.read_text(encoding="utf-8"))


def texts(parsed: Parsed) -> str:
  return "\n".join(text for tag, text in parsed.texts if tag not in ("script", "style"))


def pictured(parsed: Parsed) -> list[str]:
  """The headings of comparisons."""
  return [text.rstrip() for text in parsed.text("h3")]


def all_four(tmp_path) -> list[Entry]:
  return [written(tmp_path, f"{status}.jpg", judged) for status, judged in VERDICTS.items()]


def test_totals_are_counted_and_explained(tmp_path):
  entries = [*all_four(tmp_path), written(tmp_path, "more.jpg", VERDICTS["not"])]
  parsed = read(tmp_path, entries)
  assert "5 photos: 1 protected, 1 partly protected, 2 not protected, 1 no scene." in texts(parsed)
  rows = parsed.table("Verdicts")
  counts = ["protected", "1"], ["partly protected", "1"], ["not protected", "2"], ["no scene", "1"]
  assert [row[:2] for row in rows] == list(counts)
  assert all(row[2].endswith(".") for row in rows)


def test_judges_are_named_with_their_role_and_what_they_say(tmp_path):
  parsed = read(tmp_path, all_four(tmp_path))
  rows = {tuple(row[:2]): row[2:] for row in parsed.table("Judges")}
  assert rows[SEEN, "used by the attack"] == ["small", "4", "3", "3", "3"]
  assert rows[HELD_OUT, "held out: it only judges"] == ["small", "4", "3", "2", "1"]
  assert "at least 50 %" in texts(parsed)
  assert "Judged by 2 small networks, none like those in use; not judged by a" in texts(parsed)
  assert "a JPEG of quality 90, 75, 50; shrunk to 1080 pixels" in texts(parsed)


def test_the_strength_is_told_in_words_and_levels(tmp_path):
  parsed = read(tmp_path, [written(tmp_path)])
  line = "Strength of the change: strong, at most 16 gray levels of 255. Files: PNG."
  assert line in texts(parsed)
  jpeg = {"format": "jpeg", "quality": 90, "subsampling": "4:2:0"}
  facts = [{}, {"epsilon": 12.5, "encoding": jpeg}, {"epsilon": 12.5}]
  entries = [written(tmp_path, f"{n}", **each) for n, each in enumerate(facts)]
  line = next(text for text in read(tmp_path, entries).text("p") if text.startswith("Strength"))
  assert "at most 12.5 gray levels of 255 (2 photos); strong, at most 16" in line
  assert "Files: JPEG, PNG. A JPEG's encoder changes some values further." in line


def test_every_photo_has_a_row(tmp_path):
  rows = read(tmp_path, all_four(tmp_path)).table("All photos")
  shown = "kitchen 60 % → attic 75 %"
  some = "as written, JPEG 90, 1080 px"
  assert rows == [
    ["protected.jpg", "protected", "29.0", "0.967", "16", shown, "all 5"],
    ["partly.jpg", "partly protected", "29.0", "0.967", "16", shown, some],
    ["not.jpg", "not protected", "31.5", "0.967", "16", "kitchen 60 % → kitchen 75 %", "none"],
    ["no scene.jpg", "no scene", "29.0", "n/a", "16", "kitchen 30 % → attic 75 %", "n/a"],
  ]


def test_without_a_held_out_network_the_first_one_is_shown(tmp_path):
  parsed = read(tmp_path, [written(tmp_path, judged=verdict(network(), network("toys/other")))])
  assert f"{SEEN}, before → after" in parsed.text("th")
  assert not [text for text in parsed.text("th") if text.startswith("toys/other,")]


def test_an_identical_result_has_no_number(tmp_path):
  judged = verdict(psnr=float("inf"), largest_change=0)
  (row,) = read(tmp_path, [written(tmp_path, judged=judged)]).table("All photos")
  assert row[2] == "identical"
  assert Verdict.from_json(json.loads(json.dumps(judged.to_json()))) == judged


def test_verdicts_sort_by_how_much_is_wrong(tmp_path):
  parsed = read(tmp_path, all_four(tmp_path))
  ranks = re.findall(r'data-rank="(\d)"><span class="tone', parsed.source)
  assert ranks == ["2", "1", "0"]  # as in all_four; "no scene" has no mark and comes last


def test_what_is_not_protected_is_shown_first(tmp_path):
  parsed = read(tmp_path, [*all_four(tmp_path), written(tmp_path, "another.jpg", VERDICTS["not"])])
  names = ("not", "another", "partly", "protected", "no scene")
  assert pictured(parsed) == [f"{name}.jpg" for name in names]
  assert "All 5 photos: those that are not protected first" in texts(parsed)


def test_only_some_of_many_photos_are_shown_and_all_are_listed(tmp_path, monkeypatch):
  monkeypatch.setattr(page, "MOST_SHOWN", 3)
  one = written(tmp_path, "0.jpg", VERDICTS["protected"])
  entries = [dataclasses.replace(one, relative=f"{n}.jpg") for n in range(1500)]
  entries += [written(tmp_path, "bad.jpg", VERDICTS["not"])]
  parsed = read(tmp_path, entries)
  assert pictured(parsed) == ["bad.jpg", "0.jpg", "1.jpg"]
  assert len(parsed.all("img")) == 9
  assert "3 of 1,501 photos: those that are not protected first" in texts(parsed)
  assert len(parsed.table("All photos")) == 1501


def test_rows_lead_to_their_pictures(tmp_path, monkeypatch):
  monkeypatch.setattr(page, "MOST_SHOWN", 2)
  parsed = read(tmp_path, all_four(tmp_path))
  links = {a.text: a.attrib["href"][1:] for a in parsed.tree.iter("a") if ".jpg" in a.text}
  assert set(links) == {"not.jpg", "partly.jpg"}
  for name, place in links.items():
    (heading,) = parsed.tree.findall(f".//section[@id='{place}']/h3")
    assert heading.text.rstrip() == name


def test_pictures_are_shrunk_and_it_says_so(tmp_path):
  entries = [written(tmp_path, "large.jpg", size=(1200, 750)), written(tmp_path, size=(300, 200))]
  parsed = read(tmp_path, entries)
  sizes = [(image["width"], image["height"]) for image in parsed.all("img")]
  assert sizes == [("800", "500")] * 3 + [("300", "200")] * 3
  assert parsed.text("p").count("Shown at 800 × 500 of 1200 × 750 pixels.") == 1
  assert "shrunk to 800 pixels on their longer side" in texts(parsed)
  assert "JPEGs of quality 90" in texts(parsed)
  assert max(len(image["src"]) for image in parsed.all("img")) < 1e6


@pytest.mark.parametrize("size", [(96, 64), (1200, 750), (64, 1000)], ids=str)
def test_pictures_are_the_photo_and_its_result(tmp_path, size):
  parsed = read(tmp_path, [written(tmp_path, size=size)])
  before = photograph(*size)
  shown = [decode(image["src"], "jpeg") for image in parsed.all("img")]
  for picture, pixels in zip(shown, (before, changed(before)), strict=False):
    expected = Image.fromarray(pixels).resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
    assert np.abs(picture.astype(int) - np.asarray(expected)).mean() < 4  # JPEG of quality 90


def test_the_difference_is_that_of_the_files_even_where_shrinking_evens_it_out(tmp_path):
  """A checkerboard of +16 and -16 vanishes in the shrunk pictures; it is 16 everywhere."""
  before = np.full((1600, 1600, 3), 100, np.uint8)
  sign = np.where(np.indices((1600, 1600)).sum(0) % 2, LARGEST, -LARGEST)[..., None]
  shown = page_pictures._pictures(before, (before + sign).astype(np.uint8))
  decoded = {
    name: np.asarray(Image.open(io.BytesIO(shown[name])))
    for name in ("before", "after", "difference")
  }
  assert np.abs(decoded["before"].astype(int) - decoded["after"]).max() <= 1
  assert shown["amplification"] == 15
  np.testing.assert_allclose(decoded["difference"], 240, atol=1)


@pytest.mark.parametrize(
  ("change", "times", "level"),
  [(0, 255, 0), (1, 255, 255), (16, 15, 240), (17, 15, 255), (200, 1, 200)],
)
def test_the_difference_is_amplified_within_its_range(change, times, level):
  before = np.full((40, 60, 3), 20, np.uint8)
  after = before.copy()
  after[4:30, 8:50, 1] += change
  for pair in ((before, after), (after, before)):
    shown, found = page_pictures._difference(*pair, (40, 60))
    assert found == times
    assert set(np.unique(shown)) == {0, level}
    np.testing.assert_array_equal(shown != 0, before != after)


def test_a_sparse_change_is_amplified_until_it_is_seen():
  before = np.zeros((1600, 1600, 3), np.uint8)
  after = before.copy()
  after[::8] = 60  # JPEG may do such a thing: some places far beyond the mean
  shown, times = page_pictures._difference(before, after, (200, 200))
  assert times == 32  # 4 keep each change in range, then 8 the means of 8 rows
  np.testing.assert_array_equal(shown, np.full_like(shown, 240))


def test_predictions_are_texts_with_bars(tmp_path):
  parsed = read(tmp_path, [written(tmp_path)])
  assert parsed.text("h4")[:2] == [SEEN, HELD_OUT]
  items = list(zip(parsed.text("span"), parsed.text("span")[1:], strict=False))
  for pair in [("kitchen", "90.0 %"), ("living room", "8.0 %"), ("attic", "75.0 %")]:
    assert pair in items
  assert ("beach", "< 0.1 %") in items
  assert len(parsed.all("rect")) == len(parsed.all("svg")) == 2 * 2 * 3
  marked = [each for each in parsed.all("li") if each.get("class") == "marked"]
  assert len(marked) == 4  # the kitchen, before and after, for both


def test_each_condition_is_told_for_each_network(tmp_path):
  judged = verdict(network(before=0.4), network(HELD_OUT, 0.6, (True, True, False, False, True)))
  parsed = read(tmp_path, [written(tmp_path, judged=judged)])
  assert parsed.table("Misled, condition by condition") == [
    [SEEN, "no, 40 %", *["yes"] * 5],
    [HELD_OUT, "yes, 60 %", "yes", "yes", "no", "no", "yes"],
  ]
  assert [text for text in parsed.text("th") if text in CONDITIONS] == list(CONDITIONS)
  tones = [each["class"] for each in parsed.all("span") if "tone" in each.get("class", "")]
  assert tones[-5:] == ["tone good", "tone good", "tone bad", "tone bad", "tone good"]


def test_facts_of_each_photo(tmp_path):
  note = "/somewhere/a.jpg: 16 bits were rounded to 8"
  parsed = read(tmp_path, [written(tmp_path, working_size=[384, 256], notes=[note])])
  facts = dict(zip(parsed.text("dt"), parsed.text("dd"), strict=True))
  assert facts == {
    "PSNR": "29.0 dB",
    "SSIM": "0.967",
    "largest change": "16 of 255",
    "size": "96 × 64 pixels",
    "attacked at": "384 × 256 pixels",
    "written as": "a.jpg.png",
    "note": note,
  }


def replace(path) -> None:
  Image.fromarray(photograph(50, 40)).save(path)


def block(path) -> None:
  path.unlink()
  path.mkdir()


HARMS = {
  "lose": os.unlink,
  "replace": replace,
  "truncate": lambda path: os.truncate(path, 100),
  "block": block,
}


@pytest.mark.parametrize(
  ("which", "how", "said"),
  [
    ("original", "lose", "No pictures: the original is not there any more."),
    ("output", "lose", "No pictures: the result is not there any more."),
    ("original", "replace", "No pictures: the original has changed since it was protected."),
    ("output", "replace", "No pictures: the result has changed since it was judged."),
    ("original", "truncate", "No pictures: .* must be a complete picture"),
    ("output", "truncate", "No pictures: the result has changed since it was judged."),
    ("original", "block", "No pictures: .* must be an image file, got a folder"),
    ("output", "block", "No pictures: .* must be an image file, got a folder"),
  ],
  ids=lambda part: part[:30],
)
def test_files_that_are_not_what_was_judged_are_not_shown(tmp_path, which, how, said):
  entries = [written(tmp_path, "gone.jpg"), written(tmp_path, "here.jpg")]
  HARMS[how](getattr(entries[0], which))
  parsed = read(tmp_path, entries)
  assert len([text for text in parsed.text("p") if re.match(said, text)]) == 1
  assert parsed.all("img")[0]["alt"] == "here.jpg: original"
  assert len(parsed.all("img")) == 3
  assert pictured(parsed) == ["gone.jpg", "here.jpg"]
  assert len(parsed.table("All photos")) == 2
  assert parsed.text("h4").count(SEEN) == 2  # what is known of it stays


def test_a_photo_touched_but_the_same_is_shown(tmp_path):
  entry = written(tmp_path)
  os.utime(entry.original)
  assert len(read(tmp_path, [entry]).all("img")) == 3


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    (HOSTILE, HOSTILE),
    ("line\nfeed\tand \r.jpg", "line\\nfeed\\tand \\x0d.jpg"),
    (os.fsdecode(b"caf\xe9/\xff.jpg"), "caf\\xe9/\\xff.jpg"),
    ("🏝️ été/הר.jpg", "🏝️ été/הר.jpg"),
    (" ", "' '"),
  ],
  ids=["markup", "white", "bytes", "letters", "blank"],
)
def test_names_are_shown_as_they_are(tmp_path, name, shown):
  plain = read(tmp_path, [written(tmp_path, "plain.jpg")])
  parsed = read(tmp_path, [written(tmp_path, name, notes=[f"{name}: a note"])])
  assert pictured(parsed) == [shown]
  assert parsed.table("All photos")[0][0] == shown
  assert parsed.all("img")[0]["alt"] == f"{shown}: original"
  kinds = [
    [(tag, sorted(given)) for tag, given in each.elements if tag not in ("dt", "dd")]
    for each in (plain, parsed)
  ]
  assert kinds[0] == kinds[1]


def test_hostile_classes_networks_and_notes_stay_text(tmp_path):
  hostile = dataclasses.replace(network(HOSTILE), before=((HOSTILE, 0.9),), after=((HOSTILE, 0.5),))
  judged = verdict(hostile, dataclasses.replace(hostile, held_out=True))
  parsed = read(tmp_path, [written(tmp_path, HOSTILE, judged, notes=[HOSTILE])])
  assert len(parsed.all("script")) == len(parsed.all("title")) == len(parsed.all("style")) == 1
  assert not [given for _, given in parsed.elements if "onerror" in given]
  assert HOSTILE in parsed.text("dd")
  assert parsed.text("h4")[:2] == [HOSTILE] * 2


def test_pages_hold_no_more_than_one_photo_at_its_own_size(tmp_path):
  """Twelve photos of 2 megapixels cost as much as two, but for what is shown of them."""

  def peak(count: int) -> int:
    one = written(tmp_path, "0.jpg", size=(1600, 1250))
    entries = [dataclasses.replace(one, relative=f"{n}.jpg") for n in range(count)]
    tracemalloc.start()
    try:
      write_photo_page(tmp_path / "page.html", entries)
      return tracemalloc.get_traced_memory()[1]
    finally:
      tracemalloc.stop()

  few, many = peak(2), peak(12)
  size = (tmp_path / "page.html").stat().st_size
  assert many - few < size  # the page is never in memory as a whole, only its pictures' files are
  assert few < 8 * 1600 * 1250 * 3 + size


def test_it_says_that_it_is_private(tmp_path):
  assert "do not publish it with the results" in texts(read(tmp_path, [written(tmp_path)]))


def test_a_page_of_no_photos_is_refused(tmp_path):
  with pytest.raises(ValueError, match="entries must hold at least one photo, got none"):
    write_photo_page(tmp_path / "page.html", [])
