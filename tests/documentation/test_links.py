"""Links of the documentation lead to files that are there, and to headings that they have."""

import re

import pytest
from documentation.page_blocks import PAGES, ROOT, text_of


def links(page):
  """Returns (path, anchor) of every link that stays in the project."""
  text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
  found = re.findall(r"\]\(([^)\s]+)\)", text)
  return [link.partition("#")[::2] for link in found if "://" not in link]


def anchors(page):
  """Returns the anchors that GitHub, and the site, give to a page's headings."""
  text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
  titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
  for path, anchor in links(page):
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.is_file(), path
    if anchor:
      assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{path}#{anchor}"


def test_there_are_links():
  assert sum(bool(anchor) for page in PAGES for _, anchor in links(page)) > 5
  assert sum(len(links(page)) for page in PAGES) > 100


def test_the_readme_is_short():
  assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
