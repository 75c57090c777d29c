"""What tests do to the page: drop, look, protect."""

import base64
import io

import skimage.data
from PIL import Image

DROP = """([element, given]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of given) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  for (const kind of ["dragover", "drop"]) {
    const rest = { bubbles: true, cancelable: true };
    element.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, ...rest }));
  }
}"""


def drop(page, *given):
  """Drops (name, content) pairs on the page."""
  values = [(name, base64.b64encode(content).decode()) for name, content in given]
  page.evaluate(DROP, [page.locator("#drop").element_handle(), values])
  page.locator("#adding", has_text="added").wait_for()


def photograph() -> bytes:
  """A launch pad, which the bundled judges are sure is a place with windmills."""
  content = io.BytesIO()
  Image.fromarray(skimage.data.rocket()[43:427, 128:512]).save(content, "PNG")
  return content.getvalue()


def row(page, name):
  return page.locator("#list tbody tr", has=page.get_by_role("rowheader", name=name, exact=True))


def verdicts(page):
  return page.locator("#list tbody td:nth-child(2)").all_inner_texts()


def protect(page, timeout=60_000):
  before = page.locator("#status").inner_text() or "nothing yet"
  page.locator("#start").click()
  status = page.locator("#status").filter(has_text=" done (").filter(has_not_text=before)
  status.wait_for(timeout=timeout)
