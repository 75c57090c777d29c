"""The page of a run in headless Chromium, from disk: what a reader sees, clicks and is read aloud.

`make test-browser` installs the browser; see `report.browser` for the fixtures.
"""

import dataclasses
import io

import numpy as np
import pytest
from page_material import CONDITIONS, HELD_OUT, SEEN, VERDICTS, network, verdict, written
from PIL import Image
from report.browser import luminance
from report.parsed import Parsed, decode

from rpfgsm_jax.photos.page import write_photo_page

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.ran = 1'></script><script>window.ran = 1</script>\udce9\n.jpg"
WIDE, TALL = (1200, 750), (480, 640)
NAMES = ["photo10.jpg", "photo9.jpg", "photo1.jpg", HOSTILE, "gone.jpg", "Photo2.jpg"]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
  """The address of a page of six photos: two not protected, one of these gone."""
  folder = tmp_path_factory.mktemp("a folder #1?")
  protected = [dataclasses.replace(VERDICTS["protected"], psnr=each) for each in (27.5, 9.25)]
  entries = [
    written(folder, NAMES[0], protected[0], size=TALL),
    written(folder, NAMES[1], VERDICTS["not"], size=WIDE, working_size=[384, 256]),
    written(folder, NAMES[2], protected[1]),
    written(folder, NAMES[3], VERDICTS["partly"], notes=[HOSTILE]),
    written(folder, NAMES[4], VERDICTS["not"]),
    written(folder, NAMES[5], VERDICTS["no scene"]),
  ]
  entries[4].original.unlink()
  return write_photo_page(folder / "out-report.html", entries).as_uri()


@pytest.fixture
def page(visit, report):
  return visit(report)


@pytest.fixture(scope="module")
def pictures(report) -> list[np.ndarray]:
  """Original, result and difference of the first photo that is shown, as the page holds them."""
  from urllib.request import urlopen

  with urlopen(report) as file:
    images = Parsed(file.read().decode("utf-8")).all("img")
  return [decode(image["src"], "jpeg") for image in images[:3]]


def names(page) -> list[str]:
  """The first column of the table of all photos, as the reader sees it."""
  rows = page.locator("table:not(.fixed) tbody th").all()
  return [row.inner_text() for row in rows if row.is_visible()]


def card(page, name: str = "photo9.jpg"):
  return page.locator("section.comparison").filter(has=page.get_by_role("heading", name=name))


def shot(locator) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def stack_at_its_own_size(page) -> np.ndarray:
  """The pictures of the first photo as shown, one value a pixel of the pictures."""
  stack = page.locator(".stack").first
  # Until then, a picture that has just come into sight may not be painted yet.
  page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
  stack.evaluate(
    "e => Object.assign(e.parentElement.style, {position: 'fixed', inset: '0 auto auto 0'})"
  )
  return shot(stack)


def close(shown: np.ndarray, expected: np.ndarray, cut: int | None = None) -> bool:
  """Whether two pictures are the same but for what decoders differ in, and the slider's line."""
  assert shown.shape == expected.shape
  error = np.abs(shown - expected)
  keep = np.ones(shown.shape[1], bool)
  keep[[0, 1, 2, -3, -2, -1]] = False
  if cut is not None:
    keep[cut - 4 : cut + 4] = False
  return error[:, keep].max() <= 6 and error[:, keep].mean() < 0.5


def test_the_page_reads_from_the_totals_to_the_pictures(page):
  assert page.title() == "Protected photos"
  headings = page.get_by_role("heading", level=2).all_inner_texts()
  assert headings == ["Verdicts", "Judges", "All photos", "Before and after"]
  shown = page.get_by_role("heading", level=3).all_inner_texts()
  assert [" ".join(text.split()) for text in shown[:3]] == [
    "photo9.jpg not protected",
    "gone.jpg not protected",
    f"{HOSTILE[:-6]}\\xe9\\n.jpg partly protected",
  ]
  assert page.evaluate("window.ran") is None
  assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")


def test_a_click_sorts_the_table(page):
  psnr = page.get_by_role("button", name="PSNR")
  psnr.click()
  by_number = ["photo1.jpg", "photo10.jpg"]
  assert [name for name in names(page) if name in by_number] == by_number
  psnr.click()
  assert [name for name in names(page) if name in by_number] == by_number[::-1]
  page.get_by_role("button", name="verdict").click()
  assert names(page)[:2] == ["photo9.jpg", "gone.jpg"]
  assert names(page)[-1] == "Photo2.jpg"
  page.get_by_role("button", name="photo", exact=True).press("Enter")
  assert names(page)[-4:] == ["photo1.jpg", "Photo2.jpg", "photo9.jpg", "photo10.jpg"]


def test_the_filter_finds_verdicts(page):
  page.get_by_label("Filter rows").fill("not protected")
  assert names(page) == ["photo9.jpg", "gone.jpg"]
  assert page.locator(".count").inner_text() == "2 of 6 rows"


def test_a_name_leads_to_its_pictures(page):
  page.get_by_role("link", name="photo10.jpg").click()
  heading = page.get_by_role("heading", name="photo10.jpg")
  box = heading.bounding_box()
  assert 0 <= box["y"] < 900
  outline = "e => getComputedStyle(e).outlineStyle"
  assert card(page, "photo10.jpg").evaluate(outline) == "solid"
  assert card(page).evaluate(outline) == "none"


def test_only_the_table_of_all_photos_has_buttons_and_a_filter(page):
  assert page.locator("table.fixed button").count() == 0
  assert page.locator("table.fixed").count() == 2 + len(NAMES)
  assert page.get_by_role("searchbox").count() == 1


def test_the_slider_moves_by_keyboard_between_original_and_result(page, pictures):
  slider = card(page).get_by_role("slider")
  assert slider.get_attribute("aria-label") == "How much of the picture shows: original"
  slider.focus()
  page.keyboard.press("Home")
  assert slider.get_attribute("aria-valuetext") == "0 % original, 100 % result"
  assert close(stack_at_its_own_size(page), pictures[1])
  page.keyboard.press("End")
  assert close(stack_at_its_own_size(page), pictures[0])
  page.keyboard.press("ArrowLeft")
  assert slider.get_attribute("aria-valuetext") == "99 % original, 1 % result"


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_slider_follows_the_mouse(page, pictures, share):
  frame = page.locator(".frame").first
  frame.scroll_into_view_if_needed()
  box = frame.bounding_box()
  middle = box["y"] + box["height"] / 2
  page.mouse.move(box["x"] + box["width"] * 0.6, middle)
  page.mouse.down()
  page.mouse.move(box["x"] + box["width"] * share, middle, steps=4)
  page.mouse.up()
  value = int(card(page).get_by_role("slider").input_value())
  assert abs(value - 100 * share) <= 1
  cut = round(pictures[0].shape[1] * value / 100)
  expected = np.concatenate([pictures[0][:, :cut], pictures[1][:, cut:]], axis=1)
  assert close(stack_at_its_own_size(page), expected, cut)


def test_the_difference_covers_both_and_goes_away_again(page, pictures):
  button = card(page).get_by_role("button", name="difference × ")
  button.press("Space")
  assert button.get_attribute("aria-pressed") == "true"
  assert close(stack_at_its_own_size(page), pictures[2])
  assert not page.locator(".cut").first.is_visible()
  button.click()
  assert button.get_attribute("aria-pressed") == "false"
  page.locator(".frame").first.evaluate("e => e.style.setProperty('--cut', '0%')")
  assert close(stack_at_its_own_size(page), pictures[1])


def test_the_pictures_are_those_of_a_photograph(pictures):
  """Lest blank pictures agree with blank pictures."""
  before, after, difference = (each.astype(int) for each in pictures)
  assert before.shape == (500, 800, 3)
  assert min(each.std() for each in (before, after, difference)) > 20
  assert 3 < np.abs(before - after).mean() < 12


def bars(page, network: str = SEEN, column: int = 0):
  section = card(page).locator("section.bars").filter(has=page.get_by_role("heading", name=network))
  return section.locator("ol").nth(column).locator("li")


def test_predictions_are_read_aloud_with_their_numbers(page):
  heard = card(page).aria_snapshot()
  for line in [
    f'heading "{SEEN}" [level=4]',
    'list "toys/seen original"',
    "listitem: kitchen 90.0 %",
    "listitem: living room 8.0 %",
    'list "toys/seen result"',
    "listitem: attic 75.0 %",
    f'heading "{HELD_OUT}" [level=4]',
    "listitem: beach < 0.1 %",
    'heading "Misled, condition by condition" [level=4]',
    'slider "How much of the picture shows: original"',
    'button "difference × ',
    'columnheader "JPEG 75"',
    'cell "no"',
  ]:
    assert line in heard


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_are_as_long_as_their_numbers_and_stand_out(visit, report, scheme):
  page = visit(report, color_scheme=scheme)
  for column, shares in ((0, [0.9, 0.08, 0.02]), (1, [0.75, 0.2, 0.0003])):
    items = bars(page, column=column).all()
    assert len(items) == len(shares)
    for item, share in zip(items, shares, strict=True):
      texts = item.locator("span").all()
      assert [text.is_visible() for text in texts] == [True, True]
      frame, bar = (item.locator(each).bounding_box() for each in ("svg", "rect"))
      assert frame["width"] > 60
      assert abs(bar["width"] - share * frame["width"]) < 1
      right_of_text = texts[0].bounding_box()
      assert right_of_text["x"] + right_of_text["width"] <= frame["x"] + 1
  colors = {}
  for place, name in ((0, "marked"), (1, "other")):
    shown = shot(bars(page).nth(place).locator("svg"))
    middle = shown[shown.shape[0] // 2]
    colors[name], colors["rest"] = middle[2], middle[-4]
    filled = (np.abs(middle - middle[2]).sum(-1) < 30).mean()
    assert abs(filled - (0.9, 0.08)[place]) < 0.04
  paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
  for name in ("marked", "other"):
    light = luminance("rgb({}, {}, {})".format(*colors[name]))
    low, high = sorted((light, paper))
    assert (high + 0.05) / (low + 0.05) >= 3, name
  assert np.abs(colors["marked"] - colors["other"]).sum() > 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_marks_contrast(visit, report, scheme):
  page = visit(report, color_scheme=scheme)
  inks, marks, papers = page.evaluate("""() => {
    const color = (e, pseudo) => getComputedStyle(e, pseudo);
    const all = (selector) => [...document.querySelectorAll(selector)];
    return [
      all("main :is(span:not(.cut), li, td, th, p, h3, h4, dt, dd)").map((e) => color(e).color),
      all(".tone").map((e) => color(e, "::before").backgroundColor),
      [document.body, document.querySelector("thead th")].map((e) => color(e).backgroundColor),
    ];
  }""")
  assert len(set(marks)) == 3
  for least, colors in ((4.5, inks), (3, marks)):
    for paper in papers:
      for color in set(colors):
        low, high = sorted((luminance(color), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= least, (color, paper)


def test_each_condition_is_shown_for_each_network(page):
  table = card(page).get_by_role("table")
  heads = [" ".join(text.split()) for text in table.get_by_role("columnheader").all_inner_texts()]
  assert heads == ["network", "recognized a scene", *CONDITIONS]
  rows = [table.locator(f"tbody tr:nth-child({n}) > *").all_inner_texts() for n in (1, 2)]
  assert rows == [[SEEN, "yes, 90 %", *["yes"] * 5], [HELD_OUT, "yes, 60 %", *["no"] * 5]]
  scroll = card(page).locator(".scroll").evaluate("e => e.scrollWidth - e.clientWidth")
  assert scroll == 0  # on a desktop all of it is seen


def test_a_photo_that_is_gone_says_so_in_its_place(page):
  gone = card(page, "gone.jpg")
  assert gone.get_by_text("No pictures: the original is not there any more.").is_visible()
  assert gone.locator("img, input, button").count() == 0
  assert gone.locator("section.bars").count() == 2


def test_every_control_is_reached_by_tab_and_shows_it(page):
  kinds = []
  for _ in range(80):
    page.keyboard.press("Tab")
    kind, outline = page.evaluate("""() => {
      const e = document.activeElement, f = e.closest(".frame") ?? e;
      return [e.getAttribute("type") ?? e.tagName, getComputedStyle(f).outlineStyle];
    }""")
    if kind == "BODY":
      break
    assert outline == "solid", kind
    kinds.append(kind)
  assert kinds.count("range") == 5  # each photo but the one that is gone
  assert kinds.count("A") == 4 + len(NAMES)
  assert kinds.count("button") == 7 + 5  # columns, differences
  assert kinds.count("search") == 1


@pytest.mark.parametrize("width", [340, 700])
def test_a_small_window_scrolls_down_only(visit, report, width):
  page = visit(report, viewport={"width": width, "height": 640}, has_touch=True, is_mobile=True)
  assert page.evaluate("document.documentElement.scrollWidth") <= width
  boxes = card(page).locator(".beside > div").all()
  first, second = (each.bounding_box() for each in boxes)
  assert second["y"] >= first["y"] + first["height"]  # one below the other
  assert bars(page).first.locator(".share").is_visible()


def test_pictures_and_bars_stand_side_by_side_on_a_desktop(page):
  first, second = (each.bounding_box() for each in card(page).locator(".beside > div").all())
  assert first["y"] == second["y"]
  assert second["x"] >= first["x"] + first["width"]


def test_without_script_everything_is_there(visit, report):
  page = visit(report, java_script_enabled=False)
  captions = card(page).locator("figcaption").all_inner_texts()
  assert captions[:2] == ["original", "result"]
  assert captions[2].startswith("difference × ")
  assert all(image.is_visible() for image in card(page).locator("img").all())
  assert bars(page).first.inner_text().split() == ["kitchen", "90.0", "%"]
  assert page.locator("button, input").count() == 0


def test_a_long_table_scrolls_within_itself_under_its_head(visit, tmp_path):
  judged = verdict(network(before=0.4))
  one = written(tmp_path, judged=judged)
  entries = [dataclasses.replace(one, relative=f"{n}.jpg") for n in range(60)]
  page = visit(write_photo_page(tmp_path / "long.html", entries).as_uri())
  region = page.get_by_role("region", name="All photos").last
  region.scroll_into_view_if_needed()
  region.evaluate("e => { e.scrollTop = 1000; }")
  box, head = region.bounding_box(), region.locator("thead th").first.bounding_box()
  assert box["height"] <= 0.8 * 900
  assert abs(head["y"] - box["y"]) <= 1
  page.get_by_role("button", name="photo", exact=True).click()
  assert names(page)[:3] == ["0.jpg", "1.jpg", "2.jpg"]
