"""The page in a real browser, from disk: what a reader sees and does in headless Chromium.

`make test-browser` installs the browser; see `report.browser` for the fixtures.
"""

import io

import numpy as np
import pytest
from PIL import Image
from report.browser import luminance

from rpfgsm_jax.report import Cell, Comparison, Group, Picture, Table, Text, write_page

pytestmark = pytest.mark.browser

HEIGHT, WIDTH, FACTOR = 96, 128, 3  # on the page, a pixel is three pixels wide
LARGEST, AMPLIFICATION = 16, 15
HOSTILE = (
  "</script></title></style><script>window.ran = 1</script>"
  "<img src=x onerror='window.ran = 1'><svg onload='window.ran = 1'>\udce9"
)
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">
<script>parent.ran = top.ran = 1</script><rect width="40" height="30" fill="#369"/></svg>"""
ROWS = [
  ["photo10.jpg", Cell("27.2 dB", 27.2), "kitchen"],
  ["photo9.jpg", Cell("identical", float("inf")), "beach"],
  ["photo1.jpg", Cell("9.9 dB", 9.9), "kitchen"],
  ["Photo2.jpg", Cell("failed", None), ""],
  ["photo3.jpg", Cell("9.9 dB", 9.9), "attic"],
  ["photo4.jpg", Cell("-1.5 dB", -1.5), "beach"],
]


def _photographs() -> tuple[np.ndarray, np.ndarray]:
  """A photograph and one that differs by at most LARGEST levels."""
  import skimage.data

  picture = Image.fromarray(skimage.data.coffee()).resize((WIDTH, HEIGHT))
  before = np.asarray(picture)
  change = np.random.default_rng(1).integers(-LARGEST, LARGEST + 1, before.shape)
  change[0, 0], before = LARGEST, np.minimum(before, 255 - LARGEST)
  return before, np.clip(before + change, 0, 255).astype(np.uint8)


BEFORE, AFTER = _photographs()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
  """The address of a page with one section of each kind."""
  facts = [("before", "kitchen 93 %"), ("after", "beach 80 %")]
  comparison = Comparison("photo10.jpg", BEFORE, AFTER, "The slider.", facts)
  sections = [
    Text(["A first paragraph.", "A second one."]),
    Table("Photographs", ["photo", "PSNR", "scene"], ROWS, note="Click a column's name."),
    Group("Pictures", [comparison, Comparison("the same twice", BEFORE, BEFORE)]),
    Picture("A drawing", SVG, "What it shows."),
    Picture("A photograph", np.tile(BEFORE, (4, 10, 1))),
    Table("Wide", [f"column {n}" for n in range(20)], [[f"cell{n}" for n in range(20)]]),
  ]
  path = tmp_path_factory.mktemp("a folder") / "page #1?.html"
  return write_page(path, "A report", sections).as_uri()


@pytest.fixture
def page(visit, report):
  return visit(report)


def names(page) -> list[str]:
  """The first column of the first table, as the reader sees it."""
  rows = page.locator("table").first.locator("tbody th")
  return [row.inner_text() for row in rows.all() if row.is_visible()]


def sort_states(page) -> list[str | None]:
  heads = page.locator("table").first.locator("thead th").all()
  return [head.get_attribute("aria-sort") for head in heads]


def screenshot(page) -> np.ndarray:
  """The first comparison as shown, one value a pixel of the pictures."""
  stack = page.locator(".stack").first
  # Text above leaves it at a fraction of a pixel, and a screenshot would have a margin.
  stack.evaluate(
    "e => Object.assign(e.parentElement.style, {position: 'fixed', inset: '0 auto auto 0'})"
  )
  content = stack.screenshot()
  shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
  assert shown.shape == (HEIGHT * FACTOR, WIDTH * FACTOR, 3)
  return shown


def enlarged(image: np.ndarray) -> np.ndarray:
  return image.repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)


def clip(page) -> str:
  after = page.locator(".stack").first.locator("img").last
  return after.evaluate("image => getComputedStyle(image).clipPath")


ORIGINAL = ["photo10.jpg", "photo9.jpg", "photo1.jpg", "Photo2.jpg", "photo3.jpg", "photo4.jpg"]


def test_the_page_reads_in_the_order_given(page):
  assert page.title() == "A report"
  assert names(page) == ORIGINAL
  assert sort_states(page) == [None] * 3
  assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")


def test_a_click_sorts_up_and_another_down_without_breaking_ties(page):
  psnr = page.get_by_role("button", name="PSNR")
  psnr.click()
  up = ["photo4.jpg", "photo1.jpg", "photo3.jpg", "photo10.jpg", "photo9.jpg", "Photo2.jpg"]
  assert names(page) == up
  assert sort_states(page) == [None, "ascending", None]
  psnr.click()
  down = ["photo9.jpg", "photo10.jpg", "photo1.jpg", "photo3.jpg", "photo4.jpg", "Photo2.jpg"]
  assert names(page) == down
  assert sort_states(page) == [None, "descending", None]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_column_sorts_by_keyboard(page, key):
  page.get_by_role("button", name="photo", exact=True).focus()
  page.keyboard.press(key)
  in_order = ["photo1.jpg", "Photo2.jpg", "photo3.jpg", "photo4.jpg", "photo9.jpg", "photo10.jpg"]
  assert names(page) == in_order
  page.keyboard.press("Tab")
  page.keyboard.press(key)
  assert sort_states(page) == [None, "ascending", None]


def test_a_second_column_keeps_the_first_among_equals(page):
  page.get_by_role("button", name="PSNR").click()
  page.get_by_role("button", name="scene").click()
  by_scene = ["photo3.jpg", "photo4.jpg", "photo9.jpg", "photo1.jpg", "photo10.jpg", "Photo2.jpg"]
  assert names(page) == by_scene


def test_the_filter_keeps_rows_with_every_word(page):
  field = page.get_by_label("Filter rows")
  field.fill("KITCHEN  9.9")
  assert names(page) == ["photo1.jpg"]
  assert page.locator(".count").inner_text() == "1 of 6 rows"
  page.get_by_role("button", name="scene").click()
  assert names(page) == ["photo1.jpg"]
  field.fill("")
  assert sorted(names(page)) == sorted(ORIGINAL)


def test_the_slider_moves_by_keyboard_and_shows_either_picture_exactly(page):
  slider = page.get_by_role("slider").first
  assert clip(page) == "inset(0px 0px 0px 50%)"
  slider.focus()
  page.keyboard.press("ArrowRight")
  assert clip(page) == "inset(0px 0px 0px 51%)"
  assert slider.get_attribute("aria-valuetext") == "51 % original, 49 % protected"
  page.keyboard.press("Home")
  np.testing.assert_array_equal(inside(screenshot(page)), inside(enlarged(AFTER)))
  page.keyboard.press("End")
  np.testing.assert_array_equal(inside(screenshot(page)), inside(enlarged(BEFORE)))


def inside(shown: np.ndarray) -> np.ndarray:
  """Without the columns that the slider's line covers at either end."""
  return shown[:, FACTOR:-FACTOR]


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_the_slider_follows_the_pointer(page, share):
  frame = page.locator(".frame").first
  frame.scroll_into_view_if_needed()
  box = frame.bounding_box()
  middle = box["y"] + box["height"] / 2
  page.mouse.move(box["x"] + box["width"] * 0.6, middle)
  page.mouse.down()
  assert clip(page) == "inset(0px 0px 0px 60%)"
  page.mouse.move(box["x"] + box["width"] * share, middle, steps=4)
  page.mouse.up()
  assert clip(page) == f"inset(0px 0px 0px {share:.0%})"
  shown, cut = screenshot(page), round(WIDTH * FACTOR * share)
  np.testing.assert_array_equal(shown[:, : cut - 4], enlarged(BEFORE)[:, : cut - 4])
  np.testing.assert_array_equal(shown[:, cut + 4 :], enlarged(AFTER)[:, cut + 4 :])


def test_a_finger_moves_the_slider(visit, report):
  page = visit(report, has_touch=True, is_mobile=True, viewport={"width": 1200, "height": 900})
  frame = page.locator(".frame").first
  frame.scroll_into_view_if_needed()
  box = frame.bounding_box()
  page.touchscreen.tap(box["x"] + box["width"] * 0.3, box["y"] + 20)
  assert clip(page) == "inset(0px 0px 0px 30%)"


def test_the_difference_is_exact_and_goes_away_again(page):
  button = page.get_by_role("button", name=f"difference × {AMPLIFICATION}", exact=True)
  button.focus()
  page.keyboard.press("Enter")
  assert button.get_attribute("aria-pressed") == "true"
  difference = np.abs(AFTER.astype(int) - BEFORE)
  assert difference.max() * AMPLIFICATION in range(256 - LARGEST, 256)
  np.testing.assert_array_equal(screenshot(page), enlarged(difference * AMPLIFICATION))
  button.click()
  assert button.get_attribute("aria-pressed") == "false"
  assert clip(page) == "inset(0px 0px 0px 50%)"


def test_comparisons_do_not_move_each_other(page):
  page.get_by_role("slider").nth(1).focus()
  page.keyboard.press("End")
  page.get_by_role("button", name="difference × 1", exact=True).click()
  assert clip(page) == "inset(0px 0px 0px 50%)"
  assert page.locator(".difference").count() == 1


def test_every_control_is_reached_by_tab_and_shows_it(page):
  reached = []
  for _ in range(30):
    page.keyboard.press("Tab")
    focused = page.evaluate("""() => {
      const e = document.activeElement, f = e.closest(".frame") ?? e;
      return [e.tagName + (e.type ? ":" + e.type : ""), getComputedStyle(f).outlineStyle];
    }""")
    if focused[0] == "BODY":
      break
    reached.append(tuple(focused))
  assert {style for _, style in reached} == {"solid"}
  kinds = [kind for kind, _ in reached]
  assert kinds.count("A:") + kinds.count("A") == 5
  assert kinds.count("INPUT:range") == 2
  assert kinds.count("INPUT:search") == 1
  assert kinds.count("BUTTON:button") >= 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_contrast_in_both_schemes(visit, report, scheme):
  page = visit(report, color_scheme=scheme)
  colors = page.evaluate("""() => {
    const seen = (e) => getComputedStyle(e).backgroundColor;
    const paper = seen(document.body), text = [];
    for (const e of document.querySelectorAll("p, a, th, td, dt, dd, figcaption, h1, button")) {
      const own = seen(e.closest("thead th, .controls button") ?? document.body);
      text.push([e.tagName, getComputedStyle(e).color, own]);
    }
    return [["paper", paper, paper], ...text];
  }""")
  (_, paper, _), *texts = colors
  assert (luminance(paper) < 0.1) == (scheme == "dark")
  for tag, ink, ground in texts:
    low, high = sorted((luminance(ink), luminance(ground)))
    assert (high + 0.05) / (low + 0.05) >= 4.5, (tag, ink, ground)


def test_a_phone_scrolls_down_only(visit, report):
  page = visit(report, viewport={"width": 340, "height": 640}, has_touch=True, is_mobile=True)
  assert page.evaluate("document.documentElement.scrollWidth") <= 340
  assert page.evaluate("innerWidth") == 340


def test_without_script_everything_is_there_and_nothing_is_dead(visit, report):
  page = visit(report, java_script_enabled=False)
  assert names(page) == ORIGINAL
  assert page.locator("button, input").count() == 0
  images = page.locator(".views").first.locator("img").all()
  boxes = [image.bounding_box() for image in images]
  assert [(box["width"], box["height"]) for box in boxes] == [(WIDTH * 3, HEIGHT * 3)] * 2
  assert boxes[0]["x"] != boxes[1]["x"] or boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]


def test_hostile_texts_are_shown_and_do_not_run(visit, tmp_path):
  comparison = Comparison(
    HOSTILE, BEFORE, AFTER, HOSTILE, facts=[(HOSTILE, HOSTILE)], labels=(HOSTILE, HOSTILE)
  )
  rows = [[HOSTILE, Cell(HOSTILE, index)] for index in range(6)]
  sections = [
    Text([HOSTILE], title=HOSTILE),
    Table(HOSTILE, [HOSTILE, HOSTILE], rows, note=HOSTILE),
    Group(HOSTILE, [comparison], note=HOSTILE),
    Picture(HOSTILE, SVG, caption=HOSTILE),
  ]
  page = visit(write_page(tmp_path / "hostile.html", HOSTILE, sections).as_uri())
  page.locator("thead button").first.click()
  page.get_by_role("slider").press("End")
  page.locator(".controls button").click()
  assert page.evaluate("window.ran") is None
  shown = HOSTILE.replace("\udce9", "\\xe9")
  assert page.title() == shown
  for selector in ("h1", "h2", "h3", "p.note", "td", "dt", "dd", "thead button", "figcaption"):
    assert page.locator(selector).first.text_content() == shown, selector
  assert page.locator("script").count() == 1


@pytest.mark.parametrize(
  "attempt",
  [
    "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; add(s)",
    "const i = document.createElement('div'); i.setAttribute('onclick', 'window.ran = 1'); "
    "add(i); i.click()",
    "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; add(i)",
    "fetch('http://127.0.0.1:9/').catch(() => 0)",
    "const s = document.createElement('style'); s.textContent = 'h1 { color: red }'; add(s)",
  ],
  ids=["script", "handler", "image", "fetch", "style"],
)
def test_the_policy_stops_what_escaping_would_let_through(visit, report, attempt):
  page = visit(report)
  stopped = page.evaluate(f"""() => new Promise((resolve) => {{
    const add = (element) => document.body.append(element);
    document.addEventListener("securitypolicyviolation", (event) =>
      resolve(event.effectiveDirective));
    setTimeout(() => resolve(null), 5000);
    {attempt};
  }})""")
  assert stopped is not None
  assert page.evaluate("window.ran") is None
  assert all("Content Security Policy" in message for message in visit.said)
  visit.said.clear()
  del visit.asked[1:]  # the image counts as asked for, although the policy stopped it
