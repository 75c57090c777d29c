"""Downloads that can be resumed, and the public Places365 networks.

A download grows as `NAME.part` and takes its name only when it is complete; its SHA-256 is written
beside it as `NAME.sha256`, in the format of `sha256sum`. An interrupted download goes on where it
stopped, if the server vouches that the file is still the same one.
"""

import contextlib
import json
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import requests

from rpfgsm_jax import atomic
from rpfgsm_jax.models.architectures import PAPER
from rpfgsm_jax.models.checkpoint import CheckpointError
from rpfgsm_jax.models.convert import convert_checkpoint, sha256
from rpfgsm_jax.models.weights import CONFIG_FILE, cache_directory

PLACES365_ADDRESS = "http://places2.csail.mit.edu/models_places365"
PLACES365_FILES = {arch: f"{arch}_places365.pth.tar" for arch in PAPER}
PLACES365_CARD = {
  "data": "Places365-Standard, 1.8 million training images, 365 classes",
  "authors": "B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba (IEEE TPAMI 2017)",
  "license": "CC BY, as stated at https://github.com/CSAILVision/places365",
}
_CHUNK = 1 << 16  # bytes a read; a piece that is cut off is lost

Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all or `None`)."""


class DownloadError(RuntimeError):
  """A download that did not succeed; the message says why and what is left on disk."""


class _InterruptedError(DownloadError):
  """A fault that another attempt may not meet."""


def cache_for_downloads() -> pathlib.Path:
  """Returns the user's cache; without one there is no place for a download."""
  cache = cache_directory()
  if cache is None:
    raise DownloadError(
      "a download needs a folder to stay in, and this user has no home; set RPFGSM_CACHE to a "
      "folder."
    )
  return cache


def download(
  address: str,
  path: str | os.PathLike[str],
  *,
  attempts: int = 3,
  pause: float = 1.0,
  timeout: float = 30.0,
  progress: Progress | None = None,
) -> str:
  """Downloads a file, or finds it already there and unchanged; returns its SHA-256.

  `pause` is the seconds between attempts, `timeout` those of silence that end one. What has come so
  far stays in `NAME.part`; `path` is not touched before the file is whole.
  """
  path = pathlib.Path(path)
  if path.exists():
    return _check_recorded(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(path.name + ".part")
  with _locked(part) as file:
    for attempt in range(attempts):
      try:
        _transfer(address, file, _note_path(part), timeout, progress)
        break
      except _InterruptedError as error:
        if attempt + 1 == attempts:
          size = os.fstat(file.fileno()).st_size
          kept = f"; {size} bytes are kept, the next run goes on there" if size else ""
          raise DownloadError(f"cannot download {address}: {error}{kept}.") from error
        time.sleep(pause)
    file.flush()
    os.fsync(file.fileno())
    digest = sha256(part)
    atomic.write_text(_record_path(path), f"{digest}  {path.name}\n")
    os.replace(part, path)
  _note_path(part).unlink(missing_ok=True)
  return digest


def fetch_places365(
  arch: str,
  class_names: Sequence[str],
  *,
  address: str = PLACES365_ADDRESS,
  attempts: int = 3,
  pause: float = 1.0,
  progress: Progress | None = None,
) -> pathlib.Path:
  """Downloads and converts one of the four public Places365 networks into the user's cache.

  The download stays in the cache beside its SHA-256; delete `downloads` there to save the space.
  What is not the network it should be is removed. Returns the network's folder.
  """
  cache = cache_for_downloads()
  directory = cache / "weights" / "places365" / arch
  if (directory / CONFIG_FILE).is_file():
    return directory
  source = f"{address}/{PLACES365_FILES[arch]}"
  path = cache / "downloads" / "places365" / PLACES365_FILES[arch]
  try:
    download(source, path, attempts=attempts, pause=pause, progress=progress)
  except DownloadError as error:
    raise DownloadError(
      f"{error} Try again later, or download {source} by hand and run: rpfgsm convert "
      f'{path.name} --arch {arch} --out "{directory}"'
    ) from error
  try:
    convert_checkpoint(
      path,
      directory,
      PAPER[arch],
      class_names=class_names,
      card={"source": source} | PLACES365_CARD,
    )
  except CheckpointError as error:
    path.unlink()
    _record_path(path).unlink(missing_ok=True)
    raise CheckpointError(
      f"{error}\nWhat came from {source} is removed; the next run downloads it again."
    ) from error
  return directory


def _transfer(
  address: str, file: IO[bytes], note: pathlib.Path, timeout: float, progress: Progress | None
) -> None:
  have, headers = _resume_headers(address, file, note)
  try:
    with requests.get(address, headers=headers, stream=True, timeout=timeout) as response:
      have, total = _start(response, file, have)
      _write_note(note, address, response)
      for piece in response.iter_content(_CHUNK):
        file.write(piece)
        have += len(piece)
        if progress:
          progress(have, total)
  except (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
  ) as error:
    raise _InterruptedError(_reason(error)) from error
  except requests.exceptions.RequestException as error:
    raise DownloadError(f"cannot download {address}: {error}.") from error
  finally:
    file.flush()
  if total is not None and have != total:
    raise _InterruptedError(f"the connection ended after {have} of {total} bytes")


def _start(response: requests.Response, file: IO[bytes], have: int) -> tuple[int, int | None]:
  """Returns (bytes to keep, bytes in all) after checking what the server is about to send."""
  status = response.status_code
  if status == 206 and have:
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if span and int(span[1]) == have and int(span[2]) + 1 == int(span[3]):
      file.seek(have)
      return have, int(span[3])
  if status == 416 or status == 206:
    # What we have is not the beginning of what the server has.
    file.truncate(0)
    raise _InterruptedError("the server cannot go on where the last download stopped")
  if status >= 500 or status == 429:
    raise _InterruptedError(f"the server says {status} {response.reason}")
  if status != 200:
    raise DownloadError(
      f"cannot download {response.url}: the server says {status} {response.reason}."
    )
  file.seek(0)
  file.truncate()
  length = response.headers.get("Content-Length", "")
  if not length.isascii() or not length.isdigit():
    if "chunked" in response.headers.get("Transfer-Encoding", ""):
      return 0, None  # the last chunk is marked, so an early end is noticed all the same
    raise DownloadError(
      f"cannot download {response.url}: the server does not say how long the file is."
    )
  return 0, int(length)


def _resume_headers(
  address: str, file: IO[bytes], note: pathlib.Path
) -> tuple[int, dict[str, str]]:
  headers = {"Accept-Encoding": "identity"}  # a length is then that of the file
  have = os.fstat(file.fileno()).st_size
  try:
    known = json.loads(note.read_bytes())
  except (OSError, ValueError):
    known = None
  if not have or not isinstance(known, dict) or known.get("address") != address:
    return 0, headers
  # Without a validator the server could have another file by now, and we would mix the two.
  if not isinstance(known.get("validator"), str):
    return 0, headers
  return have, headers | {"Range": f"bytes={have}-", "If-Range": known["validator"]}


def _write_note(note: pathlib.Path, address: str, response: requests.Response) -> None:
  tag = response.headers.get("ETag", "")
  strong = tag if tag.startswith('"') else response.headers.get("Last-Modified")
  atomic.write_text(note, atomic.strict_json({"address": address, "validator": strong}) + "\n")


def _reason(error: Exception) -> str:
  text = str(error)
  if "NameResolutionError" in text or "Name or service not known" in text:
    return "the server's name cannot be resolved; is there a network?"
  if isinstance(error, requests.exceptions.Timeout):
    return "the server does not answer in time"
  if "Connection refused" in text:
    return "the connection was refused"
  if "IncompleteRead" in text or isinstance(error, requests.exceptions.ChunkedEncodingError):
    return "the connection broke off"
  if isinstance(error, requests.exceptions.ProxyError):
    return f"the proxy failed ({text})"
  return text


@contextlib.contextmanager
def _locked(part: pathlib.Path) -> Iterator[IO[bytes]]:
  """Opens the growing file for one process at a time (where the system has `flock`)."""
  descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
  with os.fdopen(descriptor, "r+b") as file:
    try:
      import fcntl
    except ImportError:
      pass
    else:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise DownloadError(f"another process is downloading {part}; wait for it.") from error
      # The other process may have finished, and renamed the file, before we got the lock.
      if not part.exists() or not os.path.samestat(part.stat(), os.fstat(descriptor)):
        raise DownloadError(f"another process has just downloaded {part}; try again.")
    try:
      yield file
    except BaseException:
      if part.exists() and part.stat().st_size == 0:
        part.unlink()
        _note_path(part).unlink(missing_ok=True)
      raise


def _check_recorded(path: pathlib.Path) -> str:
  digest, record = sha256(path), _record_path(path)
  if not record.exists():
    atomic.write_text(record, f"{digest}  {path.name}\n")
  elif atomic.read_text(record).split()[:1] != [digest]:
    raise DownloadError(
      f"{path} has changed since it was downloaded: its SHA-256 is {digest}, not the one in "
      f"{record.name}; delete both to download it again."
    )
  return digest


def _note_path(part: pathlib.Path) -> pathlib.Path:
  return part.with_name(part.name + ".json")


def _record_path(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + ".sha256")
