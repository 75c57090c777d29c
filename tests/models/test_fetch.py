"""Downloads against a server of our own on this machine: complete, resumed, cut, wrong, absent."""

import contextlib
import hashlib
import http.server
import json
import socket
import threading

import numpy as np
import pytest
import requests
from oracles.legacy_torch_file import places365_style
from oracles.torchvision_models import numpy_state_dict, state_dict_shapes

from rpfgsm_jax.models import architectures, fetch
from rpfgsm_jax.models.checkpoint import CheckpointError
from rpfgsm_jax.models.fetch import DownloadError, download, fetch_places365
from rpfgsm_jax.models.resnet import ResNetConfig
from rpfgsm_jax.models.weights import load_network

CONTENT = np.random.default_rng(0).bytes(6 << 16)
TINY = ResNetConfig(width=4, stage_sizes=(1,), num_classes=3)
NAMES = ("attic", "beach", "canyon")


class Server(http.server.ThreadingHTTPServer):
  """Serves one file under every path; each request takes the next of `behaviors`, then "whole"."""

  daemon_threads = True

  def __init__(self):
    super().__init__(("127.0.0.1", 0), Handler)
    self.content = CONTENT
    self.tag = '"v1"'
    self.behaviors: list[str] = []
    self.requests: list[dict[str, str]] = []

  def handle_error(self, request, client_address):
    """A client that hangs up is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *arguments):
    pass

  def do_GET(self):
    server: Server = self.server
    server.requests.append(dict(self.headers))
    behavior = server.behaviors.pop(0) if server.behaviors else "whole"
    if behavior.isdigit():
      return self.send_error(int(behavior))
    content, start = server.content, 0
    wanted = self.headers.get("Range", "")
    if wanted and self.headers.get("If-Range") in (None, server.tag) and behavior != "no ranges":
      start = int(wanted.removeprefix("bytes=").removesuffix("-"))
      if start >= len(content):
        return self.send_error(416)
      self.send_response(206)
      start -= 7 if behavior == "wrong range" else 0
      self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
      self.send_response(200)
    body = content[start:]
    if behavior != "no length":
      self.send_header("Content-Length", str(len(body) + (7 if behavior == "short" else 0)))
    if server.tag:
      self.send_header("ETag", server.tag)
    self.end_headers()
    cut = len(body) // 3 if behavior == "cut" else len(body)
    with contextlib.suppress(OSError):
      self.wfile.write(body[:cut])


@pytest.fixture
def server(monkeypatch):
  for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.delenv(name, raising=False)
  server = Server()
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
  thread.start()
  yield server
  server.shutdown()
  server.server_close()
  thread.join()


@pytest.fixture
def address(server):
  return f"http://127.0.0.1:{server.server_address[1]}/file.bin"


@pytest.fixture
def closed_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def names(folder):
  return sorted(path.name for path in folder.iterdir())


# ---- download ----


def test_writes_the_file_and_its_sha256(tmp_path, address):
  seen = []
  path = tmp_path / "new" / "file.bin"
  digest = download(address, path, progress=lambda done, total: seen.append((done, total)))
  assert path.read_bytes() == CONTENT
  assert digest == hashlib.sha256(CONTENT).hexdigest()
  assert (tmp_path / "new" / "file.bin.sha256").read_text() == f"{digest}  file.bin\n"
  assert names(tmp_path / "new") == ["file.bin", "file.bin.sha256"]
  assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_resumes_within_one_call(tmp_path, server, address):
  server.behaviors = ["cut", "cut"]
  download(address, tmp_path / "file.bin", pause=0)
  assert (tmp_path / "file.bin").read_bytes() == CONTENT
  first, second, third = server.requests
  assert "Range" not in first
  assert second["Range"] == "bytes=131072-"
  assert second["If-Range"] == '"v1"'
  assert third["Range"] == "bytes=196608-"  # whole pieces of 65536 bytes are kept


def test_resumes_in_a_later_call(tmp_path, server, address):
  server.behaviors = ["cut"]
  with pytest.raises(DownloadError, match="131072 bytes are kept"):
    download(address, tmp_path / "file.bin", attempts=1)
  assert names(tmp_path) == ["file.bin.part", "file.bin.part.json"]
  download(address, tmp_path / "file.bin")
  assert server.requests[1]["Range"] == "bytes=131072-"
  assert (tmp_path / "file.bin").read_bytes() == CONTENT
  assert names(tmp_path) == ["file.bin", "file.bin.sha256"]


def test_starts_again_when_the_file_on_the_server_changed(tmp_path, server, address):
  server.behaviors = ["cut"]
  with pytest.raises(DownloadError):
    download(address, tmp_path / "file.bin", attempts=1)
  server.content, server.tag = CONTENT[::-1], '"v2"'
  download(address, tmp_path / "file.bin")
  assert (tmp_path / "file.bin").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'], ids=["none", "weak"])
def test_starts_again_when_the_server_cannot_vouch_for_the_file(tmp_path, server, address, tag):
  server.tag, server.behaviors = tag, ["cut"]
  download(address, tmp_path / "file.bin", pause=0)
  assert "Range" not in server.requests[1]
  assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("behavior", ["no ranges", "wrong range", "416"])
def test_survives_a_server_that_cannot_resume(tmp_path, server, address, behavior):
  server.behaviors = ["cut", behavior]
  download(address, tmp_path / "file.bin", pause=0)
  assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "[]", '{"address": "elsewhere", "validator": "\\"v1\\""}'])
def test_never_builds_on_bytes_of_unknown_origin(tmp_path, server, address, note):
  (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
  (tmp_path / "file.bin.part.json").write_text(note)
  download(address, tmp_path / "file.bin")
  assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(tmp_path, server, address):
  (tmp_path / "file.bin.part").write_bytes(b"x" * 500_000)
  note = {"address": address, "validator": '"v1"'}
  (tmp_path / "file.bin.part.json").write_text(json.dumps(note))
  download(address, tmp_path / "file.bin", pause=0)
  assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_file_shorter_than_announced_is_not_taken(tmp_path, server, address):
  server.behaviors = ["short"] * 3
  with pytest.raises(DownloadError, match="cannot download"):
    download(address, tmp_path / "file.bin", attempts=3, pause=0)
  assert "file.bin" not in names(tmp_path)


def test_counts_the_bytes_itself(tmp_path, address, monkeypatch):
  monkeypatch.setattr(requests.Response, "iter_content", lambda self, size: iter([b"x" * 10]))
  with pytest.raises(DownloadError, match="ended after 10 of 393216 bytes"):
    download(address, tmp_path / "file.bin", attempts=1)
  assert "file.bin" not in names(tmp_path)


@pytest.mark.parametrize(
  ("behaviors", "says", "count"),
  [
    (["404"], "the server says 404", 1),
    (["503"] * 3, "the server says 503", 3),
    (["no length"], "does not say how long", 1),
  ],
  ids=["404", "503", "no-length"],
)
def test_a_refusal_is_named_and_leaves_nothing(tmp_path, server, address, behaviors, says, count):
  server.behaviors = behaviors
  with pytest.raises(DownloadError, match=says):
    download(address, tmp_path / "file.bin", pause=0)
  assert len(server.requests) == count
  assert names(tmp_path) == []


def test_no_network(tmp_path, closed_port):
  with pytest.raises(DownloadError, match="connection was refused"):
    download(f"http://127.0.0.1:{closed_port}/file.bin", tmp_path / "file.bin", pause=0)
  assert names(tmp_path) == []


def test_a_malformed_address(tmp_path):
  with pytest.raises(DownloadError, match="cannot download"):
    download("nonsense", tmp_path / "file.bin")


def test_an_unknown_host_is_explained(tmp_path, monkeypatch):
  def fail(*arguments, **options):
    raise requests.exceptions.ConnectionError("NameResolutionError: Name or service not known")

  monkeypatch.setattr(requests, "get", fail)
  with pytest.raises(DownloadError, match="is there a network"):
    download("http://unknown.invalid/file.bin", tmp_path / "file.bin", attempts=1)


def test_a_complete_file_is_not_downloaded_again(tmp_path, server, address):
  digest = download(address, tmp_path / "file.bin")
  assert download(address, tmp_path / "file.bin") == digest
  (tmp_path / "file.bin.sha256").unlink()
  assert download(address, tmp_path / "file.bin") == digest
  assert (tmp_path / "file.bin.sha256").exists()
  assert len(server.requests) == 1


def test_a_changed_file_is_noticed(tmp_path, address):
  download(address, tmp_path / "file.bin")
  (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
  with pytest.raises(DownloadError, match="has changed"):
    download(address, tmp_path / "file.bin")


def test_two_processes_do_not_write_one_file(tmp_path, address):
  fcntl = pytest.importorskip("fcntl")
  with (tmp_path / "file.bin.part").open("wb") as other:
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(DownloadError, match="another process"):
      download(address, tmp_path / "file.bin")


# ---- Places365 ----


@pytest.fixture
def tiny_places365(server, monkeypatch, tmp_path):
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path))
  monkeypatch.setitem(architectures.PAPER, "resnet18", TINY)
  server.content = places365_style(numpy_state_dict(state_dict_shapes(TINY), seed=0), "resnet18")
  return {"address": f"http://127.0.0.1:{server.server_address[1]}/models", "pause": 0}


def test_fetches_and_converts(tmp_path, server, tiny_places365):
  directory = fetch_places365("resnet18", NAMES, **tiny_places365)
  assert directory == tmp_path / "weights" / "places365" / "resnet18"
  network = load_network(directory)
  assert network.class_names == NAMES
  assert network.card["source"].endswith("/models/resnet18_places365.pth.tar")
  assert network.card["license"].startswith("CC BY")
  came_from = network.card["converted_from"]
  assert came_from["sha256"] == hashlib.sha256(server.content).hexdigest()
  assert (came_from["arch"], came_from["epoch"]) == ("resnet18", 90)
  fetch_places365("resnet18", NAMES, **tiny_places365)
  assert len(server.requests) == 1


def test_says_how_to_do_it_by_hand(tmp_path, tiny_places365, closed_port):
  tiny_places365["address"] = f"http://127.0.0.1:{closed_port}"
  with pytest.raises(DownloadError) as caught:
    fetch_places365("resnet18", NAMES, **tiny_places365)
  by_hand = f"download http://127.0.0.1:{closed_port}/resnet18_places365.pth.tar by hand"
  command = "rpfgsm convert resnet18_places365.pth.tar --arch resnet18 --out"
  assert by_hand in str(caught.value)
  assert command in str(caught.value)
  assert not (tmp_path / "weights").exists()


def test_a_wrong_file_is_removed_so_that_the_next_run_can_succeed(tmp_path, server, tiny_places365):
  good, server.content = server.content, b"<html>please log in</html>"
  with pytest.raises(CheckpointError, match="web page"):
    fetch_places365("resnet18", NAMES, **tiny_places365)
  assert names(tmp_path / "downloads" / "places365") == []
  assert not (tmp_path / "weights").exists()
  server.content = good
  fetch_places365("resnet18", NAMES, **tiny_places365)


def test_public_addresses():
  assert {f"{fetch.PLACES365_ADDRESS}/{name}" for name in fetch.PLACES365_FILES.values()} == {
    f"http://places2.csail.mit.edu/models_places365/{arch}_places365.pth.tar"
    for arch in ("resnet18", "resnet50", "alexnet", "densenet161")
  }
