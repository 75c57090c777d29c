"""A file is the old one or the whole new one."""

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from rpfgsm_jax import atomic


@pytest.fixture
def umask():
  """A known umask, so that permissions can be compared."""
  before = os.umask(0o027)
  yield 0o027
  os.umask(before)


def test_write_bytes_creates_parents_and_the_content(tmp_path):
  path = tmp_path / "deep" / "folder" / "weights.bin"
  atomic.write_bytes(path, b"\x00new")
  assert path.read_bytes() == b"\x00new"
  assert os.listdir(path.parent) == ["weights.bin"]


def test_write_text_is_utf8_with_bare_line_feeds(tmp_path):
  atomic.write_text(tmp_path / "report.md", "ε = 16\n")
  assert (tmp_path / "report.md").read_bytes() == "ε = 16\n".encode()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_read_text_passes_over_a_byte_order_mark(tmp_path, mark):
  (tmp_path / "list.txt").write_text(f"{mark}ε\n\ufeffx", "utf-8")
  assert atomic.read_text(tmp_path / "list.txt") == "ε\n\ufeffx"


def test_the_temporary_file_is_hidden_beside_the_target_with_its_suffix(tmp_path):
  with atomic.replacing(tmp_path / "rows.npz") as temporary:
    assert temporary.parent == tmp_path
    assert temporary.name.startswith(".")
    assert temporary.suffix == ".npz"
    assert not (tmp_path / "rows.npz").exists()


@pytest.mark.parametrize("name", ["n" * 250 + ".txt", "🌄" * 60 + ".png", "a." + "é" * 120])
def test_a_very_long_name_still_has_room_for_the_temporary_one(tmp_path, name):
  """Limits are bytes, and on some file systems 143 of them, which the temporary name must keep."""
  path = tmp_path / name
  with atomic.replacing(path) as temporary:
    assert len(os.fsencode(temporary.name)) <= 64
    temporary.write_text("x")
  assert path.read_text() == "x"
  path.unlink()
  for text in ("first", "second"):
    with atomic.replacing_folder(path) as folder:
      assert len(os.fsencode(folder.name)) <= 64
      (folder / text).touch()
  assert os.listdir(tmp_path) == [name]
  assert os.listdir(path) == ["second"]


@pytest.mark.parametrize("before", ["", "photo."], ids=["now", "of older versions"])
def test_what_killed_writers_left_is_removed(tmp_path, before):
  for name in (f".{before}0123456789abcdef.partial.png", ".mine.png", ".partial.png"):
    (tmp_path / name).touch()
  atomic.remove_leftovers([tmp_path], alone=True, now=0.0)
  assert sorted(os.listdir(tmp_path)) == [".mine.png", ".partial.png"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_midway_keeps_the_old_file_and_no_temporary_one(tmp_path, error):
  path = tmp_path / "report.md"
  path.write_text("old")
  with pytest.raises(error), atomic.replacing(path) as temporary:  # noqa: PT012
    temporary.write_text("half of the ne")
    raise error
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["report.md"]


def test_a_failing_rename_removes_the_temporary_file(tmp_path, monkeypatch):
  def refuse(source, target):
    raise OSError("disk says no")

  monkeypatch.setattr(os, "replace", refuse)
  with pytest.raises(OSError, match="disk says no"):
    atomic.write_bytes(tmp_path / "a.bin", b"new")
  assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_writer_killed_midway_leaves_the_old_file_and_only_a_hidden_rest(tmp_path):
  path = tmp_path / "photo.png"
  path.write_bytes(b"old")
  script = textwrap.dedent("""
    import os, signal, sys
    from rpfgsm_jax import atomic
    with atomic.replacing(sys.argv[1]) as temporary:
      temporary.write_bytes(b"half")
      os.kill(os.getpid(), signal.SIGKILL)
  """)
  root = os.path.dirname(os.path.dirname(atomic.__file__))
  done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False)
  assert done.returncode == -signal.SIGKILL
  assert path.read_bytes() == b"old"
  rest = [name for name in os.listdir(tmp_path) if name != "photo.png"]
  assert all(name.startswith(".") and ".partial" in name for name in rest)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
  order = []
  fsync, replace = os.fsync, os.replace
  monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
  monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
  atomic.write_bytes(tmp_path / "a.bin", b"new")
  assert order[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_new_file_has_the_permissions_of_the_process(tmp_path, umask):
  atomic.write_bytes(tmp_path / "a.bin", b"new")
  assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_replaced_file_keeps_its_permissions(tmp_path, umask):
  path = tmp_path / "private.json"
  path.write_bytes(b"old")
  path.chmod(0o600)
  atomic.write_bytes(path, b"new")
  assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
  (tmp_path / "real.txt").write_text("old")
  (tmp_path / "link.txt").symlink_to("real.txt")
  atomic.write_text(tmp_path / "link.txt", "new")
  assert (tmp_path / "link.txt").is_symlink()
  assert (tmp_path / "real.txt").read_text() == "new"


def test_a_folder_is_refused(tmp_path):
  with pytest.raises(IsADirectoryError, match="path must name a file"):
    atomic.write_bytes(tmp_path, b"new")


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "earlier"])
def test_a_folder_is_the_old_one_or_the_whole_new_one(tmp_path, earlier):
  place, link = tmp_path / "deep" / "results", tmp_path / "link"
  link.symlink_to(place)
  if earlier:
    atomic.write_text(place / "old.txt", "old")
  with pytest.raises(KeyboardInterrupt), atomic.replacing_folder(link) as folder:  # noqa: PT012
    (folder / "half.txt").write_text("half")
    raise KeyboardInterrupt
  assert os.listdir(place.parent) == ["results"] * earlier
  assert [path.name for path in place.glob("*")] == ["old.txt"] * earlier
  with atomic.replacing_folder(link) as folder:
    assert folder.parent == place.parent
    assert folder.name.startswith(".")
    (folder / "new.txt").write_text("new")
  assert link.is_symlink()
  assert os.listdir(place.parent) == ["results"]
  assert os.listdir(place) == ["new.txt"]
