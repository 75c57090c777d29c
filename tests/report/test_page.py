"""The page without a browser: what its text says, what it refuses, and that nothing leaves it."""

import base64
import hashlib
import io
import math
import os
import re

import numpy as np
import pytest
from PIL import Image
from report.parsed import Parsed, decode, noise

from rpfgsm_jax.report import (
  Bars,
  Cell,
  Comparison,
  Group,
  Picture,
  Table,
  Text,
  build_page,
  write_page,
)

HOSTILE = "</script></title></style>--><img src=x onerror=\"alert('1')\">&lt;&#60;"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="7"/>'


def every_kind(text: str = "a text") -> list:
  """One section of each kind, the given text in every place that takes one."""
  bars = Bars(text, [(text, [(text, 0.5), (text, 1)])], note=text, marked=text)
  comparison = Comparison(
    text,
    noise(),
    noise(),
    caption=text,
    facts=[(text, text)],
    labels=(text, text),
    details=[bars, Text([text], title=text)],
    state=Cell(text, None, "good"),
  )
  linked = Cell(text, 1.0, "bad", comparison)
  table = Table(text, [text, text], [[text, Cell(text, text)], [text, linked]], note=text)
  return [
    Text([text], title=text),
    table,
    Picture(text, noise(), caption=text),
    Picture(text, SVG),
    comparison,
    bars,
    Group(text, [comparison, table, bars], note=text),
  ]


def ranks(values: list) -> list[int | None]:
  """The ranks that a table's second column gets."""
  page = build_page("t", [Table("t", ["n", "v"], [["", value] for value in values])])
  cells = Parsed(page).all("td")
  return [int(cell["data-rank"]) if "data-rank" in cell else None for cell in cells]


def test_the_page_is_well_formed_and_semantic():
  parsed = Parsed(build_page("A report", every_kind()))
  tags = [tag for tag, _ in parsed.elements]
  assert [tags.count(tag) for tag in ("h1", "main", "title", "style", "script")] == [1] * 5
  identifiers = [given["id"] for _, given in parsed.elements if "id" in given]
  assert len(identifiers) == len(set(identifiers))
  attributes = [given for _, given in parsed.elements]
  named = {name for given in attributes for name in given.get("aria-labelledby", "").split()}
  assert named <= set(identifiers)
  assert all(image["alt"] for image in parsed.all("img"))
  assert parsed.all("html") == [{"lang": "en"}]
  assert {head["scope"] for head in parsed.all("th")} == {"col", "row"}


def test_nothing_refers_to_anything_outside():
  page = build_page("A report", every_kind())
  for tag, attributes in Parsed(page).elements:
    for name in ("src", "srcset", "href", "data", "poster", "action", "background"):
      target = attributes.get(name) or "data:"
      assert target.startswith("data:") or (tag == "a" and target.startswith("#")), (tag, name)
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
  written = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
  assert re.findall(r"https?:|url\(|@import|fetch\(|innerHTML|eval\(", written) == []


def test_the_policy_allows_this_style_and_this_script_only():
  page = build_page("A report", every_kind())
  parsed = Parsed(page)
  policy = next(meta["content"] for meta in parsed.all("meta") if "http-equiv" in meta)
  rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
  assert rules.pop("default-src") == "'none'"
  assert rules.pop("img-src") == "data:"
  for tag in ("style", "script"):
    (content,) = parsed.text(tag)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert rules.pop(f"{tag}-src") == f"'sha256-{digest}'"
  assert set(rules.values()) == {"'none'"}


def test_hostile_text_stays_text_everywhere():
  plain, hostile = build_page("t", every_kind("x")), build_page(HOSTILE, every_kind(HOSTILE))
  kinds = [
    [(tag, sorted(attributes)) for tag, attributes in Parsed(page).elements]
    for page in (plain, hostile)
  ]
  assert kinds[0] == kinds[1]
  parsed = Parsed(hostile)
  for tag in ("h1", "h2", "h3", "h4", "p", "th", "td", "figcaption", "dt", "dd", "a", "title"):
    assert {text.rstrip() for text in parsed.text(tag)} == {HOSTILE}, tag
  assert HOSTILE in parsed.text("span")
  assert HOSTILE in {image["alt"] for image in parsed.all("img")}


def test_the_language_is_escaped_too():
  assert Parsed(build_page("t", [], language='"><b>')).all("html") == [{"lang": '"><b>'}]


def test_names_that_are_no_utf8_are_spelled_out(tmp_path):
  name = os.fsdecode(b"caf\xe9.jpg") if os.name == "posix" else "caf\udce9.jpg"
  path = write_page(tmp_path / "page.html", name, every_kind(f"{name}\0\ud812\x1b\r\ufffe ε"))
  parsed = Parsed(path.read_text(encoding="utf-8"))
  assert parsed.text("h1") == ["caf\\xe9.jpg"]
  assert set(parsed.text("td")) == {"caf\\xe9.jpg\\x00\\ud812\\x1b\\x0d\\ufffe ε"}


@pytest.mark.parametrize(
  ("shape", "shown"),
  [((5, 7), (320, 448)), ((128, 96), (384, 288)), ((1, 1), (448, 448)), ((3, 500), (3, 500))],
  ids=str,
)
def test_pictures_keep_every_level(shape, shown):
  before, after, alone = noise(*shape), noise(*shape), noise(*shape)
  page = build_page("t", [Comparison("c", before, after), Picture("p", alone)])
  images = Parsed(page).all("img")
  for image, pixels in zip(images, (before, after, alone), strict=True):
    np.testing.assert_array_equal(decode(image["src"]), pixels)
    assert (int(image["height"]), int(image["width"])) == shown
    assert image.get("class") == (None if shown == shape else "enlarged")


def test_a_picture_may_be_a_view_into_something_larger():
  large = noise(20, 30)
  (image,) = Parsed(build_page("t", [Picture("p", large[::-2, 3:9])])).all("img")
  np.testing.assert_array_equal(decode(image["src"]), large[::-2, 3:9])


def test_files_are_embedded_byte_for_byte():
  content = io.BytesIO()
  Image.fromarray(noise(11, 6)).save(content, format="PNG")
  page = build_page("t", [Picture("p", content.getvalue()), Picture("s", SVG)])
  png, svg = Parsed(page).all("img")
  assert base64.b64decode(png["src"].partition(",")[2]) == content.getvalue()
  assert (png["width"], png["height"]) == ("6", "11")
  assert svg["src"] == f"data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}"


@pytest.mark.parametrize(
  ("change", "given", "shown"),
  [
    *((16, None, "15"), (17, None, "15"), (18, None, "14"), (255, None, "1"), (1, None, "255")),
    *((0, None, "1"), (16, 8, "8"), (0, 8, "8")),
  ],
)
def test_the_difference_is_amplified_as_far_as_it_stays_in_range(change, given, shown):
  before = np.full((2, 3, 3), 0, np.uint8)
  after = before.copy()
  after[1, 2, 0] = change
  for pair in ((before, after), (after, before)):
    page = build_page("t", [Comparison("c", *pair, amplification=given)])
    (views,) = [each for each in Parsed(page).all("div") if each.get("class") == "views"]
    assert views["data-amplification"] == shown


@pytest.mark.parametrize(
  ("values", "expected"),
  [
    pytest.param([Cell("", 10), Cell("", 9.5), Cell("", -1)], [2, 1, 0], id="numbers by size"),
    pytest.param([Cell("", 2), Cell("", 1), Cell("", 2.0)], [1, 0, 1], id="equal values tie"),
    pytest.param([Cell("", math.inf), Cell("", 1e300), Cell("", -math.inf)], [2, 1, 0], id="inf"),
    pytest.param([Cell("z", None), "", Cell("a", 0), "b"], [None, None, 0, 1], id="missing"),
    pytest.param(["10.jpg", "9.jpg", "b", "A"], [1, 0, 3, 2], id="digits in texts by size"),
    pytest.param(["x1y10", "x1y9", "x01y9"], [2, 1, 0], id="several numbers, leading zeros"),
    pytest.param(["7" * 5000, "8"], [1, 0], id="more digits than Python converts"),
    pytest.param(["3", Cell("", 10)], [1, 0], id="numbers before texts"),
    pytest.param([Cell("a", "b"), Cell("b", "a")], [1, 0], id="the value, not the text"),
    pytest.param([Cell("", np.float32(2)), Cell("", np.int64(1))], [1, 0], id="NumPy scalars"),
    pytest.param([Cell("", 10**400), Cell("", 1.5)], [1, 0], id="larger than any float"),
  ],
)
def test_ranks(values, expected):
  assert ranks(values) == expected


def test_columns_of_numbers_are_marked():
  rows = [["a", Cell("1 %", 0.01), Cell("-", None)], ["b", Cell("-", None), "text"]]
  parsed = Parsed(build_page("t", [Table("t", ["name", "rate", "note"], rows)]))
  assert [head.get("class") for head in parsed.all("th")[:3]] == [None, "number", None]


def test_a_table_without_rows_shows_its_columns():
  assert Parsed(build_page("t", [Table("t", ["a", "b"], [])])).text("th") == ["a", "b"]


def test_contents_are_listed_from_three_titles_on():
  sections = [Text(["no title"]), Text(["x"], "one"), Text(["y"], "two"), Text(["z"], "three")]
  assert Parsed(build_page("t", sections[:3])).all("nav") == []
  parsed = Parsed(build_page("t", sections))
  assert parsed.text("a") == ["one", "two", "three"]
  targets = [link["href"][1:] for link in parsed.all("a")]
  assert targets == ["section-2", "section-3", "section-4"]


def test_the_same_input_gives_the_same_text():
  before, after = noise(), noise()
  pages = {build_page("t", [Comparison("c", before, after)]) for _ in range(2)}
  assert len(pages) == 1


GRAY, BATCH = np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: Picture("p", noise() / 255), "image must be a NumPy array of uint8.*float64.*cast"),
    (lambda: Picture("p", "photo.png"), "image must be a NumPy array of uint8.*got str"),
    (lambda: Picture("p", GRAY), r"image must be one picture of shape \(H, W, 3\).*\(4, 4\)"),
    (lambda: Picture("p", BATCH), r"one picture.*\(2, 4, 4, 3\).*one by one"),
    (lambda: Picture("p", noise()[:0]), r"H, W >= 1, got \(0, 7, 3\)"),
    (lambda: Picture("p", b"\xff\xd8\xff\xe0"), "image must be the bytes of a PNG or SVG.*4 bytes"),
    (lambda: Picture("p", b"\x89PNG\r\n\x1a\n"), "image must be the bytes of a PNG or SVG"),
    (lambda: Picture("", noise()), "title must not be empty"),
    (lambda: Picture(None, noise()), "title must be a text, got NoneType"),
    (lambda: Comparison("c", noise(4, 5), noise(5, 4)), r"one size, got \(4, 5, 3\) and \(5, 4"),
    (lambda: Comparison("c", noise(), GRAY), "after must be one picture"),
    (
      lambda: Comparison("c", noise().astype(int), noise()),
      "before must be a NumPy array of uint8",
    ),
    (lambda: Comparison("c", noise(), noise(), facts=[("a", 1)]), r"facts\[0\]\[1\] .* got int"),
    (lambda: Comparison("c", noise(), noise(), facts=["ab"]), r"facts\[0\] must be a list"),
    (lambda: Comparison("c", noise(), noise(), labels=("a",)), r"labels .* a pair.*\(text, text"),
    (lambda: Comparison("c", noise(), noise(), amplification=0), "amplification .* got 0; None"),
    (lambda: Comparison("c", noise(), noise(), amplification=1.5), "amplification .* got 1.5"),
    (lambda: Table("t", ["a", "b"], [["1", "2"], ["1"]]), r"rows\[1\].*2 columns, got 1; write"),
    (lambda: Table("t", ["a"], [[0.5]]), r"rows\[0\]\[0\] must be a text or Cell, got float"),
    (lambda: Table("t", ["a"], ["x"]), r"rows\[0\] must be a list or tuple, got str"),
    (lambda: Table("t", [], []), "columns must name at least one"),
    (lambda: Table("t", "ab", []), "columns must be a list or tuple, got str"),
    (lambda: Table("t", [1], []), r"columns\[0\] must be a text, got int"),
    (lambda: Cell("x", math.nan), "value must be a number, a text or None, got NaN; use None"),
    (lambda: Cell("x", [1]), "value must be a number, a text or None, got list"),
    (lambda: Cell("x", np.ones(2)), "value must be a number, a text or None, got ndarray"),
    (lambda: Cell(1, 1), "text must be a text, got int"),
    (lambda: Text("one paragraph"), "paragraphs must be a list or tuple, got str"),
    (lambda: Text([b"x"]), r"paragraphs\[0\] must be a text, got bytes"),
    (lambda: Group("g", [Group("h", [])]), r"items\[0\] must be a Text, .*got Group"),
    (lambda: build_page("t", ["text"]), r"sections\[0\] must be a Text, .*got str"),
    (lambda: build_page("t", Text([])), "sections must be a list or tuple, got Text"),
    (lambda: build_page(" ", []), "title must be a text that is not empty"),
    (lambda: write_page("page.txt", "t", []), r"path must end in \.html, got page\.txt"),
  ],
  ids=lambda part: part if isinstance(part, str) else "refused",
)
def test_refusals(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_the_file_is_written_in_one_step(tmp_path, monkeypatch):
  path = tmp_path / "deep" / "page.HTML"
  assert write_page(path, "first", every_kind()) == path
  old = path.read_bytes()
  assert old == path.read_bytes().replace(b"\r\n", b"\n")

  def refuse(source, target):
    raise OSError("disk says no")

  monkeypatch.setattr(os, "replace", refuse)
  with pytest.raises(OSError, match="disk says no"):
    write_page(path, "second", [])
  assert path.read_bytes() == old
  assert os.listdir(path.parent) == ["page.HTML"]
