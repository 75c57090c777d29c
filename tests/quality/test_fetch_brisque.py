"""The BRISQUE model's download, from a server of our own."""

import http.server
import pathlib
import threading

import pytest
from click.testing import CliRunner

from rpfgsm_jax.cli import cli
from rpfgsm_jax.models.convert import sha256
from rpfgsm_jax.models.fetch import DownloadError
from rpfgsm_jax.quality import ModelNotFoundError, fetch, load_brisque_model

CONTENT = {"allrange": b"its ranges", "allmodel": b"a model"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  monkeypatch.delenv("RPFGSM_BRISQUE", raising=False)
  for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.delenv(name, raising=False)
  return tmp_path / "cache" / "brisque"


@pytest.fixture
def address(tmp_path, monkeypatch):
  """A folder with two files of known SHA-256, served."""
  folder = tmp_path / "served"
  folder.mkdir()
  digests = {}
  for name, content in CONTENT.items():
    (folder / name).write_bytes(content)
    digests[name] = sha256(folder / name)
  monkeypatch.setattr(fetch, "DIGESTS", digests)

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, **options):
      super().__init__(*args, directory=str(folder), **options)

    def log_message(self, *args):
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
  thread.start()
  yield f"http://127.0.0.1:{server.server_address[1]}"
  server.shutdown()
  server.server_close()
  thread.join()


def test_both_files_come_and_nothing_else_stays(cache, address):
  assert fetch.fetch_brisque_model(address=address, pause=0) == cache
  assert {path.name: path.read_bytes() for path in cache.iterdir()} == CONTENT


def test_files_that_are_there_are_not_asked_for_again(cache, address):
  fetch.fetch_brisque_model(address=address, pause=0)
  assert fetch.fetch_brisque_model(address="http://127.0.0.1:9", attempts=1) == cache


def test_another_file_is_refused_and_never_lies_where_the_model_is_looked_for(
  cache, address, tmp_path
):
  (tmp_path / "served" / "allmodel").write_bytes(b"something else")
  with pytest.raises(DownloadError, match=r"allmodel must have SHA-256 .*it is removed"):
    fetch.fetch_brisque_model(address=address, pause=0)
  assert [path.name for path in cache.iterdir()] == ["allrange"]


def test_the_release_is_the_one_that_is_tested(shared_data):
  """The digests are those of the files that the scores are compared on."""
  found = {name: sha256(shared_data / "brisque" / name) for name in fetch.DIGESTS}
  assert found == fetch.DIGESTS


def test_the_command_fetches_or_says_why_not(cache, address, monkeypatch):
  monkeypatch.setattr(fetch, "ADDRESS", address)
  monkeypatch.setitem(fetch.fetch_brisque_model.__kwdefaults__, "address", address)
  done = CliRunner().invoke(cli, ["weights", "fetch", "brisque"])
  assert (done.exit_code, done.output.splitlines()[-1]) == (0, f"brisque: {cache}")
  refused = CliRunner().invoke(cli, ["weights", "fetch", "brisque", "--arch", "alexnet"])
  assert refused.exit_code == 2
  assert "--arch: goes with places365 alone" in refused.output


def test_whoever_lacks_the_model_is_told_the_command(cache: pathlib.Path):
  with pytest.raises(ModelNotFoundError, match="run 'rpfgsm weights fetch brisque'"):
    load_brisque_model()
