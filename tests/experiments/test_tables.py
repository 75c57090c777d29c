"""Tables as CSV, read back; cells of rates, differences and numbers."""

import csv
import io
import math

import pytest

from experiments import tables
from experiments.tables import NOTHING
from rpfgsm_jax.evaluation import Difference, Rate
from rpfgsm_jax.report import Cell, Table, cells
from rpfgsm_jax.report.cells import NOT_AVAILABLE

THIRD = 1 / 3
FIRST = Table(
  "Rates | of *all*",
  ("attack", "rate, top-1", "photos"),
  [
    ["a|b", Cell("33 [10, 60]", THIRD), Cell("12", 12.0)],
    ["two\nlines", NOT_AVAILABLE, NOTHING],
    ['say "x", y', Cell("∞", None), "`code`"],
  ],
  "A note with `+D`.",
)
SECOND = Table("More", ("on",), [["resnet18 + alexnet"]])


def parse_csv(text):
  return list(csv.reader(io.StringIO(text)))


def test_csv_comes_back_with_unrounded_numbers():
  found = parse_csv(tables.csv_text([FIRST]))
  assert found[0] == ["Rates | of *all*"]
  assert found[1] == ["attack", "rate, top-1", "photos"]
  assert found[2][0] == "a|b"
  assert float(found[2][1]) == THIRD
  assert float(found[2][2]) == 12
  assert found[3:] == [["two\nlines", "n/a", ""], ['say "x", y', "∞", "`code`"]]


def test_csv_tables_stand_one_after_the_other_with_an_empty_line_between():
  found = parse_csv(tables.csv_text([SECOND, FIRST]))
  assert found[:5] == [["More"], ["on"], ["resnet18 + alexnet"], [], ["Rates | of *all*"]]
  assert tables.csv_text([SECOND]).endswith("alexnet\n")


def test_a_rate_is_shown_in_percent_with_its_interval_and_kept_unrounded():
  cell = cells.rate_cell(Rate(value=0.8251, low=0.704, high=0.896, count=50))
  assert cell == Cell("83 [70, 90]", 0.8251)


@pytest.mark.parametrize(
  "rate", [None, Rate(value=math.nan, low=0.0, high=1.0, count=0)], ids=["none", "of-none"]
)
def test_a_rate_of_nothing_is_not_available(rate):
  assert cells.rate_cell(rate) == NOT_AVAILABLE


@pytest.mark.parametrize(
  ("value", "low", "high", "text"),
  [
    (0.1234, 0.01, 0.2, "+12.3*"),
    (-0.1234, -0.2, -0.01, "-12.3*"),
    (0.1234, -0.01, 0.2, "+12.3"),
    (-0.1234, -0.2, 0.01, "-12.3"),
    (0.1234, 0.0, 0.2, "+12.3"),
    (0.0, 0.0, 0.0, "+0.0"),
    (0.25, 0.25, 0.25, "+25.0*"),
  ],
)
def test_a_difference_has_a_star_where_its_interval_leaves_out_zero(value, low, high, text):
  found = tables.difference_cell(Difference(value=value, low=low, high=high, count=9))
  assert found == Cell(text, value)


@pytest.mark.parametrize(
  "difference",
  [None, Difference(value=math.nan, low=math.nan, high=math.nan, count=0)],
  ids=["none", "of-none"],
)
def test_a_difference_of_nothing_is_not_available(difference):
  assert tables.difference_cell(difference) == NOT_AVAILABLE


@pytest.mark.parametrize(
  ("value", "digits", "text"),
  [(1234.56, 1, "1,234.6"), (1234.56, 0, "1,235"), (-0.12345, 3, "-0.123"), (0.0, 1, "0.0")],
)
def test_a_number_is_rounded_in_its_text_only(value, digits, text):
  assert cells.number_cell(value, digits) == Cell(text, value)


def test_a_share_is_shown_in_percent():
  assert tables.percent_cell(0.996) == Cell("100 %", 0.996)


def test_no_number_and_no_share():
  assert cells.number_cell(None) == NOT_AVAILABLE
  assert tables.percent_cell(None) == NOTHING
