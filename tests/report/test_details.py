"""Bars, marks, links and pictures as files: what a page of many photos is made of."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from report.parsed import Parsed, decode, noise

from rpfgsm_jax.report import Bars, Cell, Comparison, Group, Table, Text, build_page, plain

BARS = Bars(
  "a network",
  [("before", [("kitchen", 0.9312), ("attic", 0.00049)]), ("after", [("attic", 1), ("ham", 0)])],
  note="held out",
  marked="attic",
)


def file_of(pixels: np.ndarray, kind: str) -> bytes:
  content = io.BytesIO()
  Image.fromarray(pixels).save(content, kind)
  return content.getvalue()


def test_bars_are_texts_with_numbers_first():
  parsed = Parsed(build_page("t", [BARS]))
  words = [text for _, text in parsed.texts[parsed.texts.index(("h2", "a network")) :]][:-1]
  before = ["before", "kitchen", "93.1 %", "attic", "< 0.1 %"]
  after = ["after", "attic", "100.0 %", "ham", "0.0 %"]
  assert words == ["a network", "held out", *before, *after]


def test_bars_are_decoration_as_long_as_their_share():
  parsed = Parsed(build_page("t", [BARS]))
  assert [bar["aria-hidden"] for bar in parsed.all("svg")] == ["true"] * 4
  assert [bar["width"] for bar in parsed.all("rect")] == ["93.12%", "0.05%", "100.00%", "0.00%"]
  assert [item.get("class") for item in parsed.all("li")] == [None, "marked", "marked", None]


def test_each_list_of_bars_is_named_by_network_and_column():
  parsed = Parsed(build_page("t", [BARS]))
  lists = parsed.all("ol")
  assert [each["role"] for each in lists] == ["list"] * 2
  names = [each["aria-labelledby"].split() for each in lists]
  identifiers = [given.get("id") for _, given in parsed.elements]
  assert all(identifiers.count(name) == 1 for each in names for name in each)
  assert names[0] != names[1]


def test_details_stand_beside_the_pictures_one_heading_lower():
  comparison = Comparison("c", noise(), noise(), details=[BARS, Text(["x"], title="words")])
  parsed = Parsed(build_page("t", [Group("g", [comparison])]))
  assert parsed.text("h4") == ["a network", "words"]
  kinds = [division.get("class") for division in parsed.all("div")]
  assert kinds.index("beside") < kinds.index("shown") < kinds.index("details")


def test_a_comparison_without_details_stays_as_it_was():
  parsed = Parsed(build_page("t", [Comparison("c", noise(), noise())]))
  assert [division.get("class") for division in parsed.all("div")] == ["views"]


def test_a_state_belongs_to_the_heading():
  comparison = Comparison("c", noise(), noise(), state=Cell("failed", None, "bad"))
  parsed = Parsed(build_page("t", [comparison]))
  spans = [given.get("class") for tag, given in parsed.elements if tag == "span"]
  assert spans[:2] == ["state", "tone bad"]
  assert "failed" in parsed.text("span")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_may_be_files_and_are_embedded_byte_for_byte(kind):
  files = [file_of(noise(300, 450), kind) for _ in range(2)]
  parsed = Parsed(build_page("t", [Comparison("c", *files)]))
  for image, content in zip(parsed.all("img"), files, strict=True):
    head, _, held = image["src"].partition(",")
    assert head == f"data:image/{kind};base64"
    assert base64.b64decode(held) == content
    assert (image["width"], image["height"]) == ("450", "300")
  (views,) = [each for each in parsed.all("div") if each.get("class") == "views"]
  assert "data-amplification" not in views  # the encoders' losses would be amplified


def test_a_difference_may_be_given():
  difference = noise()
  comparison = Comparison("c", noise(), noise(), difference=difference, amplification=12)
  parsed = Parsed(build_page("t", [comparison]))
  *_, last = parsed.all("img")
  np.testing.assert_array_equal(decode(last["src"]), difference)
  assert last["alt"] == "c: difference × 12"
  assert parsed.text("figcaption") == ["original", "protected", "difference × 12"]
  (views,) = [each for each in parsed.all("div") if each.get("class") == "views"]
  assert views["data-amplification"] == "12"


def test_a_comparison_may_have_nothing_to_show():
  comparison = Comparison("c", None, None, "The file is gone.", details=[BARS])
  parsed = Parsed(build_page("t", [comparison]))
  assert parsed.all("img") == []
  assert "The file is gone." in parsed.text("p")
  assert parsed.text("h3") == ["a network"]


def test_a_cell_leads_to_its_section():
  comparisons = [Comparison(name, noise(), noise()) for name in ("same", "same")]
  rows = [["none"], *([Cell("c", index, target=each)] for index, each in enumerate(comparisons))]
  parsed = Parsed(build_page("t", [Table("t", ["a"], rows), Group("g", comparisons)]))
  assert [link["href"] for link in parsed.all("a")] == ["#section-2-1", "#section-2-2"]
  identifiers = {given.get("id") for given in parsed.all("section")}
  assert {"section-2-1", "section-2-2"} <= identifiers


def test_a_cell_leads_to_details_too():
  comparison = Comparison("c", noise(), noise(), details=[BARS])
  table = Table("t", ["a"], [[Cell("c", 1, target=BARS)]])
  assert [a["href"] for a in Parsed(build_page("t", [comparison, table])).all("a")] == [
    "#section-1-1"
  ]


def test_marks_say_in_words_what_they_say_in_color():
  table = Table("t", ["a", "b"], [["x", Cell("yes", None, "good")]])
  parsed = Parsed(build_page("t", [table]))
  assert [(given["class"]) for given in parsed.all("span")] == ["tone good"]
  assert plain(table).split() == ["t", "a", "b", "x", "yes"]


def test_a_fixed_table_has_nothing_to_sort_by():
  rows = [["a", Cell("1", 1)], ["b", Cell("2", 2)]]
  for sortable in (True, False):
    parsed = Parsed(build_page("t", [Table("t", ["n", "v"], rows, sortable=sortable)]))
    (table,) = parsed.all("table")
    assert table.get("class") == (None if sortable else "fixed")
    assert [("data-rank" in cell) for cell in parsed.all("td")] == [sortable] * 2
    assert [cell["class"] for cell in parsed.all("td")] == ["number"] * 2


@pytest.mark.parametrize(("count", "long"), [(24, False), (25, True)])
def test_only_a_long_table_scrolls_within_itself(count, long):
  parsed = Parsed(build_page("t", [Table("t", ["n"], [[str(n)] for n in range(count)])]))
  (frame,) = [each for each in parsed.all("div") if each["class"].startswith("scroll")]
  assert ("long" in frame["class"].split()) == long
  assert frame["tabindex"] == "0"


STRANGER = Text(["not on the page"])


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: Bars("", []), "title must not be empty"),
    (lambda: Bars("b", "ab"), "columns must be a list or tuple, got str"),
    (lambda: Bars("b", ["ab"]), r"columns\[0\] must be a list or tuple, got str"),
    (lambda: Bars("b", [("h",)]), r"columns\[0\] must be a pair, got 1 .* write \(text, list\)"),
    (lambda: Bars("b", [(1, [])]), r"columns\[0\]\[0\] must be a text, got int"),
    (lambda: Bars("b", [("h", [("x", 1.1)])]), r"\[1\]\[0\]\[1\] must be a share in 0\.\.1.*1\.1"),
    (lambda: Bars("b", [("h", [("x", -0.1)])]), r"must be a share in 0\.\.1, got -0\.1; divide"),
    (lambda: Bars("b", [("h", [("x", float("nan"))])]), "must be a share .* got nan"),
    (lambda: Bars("b", [("h", [("x", "1")])]), "must be a share in 0..1, got '1'"),
    (lambda: Bars("b", [], marked=None), "marked must be a text, got NoneType"),
    (lambda: Cell("x", 1, "red"), "tone must be one of .* got 'red'; pick one"),
    (
      lambda: build_page("t", [Table("t", ["a"], [[Cell("x", 1, target=STRANGER)]])]),
      "target of the cell 'x' must be a section of this page, got a Text that is none of them",
    ),
    (lambda: Comparison("c", noise(), None), "after must be a NumPy array.*got NoneType"),
    (lambda: Comparison("c", None, noise()), "before must be a NumPy array.*got NoneType"),
    (
      lambda: Comparison("c", None, None, difference=noise(), amplification=1),
      "before must be a NumPy array.*got NoneType",
    ),
    (lambda: Comparison("c", noise(), noise(), difference=noise()), "amplification must be given"),
    (
      lambda: Comparison("c", noise(), noise(), difference=noise(6, 7), amplification=1),
      r"before and after and difference must have one size, got .*\(6, 7, 3\)",
    ),
    (
      lambda: Comparison("c", file_of(noise(5, 7), "png"), noise(7, 5)),
      r"must have one size, got \(5, 7\) and \(7, 5, 3\)",
    ),
    (lambda: Comparison("c", b"GIF89a", b""), "before must be the bytes of a PNG, JPEG or WebP"),
    (
      lambda: Comparison("c", *[file_of(noise(), "gif")] * 2),
      "before must be the bytes of a PNG, JPEG or WebP file.*b'GIF8",
    ),
    (lambda: Comparison("c", noise(), noise(), details=[noise()]), r"details\[0\].* Table or Bars"),
    (lambda: Comparison("c", noise(), noise(), state="bad"), "state must be a Cell or None"),
  ],
  ids=lambda part: part[:40] if isinstance(part, str) else "refused",
)
def test_refusals(build, message):
  with pytest.raises(ValueError, match=message):
    build()
