"""Tables of results inside a written document."""

import pytest

from experiments import document
from rpfgsm_jax.report import Cell, Table, markdown

TABLES = [
  Table("First [1]", ("a", "b"), [["x", Cell("1.0", 1.0)]], "A note."),
  Table("Second", ("c",), [["y"]]),
]
OLD = "# Text\n\n<!-- table sub/t.md: Second -->\nold | row\n<!-- end -->\n\nMore.\n"


@pytest.fixture
def place(tmp_path):
  (tmp_path / "sub").mkdir()
  (tmp_path / "sub" / "t.md").write_text("# T\n\nRun.\n\n" + markdown(TABLES))
  return tmp_path


def test_a_block_gets_the_table_of_its_title_and_nothing_else_changes(place):
  (place / "d.md").write_text(OLD)
  text = document.fill(place / "d.md")
  expected = "<!-- table sub/t.md: Second -->\n\n| c |\n| --- |\n| y |\n\n<!-- end -->"
  assert text == OLD.replace(OLD[8:-8], expected)
  assert (place / "d.md").read_text() == text


def test_filled_again_it_stays_as_it_is(place):
  (place / "d.md").write_text(OLD)
  assert document.fill(place / "d.md") == document.fill(place / "d.md")


def test_a_title_is_the_one_that_a_reader_sees(place):
  (place / "d.md").write_text(OLD.replace("Second", "First [1]"))
  assert "A note.\n\n| a | b |" in document.fill(place / "d.md")


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("<!-- table", "<!-- tabel", "must have a block"),
    ("sub/t.md", "sub/u.md", "u.md must be a file of tables"),
    ("Second", "Third", "must have a table 'Third'"),
  ],
  ids=["no block", "no file", "no title"],
)
def test_a_document_that_names_no_table_is_refused_and_left_alone(place, old, new, message):
  text = OLD.replace(old, new)
  (place / "d.md").write_text(text)
  with pytest.raises(document.DocumentError, match=message):
    document.fill(place / "d.md")
  assert (place / "d.md").read_text() == text
