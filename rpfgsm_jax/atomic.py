"""Files that are either the old one or the whole new one, never half of it.

The new content goes to a hidden temporary file in the same folder (the same file system, so that
the final rename is one step), is flushed to the disk, and only then takes the name. Readers see
the old file until that moment. An exception, Ctrl-C included, removes the temporary file; a process
killed outright leaves at most a hidden `.…partial…` file, which no reader of this package lists.
"""

import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from typing import Any

PathLike = str | os.PathLike[str]
# Versions before had a part of the file's own name in front.
_LEFTOVER = re.compile(r"\.(.{0,64}\.)?[0-9a-f]{16}\.partial\.(png|webp|jpg|json)", re.DOTALL)
_LONGEST_SUFFIX = 16  # bytes; what is longer says nothing of a format
_FORGOTTEN = 3600.0  # seconds after which a temporary file is nobody's; writing one takes less


def _sync_folder(folder: pathlib.Path) -> None:
  """Flushes a folder's list of names, where the system lets a folder be opened (not Windows)."""
  if not hasattr(os, "O_DIRECTORY"):
    return
  descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path that takes the place of `path` when the block ends well.

  Missing parent folders are created. A symbolic link is followed: the file it names is replaced.
  A new file gets the permissions of the process, a replaced one keeps its own. The temporary file
  is empty, in the same folder, and has the same suffix; its name does not grow with the file's, for
  which file systems leave as few as 143 bytes.
  """
  target = pathlib.Path(os.path.realpath(path))
  if target.is_dir():
    raise IsADirectoryError(f"path must name a file to write, got the folder {path}; add a name.")
  target.parent.mkdir(parents=True, exist_ok=True)
  # The suffix stays: some writers (NumPy, Pillow) read the format from it.
  suffix = target.suffix if len(os.fsencode(target.suffix)) <= _LONGEST_SUFFIX else ""
  temporary = target.parent / f".{secrets.token_hex(8)}.partial{suffix}"
  # Mode 0o666 through os.open respects the umask; tempfile would leave a file only we can read.
  os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
  try:
    yield temporary
    with open(temporary, "rb+") as file:
      os.fsync(file.fileno())
    if target.exists():
      os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
    os.replace(temporary, target)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  _sync_folder(target.parent)


def write_bytes(path: PathLike, content: bytes) -> None:
  """Creates or replaces a file in one step; missing parent folders are created."""
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def through_the_disk(path: pathlib.Path, content: bytes) -> bytes:
  """Writes a file to the disk and returns what is there afterwards."""
  with open(path, "wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  return path.read_bytes()


def read_text(path: PathLike) -> str:
  """Returns what a text file says that a user gave: UTF-8, with or without a byte-order mark."""
  return pathlib.Path(path).read_text(encoding="utf-8-sig")


def write_text(path: PathLike, content: str) -> None:
  """Creates or replaces a text file in one step: UTF-8, lines ending in a bare line feed."""
  write_bytes(path, content.encode("utf-8"))


def strict_json(values: Any, *, indent: int | None = None, compact: bool = False) -> str:
  """Returns JSON that every reader takes: NaN and infinity are a ValueError."""
  separators = (",", ":") if compact else None
  return json.dumps(values, indent=indent, separators=separators, allow_nan=False)


@contextlib.contextmanager
def replacing_folder(path: PathLike) -> Iterator[pathlib.Path]:
  """Yields an empty hidden folder that takes the place of `path` when the block ends well.

  Missing parent folders are created; a symbolic link is followed. An exception removes the new
  folder and leaves an earlier one as it was.
  """
  target = pathlib.Path(os.path.realpath(path))
  temporary = target.with_name(f".{secrets.token_hex(8)}.partial")
  temporary.mkdir(parents=True)
  try:
    yield temporary
    replace_folder(temporary, target)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def replace_folder(complete: PathLike, path: PathLike) -> None:
  """Gives a finished folder its name; an earlier one is removed once the new one is in its place.

  `complete` lies beside `path`, of which a symbolic link is followed.
  """
  target = pathlib.Path(os.path.realpath(path))
  old = None
  if target.exists():
    old = target.with_name(f".{secrets.token_hex(8)}.old")
    target.rename(old)
  try:
    pathlib.Path(complete).rename(target)
  except BaseException:
    if old is not None:
      old.rename(target)
    raise
  if old is not None:
    shutil.rmtree(old)


def remove_leftovers(folders: Iterable[pathlib.Path], *, alone: bool, now: float) -> None:
  """Removes the temporary files of runs that were killed; no others.

  Where no other process writes there (`alone`), every temporary file is a leftover; else only
  those that nobody has touched for an hour of the file system's own clock, which says `now`.
  """
  for folder in folders:
    try:
      names = [name for name in os.listdir(folder) if _LEFTOVER.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
      continue
    for name in names:
      path = folder / name
      try:
        if alone or now - path.lstat().st_mtime > _FORGOTTEN:
          path.unlink()
      except FileNotFoundError:
        continue  # another share was faster
