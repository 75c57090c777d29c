"""From what a command printed and wrote to values that are the same in every run on one machine."""

import hashlib
import html
import json
import os
import pathlib
import re
from typing import Any

from PIL import Image

DIGITS = 4  # of floating-point numbers
LONGEST = 100  # characters of a list of numbers; of a longer one only a digest is kept
PLACEHOLDERS = {
  "seconds": "<seconds>",
  "photos_per_second": "<rate>",
  "idle_share": "<share>",
  "first_result_seconds": "<seconds>",
  "compiled": "<whether>",
  "versions": "<versions>",
  "device": "<device>",
}
PICTURES = (".png", ".webp", ".jpg", ".gif")
# What runs of photos print in the order in which photos happen to be ready.
PHOTO_LINE = re.compile(r"(failed|note|partly protected|not protected|left out): ")
PROGRESS = re.compile(r"\d+%\||\d+/(\d+|\?) \[|\d*(row|image|photo)s? ?\[|\[\d\d:\d\d")
REPLACED = (
  (re.compile(r"\x1b\[[A-Z]"), ""),
  (re.compile(r"\b\d+\.\d s, \d+\.\d\d photos/s"), "<time> s, <rate> photos/s"),
  (re.compile(r"devices idle \d+\.\d %"), "devices idle <share> %"),
  (re.compile(r"compiling \(once; kept in [^)]*\)"), "<compiled programs>"),
  (re.compile(r"using compiled programs kept in \S+"), "<compiled programs>"),
  (re.compile(r"\bjax \d+\.\d+\.\d+"), "jax <version>"),
  (re.compile(r"0x[0-9a-f]{6,}"), "<address>"),
  (re.compile(r"\b(process|pid) \d+"), r"\1 <number>"),
)
SPEED = re.compile(r"(?<![\w.])\d+(\.\d+)?( ?(s|seconds|minutes|min)\b)")


class Normalizer:
  """Knows which paths of a run are its own."""

  def __init__(self, paths: dict[str, pathlib.Path]):
    found = {}
    for name, path in paths.items():
      found |= {str(path): f"<{name}>", os.path.realpath(path): f"<{name}>"}
    self._paths = sorted(found.items(), key=lambda pair: -len(pair[0]))

  def text(self, text: str, *, timed: bool = False) -> str:
    """Returns a text without this run's paths and times; `timed`: whatever it counts in seconds."""
    for path, name in self._paths:
      text = text.replace(path, name)
    for pattern, replacement in REPLACED:
      text = pattern.sub(replacement, text)
    return SPEED.sub(r"<time>\2", text) if timed else text

  def lines(self, text: str, *, timed: bool = False) -> list[str]:
    """Returns printed lines without progress bars, those of single photos sorted and first."""
    pieces = re.split(r"[\r\n]+", self.text(text, timed=timed))
    kept = [each.rstrip() for each in pieces if each.strip() and not PROGRESS.search(each)]
    photos = sorted(each for each in kept if PHOTO_LINE.match(each))
    return photos + [each for each in kept if not PHOTO_LINE.match(each)]

  def value(self, value: Any, name: str = "") -> Any:
    """Returns a JSON value, rounded, without times and paths; long lists of numbers as a digest."""
    if name in PLACEHOLDERS:
      return PLACEHOLDERS[name]
    if name.endswith("_mark") and isinstance(value, list):
      return [value[0], "<time>"]
    if name == "environment":
      return sorted(value)
    if isinstance(value, dict):
      return {key: self.value(each, key) for key, each in value.items()}
    if isinstance(value, list):
      found = [self.value(each) for each in value]
      text = json.dumps(found)
      if len(text) > LONGEST and "{" not in text:
        return f"list of {len(found)}, sha256 {digest(text.encode())[:16]}"
      return found
    if isinstance(value, float):
      return round(value, DIGITS)
    return self.text(value) if isinstance(value, str) else value

  def row(self, value: Any) -> str:
    """Returns a JSON value in one line."""
    return json.dumps(self.value(value), ensure_ascii=False)

  def folder(self, folder: pathlib.Path) -> dict[str, Any]:
    """Returns what each file in a folder holds, by relative path; of a job's state its records."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
      relative = path.relative_to(folder).as_posix()
      if path.is_file() and ".rpfgsm/" not in f"/{relative}":
        found[relative] = self.file(path)
    return found

  def file(self, path: pathlib.Path) -> Any:
    """Returns what a file holds, in words."""
    content = path.read_bytes()
    if path.suffix in PICTURES:
      return picture(path)
    if path.suffix == ".jsonl":
      return [self.row(json.loads(line)) for line in content.splitlines()]
    if path.suffix == ".json":
      return self.value(json.loads(content))
    text = content.decode()
    if path.suffix == ".html":
      return self.page(text)
    lines = self.text(text, timed=path.suffix == ".md").splitlines()
    if len(lines) > 500:
      return {"lines": len(lines), "sha256": digest("\n".join(lines).encode()), "first": lines[0]}
    return lines

  def page(self, text: str) -> dict[str, Any]:
    """Returns what a page shows: its text, and how many pictures it holds."""
    pictures = len(re.findall(r"data:image/[a-z]+;base64,", text))
    shown = re.sub(r"<(style|script)\b.*?</\1>|<!--.*?-->", "", text, flags=re.DOTALL)
    shown = self.text(html.unescape(re.sub(r"<[^>]*>", "\n", shown)), timed=True)
    lines = [line for line in (" ".join(each.split()) for each in shown.split("\n")) if line]
    if len(lines) > 500:
      whole = digest("\n".join(lines).encode())
      lines = [f"{len(lines)} lines, sha256 {whole}"]
    return {"pictures": pictures, "text": lines}

  def state(self, out: pathlib.Path) -> dict[str, Any]:
    """Returns a job's private records, the photos' sorted by their results."""
    state = out / ".rpfgsm"
    if not state.is_dir():
      return {}
    found: dict[str, Any] = {"mode": oct(state.stat().st_mode & 0o777)}
    job = state / "job.json"
    if job.is_file():
      found["job mode"] = oct(job.stat().st_mode & 0o777)
      found["job"] = self.value(json.loads(job.read_bytes()))
    photos = [json.loads(path.read_bytes()) for path in (state / "photos").glob("*.json")]
    found["photos"] = {each["output"]: self.row(each) for each in photos}
    return found


def picture(path: pathlib.Path) -> str:
  """Returns a picture's kind, size, and digests of its file and of its pixels."""
  with Image.open(path) as opened:
    pixels = digest(opened.tobytes())
    about = f"{opened.format} {opened.width}x{opened.height} {opened.mode}"
    info = sorted(set(opened.info) & {"exif", "icc_profile", "xmp"})
  return f"{about} {' '.join(info)} sha256 {digest(path.read_bytes())} pixels {pixels[:32]}"


def digest(content: bytes) -> str:
  """Returns the SHA-256 in hexadecimal digits."""
  return hashlib.sha256(content).hexdigest()
