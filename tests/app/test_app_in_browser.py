"""The page in headless Chromium: real clicks, drops, keys and downloads; nothing asked elsewhere.

The attack computes nothing here, but in `test_app_process.py`.
"""

import io
import threading
import time
import zipfile

import pytest
import skimage.data
import uvicorn
from app.conftest import TOKEN, picture
from app.pages import drop, protect, row, verdicts
from jobs.fake_protector import FakePhotoProtector
from PIL import Image
from report.browser import luminance

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.ran = 1'>\N{RIGHT-TO-LEFT OVERRIDE}gpj.png"


@pytest.fixture
def served(serve):
  """A server in a thread of this process: its parts, and its address."""
  found = serve()
  config = uvicorn.Config(found.app(), port=0, lifespan="off", log_level="error", ws="none")
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run)
  thread.start()
  while not server.started:
    time.sleep(0.01)
  port = server.servers[0].sockets[0].getsockname()[1]
  found.address = f"http://127.0.0.1:{port}/{TOKEN}/"
  yield found
  server.should_exit = True
  thread.join()


@pytest.fixture
def page(visit, served):
  return visit(served.address)


def test_dropped_compared_protected_and_downloaded(page, tmp_path):
  drop(page, ("a.png", picture(0)), ("b.png", picture(1)))
  choose = page.locator("#files")
  choose.set_input_files({"name": "c.png", "mimeType": "image/png", "buffer": picture(2)})
  row(page, "c.png").wait_for()
  assert page.locator("#adding").inner_text() == "1 photo added."
  assert page.locator("#start").inner_text() == "Protect 3 photos"

  page.get_by_role("button", name="Compare: b.png").click()
  page.get_by_role("button", name="Try the three strengths").click()
  page.get_by_role("heading", name="strong, at most 16 gray levels of 255").wait_for()
  titles = page.locator("#shown h3").all_inner_texts()
  assert [title.split(",")[0] for title in titles] == ["gentle", "medium", "strong"]
  tops = {round(each.bounding_box()["y"]) for each in page.locator("#shown > section").all()}
  assert len(tops) == 1  # side by side
  assert page.locator("#shown .bars").count() == 9
  slider = page.locator("#shown input[type=range]").first
  slider.focus()
  slider.press("ArrowRight")
  assert slider.get_attribute("aria-valuetext") == "51 % original, 49 % result"
  difference = page.locator("#shown button", has_text="difference ×").first
  difference.click()
  assert difference.get_attribute("aria-pressed") == "true"

  assert page.locator("#start").inner_text() == "Go on with 2 photos"
  protect(page)
  assert verdicts(page) == ["protected"] * 3
  assert "3 photos: 3 protected" in page.locator("#summary").inner_text()
  assert "judged by 3 small networks, none like" in page.locator("#status").inner_text()
  assert difference.get_attribute("aria-pressed") == "true"  # what is looked at stays as it is
  with page.expect_download() as one:
    page.get_by_role("link", name="Download: a.png").click()
  assert one.value.suggested_filename == "a.png"
  with Image.open(one.value.path()) as downloaded:
    assert downloaded.size == (48, 40)
  with page.expect_download() as everything:
    page.locator("#zip").click()
  with zipfile.ZipFile(everything.value.path()) as archive:
    assert archive.namelist() == ["a.png", "b.png", "c.png"]


def test_a_folder_keeps_its_names(page, tmp_path):
  for name in ("trip/day 1/a.png", "trip/b.png", "trip/notes.txt", "trip/@eaDir/a.png"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(len(name)))
  page.locator("#folder").set_input_files(tmp_path / "trip")
  page.locator("#adding", has_text="2 photos added, 2 not.").wait_for()
  assert page.locator("#list tbody th").all_inner_texts() == ["trip/b.png", "trip/day 1/a.png"]
  refused = " ".join(page.locator("#refused li").all_inner_texts())
  assert "trip/notes.txt: no photo by its name" in refused


def test_hostile_names_and_damaged_files(page):
  whole = picture(5, (256, 256), "JPEG")
  damaged = ("damaged.jpg", whole[: len(whole) // 2])
  drop(page, (HOSTILE, picture(1)), ("junk.png", b"junk"), damaged)
  assert page.locator("#adding").inner_text() == "2 photos added, 1 not."
  assert page.locator("#refused li").inner_text().startswith("junk.png: the photo must be")
  protect(page)
  shown = HOSTILE.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "\\u202e")
  assert row(page, shown).locator("td").first.inner_text() == "protected"
  assert row(page, "damaged.jpg").locator("td").first.inner_text().startswith("damaged.jpg must be")
  page.get_by_role("button", name=f"Compare: {shown}").click()
  page.locator("#shown h3").wait_for()
  with page.expect_download():
    page.get_by_role("link", name=f"Download: {shown}").click()
  assert page.evaluate("window.ran") is None


def test_two_tabs_show_the_same_and_do_not_disturb_each_other(visit, served, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.5)
  first, second = visit(served.address), visit(served.address)
  drop(first, *((f"{number}.png", picture(number)) for number in range(30)))
  row(second, "29.png").wait_for()
  first.locator("#start").click()
  second.locator("#stop:enabled").wait_for()
  assert second.locator("#start").is_disabled()
  # A tab that has not heard of it yet is refused in words.
  second.evaluate("(start => { start.disabled = false; start.click() })(window.start)")
  second.get_by_role("alert").filter(has_text="Photos are being protected").wait_for()
  second.locator("#stop").click()
  for tab in (first, second):
    tab.locator("#status", has_text=" left").wait_for()
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.0)
  assert first.locator("#start").inner_text().startswith("Go on with ")
  protect(second)
  for tab in (first, second):
    tab.locator("#start", has_text="All are done").wait_for()
  assert verdicts(first) == verdicts(second) == ["protected"] * 30


def test_by_keyboard_alone(page):
  drop(page, ("a.png", picture()))

  def tab_to(name):
    for _ in range(40):
      page.keyboard.press("Tab")
      if page.evaluate("document.activeElement.id") == name:
        return
    raise AssertionError(f"{name} is not reached")

  tab_to("files")
  assert (
    page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineStyle") == "solid"
  )
  tab_to("start")
  page.keyboard.press("Enter")
  page.locator("#status", has_text="1 done (").wait_for()
  assert page.evaluate("document.activeElement.id") == "work-title"
  compare = page.get_by_role("button", name="Compare: a.png")
  compare.focus()
  page.keyboard.press("Enter")
  assert page.evaluate("document.activeElement.id") == "compare-title"
  tab_to("close")
  page.keyboard.press("Enter")
  assert page.evaluate("document.activeElement.ariaLabel") == "Compare: a.png"
  page.get_by_role("button", name="Remove: a.png").focus()
  page.keyboard.press("Enter")
  page.locator("#none").wait_for()
  assert page.evaluate("document.activeElement.id") == "files"


def test_what_a_screen_reader_is_told(page):
  drop(page, ("a.png", picture()))
  protect(page)
  page.get_by_role("button", name="Compare: a.png").click()
  page.locator("#shown h3").wait_for()
  assert page.get_by_role("status").count() == 3  # what is added, done, loaded
  assert page.get_by_role("group", name="How large the change may be").count() == 1
  assert page.get_by_role("radio", name="medium, at most 16").is_checked()
  # Small pictures in the list are decoration: the name stands beside each.
  unnamed = """Array.from(document.querySelectorAll("button, a, input, #shown img, progress"))
    .filter((each) => !(each.ariaLabel || each.alt || each.textContent.trim()))
    .filter((each) => !each.labels?.length).map((each) => each.outerHTML)"""
  assert page.evaluate(unnamed) == []


def test_removal(page, served):
  page.on("dialog", lambda dialog: dialog.accept())
  drop(page, ("a.png", picture()))
  protect(page)
  page.locator("#remove-originals").click()
  page.locator("#remove-originals:disabled").wait_for()
  assert list(served.session.originals.iterdir()) == []
  assert verdicts(page) == ["protected"]
  page.locator("#remove-all").click()
  page.locator("#none").wait_for()
  assert not [path for path in served.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_windows_in_light_and_dark(visit, served, scheme):
  page = visit(served.address, viewport={"width": 320, "height": 640}, color_scheme=scheme)
  drop(page, ("a-long-name-without-any-place-to-break-it-anywhere.png", picture()))
  protect(page)
  page.get_by_role("button", name="Compare").click()
  page.locator("#shown h3").wait_for()
  assert page.evaluate("document.documentElement.scrollWidth") <= 320
  for selector in ("body", "#start", "#zip", "#stop"):
    page.evaluate(f"document.querySelector('{selector}').disabled = false")
    style = f"getComputedStyle(document.querySelector('{selector}'))"
    colors = [page.evaluate(f"{style}.{each}") for each in ("color", "backgroundColor")]
    darker, lighter = sorted(map(luminance, colors))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector


def test_two_hundred_photos_and_one_of_twelve_megapixels(page):
  large = io.BytesIO()
  Image.fromarray(skimage.data.coffee()).resize((4000, 3000)).save(large, "JPEG", quality=95)
  page.locator("#files").set_input_files(
    [
      {"name": f"{number:03}.png", "mimeType": "image/png", "buffer": picture(number)}
      for number in range(199)
    ]
    + [{"name": "large.jpg", "mimeType": "image/jpeg", "buffer": large.getvalue()}]
  )
  page.locator("#adding", has_text="200 photos added.").wait_for(timeout=60_000)
  protect(page, 120_000)
  assert page.locator("#status").inner_text().startswith("200 done (")
  assert page.locator("#list tbody tr").count() == 200
  page.get_by_role("button", name="Compare: large.jpg").click()
  page.locator("#shown .caption", has_text="of 4000 × 3000 pixels").wait_for(timeout=60_000)
