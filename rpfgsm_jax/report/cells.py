"""The cells in which rates and numbers are shown."""

from rpfgsm_jax.evaluation import Rate
from rpfgsm_jax.report.sections import Cell

NOT_AVAILABLE = Cell("n/a", None)


def rate_cell(rate: Rate | None) -> Cell:
  """Returns a rate in % with its interval; None, and a rate of no image, is not available."""
  if rate is None or not rate.count:
    return NOT_AVAILABLE
  return Cell(f"{100 * rate.value:.0f} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]", rate.value)


def number_cell(value: float | None, digits: int = 1) -> Cell:
  """Returns a number with that many decimals; None is not available."""
  return NOT_AVAILABLE if value is None else Cell(f"{value:,.{digits}f}", float(value))
