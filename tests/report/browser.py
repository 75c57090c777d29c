"""Fixtures of tests in headless Chromium; a folder that has such tests imports them in conftest.py.

`make test-browser` installs the browser. `RPFGSM_CHROMIUM` names another binary.
"""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(scope="module")
def chromium() -> Iterator:
  """Headless Chromium; skips by name where none is installed."""
  playwright = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need Playwright: make test-browser"
  )
  with playwright.sync_playwright() as driver:
    path = os.environ.get("RPFGSM_CHROMIUM") or None
    try:
      # A monitor's color profile would change the levels that are compared below.
      args = ["--force-color-profile=srgb"]
      browser = driver.chromium.launch(executable_path=path, args=args)
    except playwright.Error as error:
      if path or "Executable doesn't exist" not in error.message:
        raise
      pytest.skip("no Chromium found: make test-browser installs one, RPFGSM_CHROMIUM names one")
    yield browser
    browser.close()


@contextlib.contextmanager
def watched(chromium, timeout: float) -> Iterator:
  """Opens pages, closes them, and keeps `addresses`, what was `asked` for, and what was `said`."""
  contexts, said, asked, addresses = [], [], [], []

  def _visit(address: str, **options):
    context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    context.set_default_timeout(timeout)
    contexts.append(context)
    addresses.append(address)
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    return page

  _visit.said, _visit.asked, _visit.addresses = said, asked, addresses
  yield _visit
  for context in contexts:
    context.close()


@pytest.fixture
def visit(chromium):
  """Opens pages; afterwards, nothing was asked for but them, and the console stayed empty."""
  with watched(chromium, 5000) as pages:
    yield pages
  assert [url for url in pages.asked if not url.startswith("data:")] == pages.addresses
  assert pages.said == []


def luminance(color: str) -> float:
  """Relative luminance of `rgb(r, g, b)` as WCAG 2 defines it."""
  levels = np.array([int(level) for level in color[4:-1].split(",")]) / 255
  linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
  return float(linear @ [0.2126, 0.7152, 0.0722])
