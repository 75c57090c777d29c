"""Tables as Markdown and as columns, read back whatever they hold."""

import re

import pytest

from rpfgsm_jax.report import Cell, Table, markdown, plain, printable

FIRST = Table(
  "Rates | of *all*",
  ("attack", "rate, top-1", "photos"),
  [
    ["a|b", Cell("33 [10, 60]", 1 / 3), Cell("12", 12.0)],
    ["two\nlines", Cell("n/a", None), ""],
    ['say "x", y', Cell("∞", None), "`code`"],
  ],
  "A note with *stars*.",
)
SECOND = Table("More", ("on",), [["resnet18 + alexnet"]])
CELLS = [
  ["attack", "rate, top-1", "photos"],
  ["a|b", "33 [10, 60]", "12"],
  ["two lines", "n/a", ""],
  ['say "x", y', "∞", "`code`"],
]


def cells_of(line):
  """What a Markdown reader makes of a line: bars separate unless escaped, backslashes vanish."""
  cells = re.findall(r"((?:\\.|[^|\\])*)\|", line)[1:]
  return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells]


def test_markdown_has_every_table_under_its_title_and_note():
  lines = markdown([FIRST, SECOND]).splitlines()
  assert lines[:4] == [r"## Rates \| of \*all\*", "", r"A note with \*stars\*.", ""]
  second = lines.index("## More")
  assert lines[second - 1 :] == ["", "## More", "", "| on |", "| --- |", "| resnet18 + alexnet |"]


def test_markdown_cells_come_back_each_line_on_one():
  first, rule, *lines = markdown([FIRST]).splitlines()[4:]
  assert [cells_of(line) for line in (first, *lines)] == CELLS
  assert rule == "| --- | --- | --- |"


@pytest.mark.parametrize("text", ["\\|", "a\\", "|", "*_`<[", "\r\n x \t y "])
def test_markdown_shows_every_character_as_it_is(text):
  line = markdown([Table("t", ("c", "d"), [[text, "end"]])]).splitlines()[-1]
  assert cells_of(line) == [" ".join(text.split()), "end"]


def test_markdown_of_a_table_without_note_has_no_empty_paragraph():
  assert markdown([SECOND]).startswith("## More\n\n| on |\n")


def test_columns_begin_or_end_at_one_place():
  title, *lines = plain(FIRST).splitlines()
  assert title == "Rates | of *all*"
  assert [re.split(r"\s{2,}", line.strip()) for line in lines] == [
    [cell for cell in row if cell] for row in CELLS
  ]
  firsts = [row[0] for row in CELLS]
  assert all(line.startswith(f"  {name}") for line, name in zip(lines, firsts, strict=True))
  ends = [line.index(row[1]) + len(row[1]) for line, row in zip(lines, CELLS, strict=True)]
  assert len(set(ends)) == 1
  assert len({len(line) for line, row in zip(lines, CELLS, strict=True) if row[2]}) == 1


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("a\x1b[31m", "a\\x1b[31m"),
    ("\udcff.jpg", "\\xff.jpg"),
    ("\ud800", "\\ud800"),
    ("\x85", "\\x85"),
    ("tab\tline\n", "tab\tline\n"),
    ("Größe ∞", "Größe ∞"),
  ],
  ids=["escape", "byte", "surrogate", "control", "white", "letters"],
)
def test_what_cannot_be_written_is_spelled_out(text, expected):
  assert printable(text) == expected
  printable(text).encode()
