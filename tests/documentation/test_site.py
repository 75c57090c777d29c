"""The site as `make docs` builds it: without a warning, whole, from this disk alone."""

import pathlib
import re
import subprocess
import sys

import pytest
from documentation.page_blocks import ROOT
from report.browser import chromium as chromium

import rpfgsm_jax as rp
from rpfgsm_jax import comparison, photos, report


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  """The folder of the built site; built by the command of the Makefile, its warnings are errors."""
  makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
  words = re.search(r"^\t\$\(RUN\) (-m sphinx .*) docs/_build$", makefile, re.MULTILINE)[1].split()
  out = tmp_path_factory.mktemp("site")
  made = [sys.executable, *words, str(out), "--doctree-dir", str(out / "trees")]
  done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, "")
  return out


@pytest.mark.long
def test_every_public_name_is_on_a_page_with_its_source(site):
  pages = {path: path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html")}
  text = "\n".join(pages.values())
  for module in (rp, photos, report, comparison, rp.data, rp.defenses, rp.quality, rp.evaluation):
    for name in module.__all__:
      full = f"{module.__name__}.{name}"
      assert f'id="{full}"' in text or f'id="module-{full}"' in text or f">{full}<" in text, full
  assert text.count('href="../_modules/') > 100


@pytest.mark.long
def test_nothing_comes_from_other_machines(site):
  loaded = re.compile(r"""(?:src|srcset)="(?:https?:)?//|<link[^>]*href="(?:https?:)?//""")
  imported = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")
  for path in site.rglob("*"):
    if path.suffix in (".html", ".css", ".js"):
      text = path.read_text(encoding="utf-8")
      assert not (loaded if path.suffix == ".html" else imported).search(text), path.name
      assert str(pathlib.Path.home()) + "/" not in text
      assert str(ROOT) not in text


@pytest.mark.long
def test_equations_and_notebooks_are_shown(site):
  assert (site / "explanation/method.html").read_text(encoding="utf-8").count("<math ") > 20
  assert 'class="cell_output' in (site / "notebooks/new-attack.html").read_text(encoding="utf-8")


@pytest.mark.browser
def test_search_works_from_disk(site, chromium):
  page, asked = chromium.new_page(), []
  page.on("request", lambda request: asked.append(request.url))
  page.goto((site / "index.html").as_uri())
  page.fill("input[name=q]", "straight_through")
  page.press("input[name=q]", "Enter")
  page.wait_for_selector("ul.search li a")
  assert any(
    "method" in link.get_attribute("href") for link in page.query_selector_all(".search a")
  )
  assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
