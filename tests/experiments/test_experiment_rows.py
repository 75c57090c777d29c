"""JSONL rows: what is appended is read; a line cut anywhere is found, named and repaired."""

import json
import os
import stat

import pytest

from experiments import rows

ROWS = [{"photo": "a.jpg", "ranks": [[0, 5], [1, 2]]}, {"photo": "ö|\n.jpg", "psnr": None}]


@pytest.fixture
def path(tmp_path):
  file = tmp_path / "made" / "rows.jsonl"
  rows.append_rows(file, ROWS)
  return file


def test_rows_come_back_in_order_after_several_appends(path):
  rows.append_rows(path, [])
  rows.append_rows(path, [{"last": 1}])
  assert list(rows.read_rows(path)) == [*ROWS, {"last": 1}]


def test_one_line_a_row_whatever_it_holds(path):
  assert path.read_text().count("\n") == len(ROWS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_json_does_not_have_are_refused_and_nothing_is_written(path, value):
  before = path.read_bytes()
  with pytest.raises(ValueError, match="Out of range float values"):
    rows.append_rows(path, [{"fine": 1}, {"psnr": value}])
  assert path.read_bytes() == before


def test_a_line_cut_at_any_byte_is_refused_repaired_and_reported(path):
  whole = path.read_bytes()
  first = whole.index(b"\n") + 1
  for length in range(first + 1, len(whole)):
    path.write_bytes(whole[:length])
    with pytest.raises(rows.RowsError, match=r"line 2, the last one, was cut in the middle"):
      list(rows.read_rows(path))
    with pytest.raises(rows.RowsError, match="repair it with recover_rows"):
      rows.append_rows(path, [{"next": 1}])
    said = rows.recover_rows(path)
    only_the_line_feed = length == len(whole) - 1
    expected = "line 2 was whole" if only_the_line_feed else "line 2 was cut after"
    assert expected in said
    kept = ROWS if only_the_line_feed else ROWS[:1]
    rows.append_rows(path, [{"next": 1}])
    assert list(rows.read_rows(path)) == [*kept, {"next": 1}]


def test_nothing_is_repaired_where_nothing_is_wrong(path, tmp_path):
  before = path.read_bytes()
  assert rows.recover_rows(path) is None
  assert path.read_bytes() == before
  assert rows.recover_rows(tmp_path / "absent") is None
  (tmp_path / "empty").touch()
  assert rows.recover_rows(tmp_path / "empty") is None


@pytest.mark.parametrize("damage", [b"{", b"[1]", b"\xff\xfe", b""])
def test_damage_before_the_last_line_is_named_and_never_skipped(path, damage):
  lines = path.read_bytes().splitlines()
  path.write_bytes(b"\n".join([lines[0], damage, lines[1], b""]))
  found = rows.read_rows(path)
  assert next(found) == ROWS[0]
  with pytest.raises(rows.RowsError, match="line 2 must be a JSON object"):
    next(found)
  assert rows.recover_rows(path) is None


def test_no_file_is_an_error_that_says_so(tmp_path):
  with pytest.raises(rows.RowsError, match="there is none; run the experiment first"):
    list(rows.read_rows(tmp_path / "rows.jsonl"))


def test_a_private_record_is_its_owners_alone(tmp_path):
  path = tmp_path / "run.json"
  rows.write_private(path, {"seed": 7})
  assert json.loads(path.read_text()) == {"seed": 7}
  if os.name == "posix":
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
