"""Headless Chromium for the tests of pages."""

from report.browser import chromium as chromium
from report.browser import visit as visit
