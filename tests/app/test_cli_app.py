"""The command `rpfgsm app`: what it refuses before there is a page, and how it ends."""

import json
import socket
import sys

import pytest
from click.testing import CliRunner

from rpfgsm_jax import cli, cli_app, process
from rpfgsm_jax.app import work
from rpfgsm_jax.jobs import locks


@pytest.fixture
def rpfgsm(monkeypatch, tmp_path):
  """Runs the command with a server that ends at once; `served` is what it was given."""
  uvicorn = pytest.importorskip("uvicorn")
  monkeypatch.setattr(process, "prepare", lambda: process.CompileCache(None, False))
  monkeypatch.setenv("RPFGSM_APP", str(tmp_path / "data"))
  monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: run.served.extend(sockets))
  runner = CliRunner()

  def run(*arguments):
    run.served = []
    return runner.invoke(cli.cli, ["app", "--no-browser", *map(str, arguments)])

  return run


def test_says_its_address_and_ends(rpfgsm, tmp_path):
  done = rpfgsm("--out", tmp_path / "work")
  assert (done.exit_code, done.stderr) == (0, "")
  address, about = done.stdout.splitlines()
  assert address.startswith("http://127.0.0.1:")
  assert len(address.split("/")[3]) >= 43  # 256 bits
  assert str(tmp_path / "work") in about
  assert address != rpfgsm("--out", tmp_path / "work").stdout.splitlines()[0]


def test_listens_to_the_loopback_alone(rpfgsm, tmp_path, monkeypatch):
  addresses = []
  create = socket.create_server
  monkeypatch.setattr(
    socket, "create_server", lambda address: addresses.append(address) or create(address)
  )
  assert rpfgsm("--port", 0).exit_code == 0
  assert addresses == [("127.0.0.1", 0)]


def test_without_out_the_users_own_folder_is_taken(rpfgsm, tmp_path):
  assert rpfgsm().exit_code == 0
  assert (tmp_path / "data" / "app" / "originals").is_dir()


def test_without_a_home_a_folder_must_be_named(rpfgsm, monkeypatch):
  monkeypatch.setattr(cli_app, "user_folder", lambda kind, variable: None)
  done = rpfgsm()
  assert done.exit_code == 2
  assert "--out must be named where there is no home folder." in done.stderr


def test_a_port_that_is_taken(rpfgsm, tmp_path, monkeypatch):
  with socket.create_server(("127.0.0.1", 0)) as taken:
    number = taken.getsockname()[1]
    refused = rpfgsm("--out", tmp_path / "work", "--port", number)
    assert refused.exit_code == 2
    assert f"--port {number} cannot be had (Address already in use); name another" in refused.stderr
    monkeypatch.setattr(cli_app, "_PORT", number)
    assert rpfgsm("--out", tmp_path / "work").exit_code == 0


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (("--quality", 50), "--quality belongs to --format jpeg"),
    (("--network", "nothing"), "--network"),
    (
      ("--held-out", "shield/efficientnet_lite0"),
      "--held-out must be a network that the attack does not",
    ),
    (("--scene", "bedrom"), "--scene must be a class of shield/efficientnet_lite0, got 'bedrom'"),
    (("--steps", 0), "--steps"),
    (("--strength", "strong"), "No such option"),
  ],
)
def test_options_of_protect_are_refused_as_there(rpfgsm, tmp_path, options, message):
  done = rpfgsm("--out", tmp_path / "work", *options)
  assert (done.exit_code, done.stdout) == (2, "")
  assert message in done.stderr
  assert not (tmp_path / "work").exists()


def test_a_folder_of_something_else_is_left_alone(rpfgsm, tmp_path):
  (tmp_path / "photo.jpg").touch()
  done = rpfgsm("--out", tmp_path)
  assert done.exit_code == 2
  assert "--out must be new, empty, or an earlier result of rpfgsm app" in done.stderr
  assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.jpg"]


def test_one_page_a_folder(rpfgsm, tmp_path):
  assert rpfgsm("--out", tmp_path / "work").exit_code == 0
  with locks.hold(tmp_path / "work" / ".app", None):
    done = rpfgsm("--out", tmp_path / "work")
  assert done.exit_code == 1
  assert f"{tmp_path / 'work'} is in use" in done.stderr


def test_jobs_have_the_options_of_the_command(rpfgsm, tmp_path, monkeypatch):
  made = []
  monkeypatch.setattr(work.Work, "__init__", lambda self, session, job_for: made.append(job_for))
  monkeypatch.setattr(work.Work, "end", lambda self, patience: False)
  options = ("--format", "jpeg", "--quality", 80, "--steps", 3, "--seed", 5)
  assert rpfgsm("--out", tmp_path / "work", *options).exit_code == 0
  job = made[0]("strong", ["a.png"])
  assert job.only == {"a.png"}
  assert job.out == tmp_path / "work" / "strong"
  assert [*job.sources] == [str(tmp_path / "work" / "originals")]
  assert job.photos.attack.epsilon == 16
  assert (job.photos.attack.num_steps, job.photos.encoding.quality, job.seed) == (3, 80, 5)


def test_without_the_extra_it_says_what_to_install(rpfgsm, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "uvicorn", None)
  done = rpfgsm("--out", tmp_path / "work")
  assert done.exit_code == 1
  assert "pip install 'rpfgsm-jax[app]'" in done.stderr
  assert not (tmp_path / "work").exists()


def test_a_damaged_record_ends_with_a_message(rpfgsm, tmp_path):
  assert rpfgsm("--out", tmp_path / "work").exit_code == 0
  state = tmp_path / "work" / "medium" / ".rpfgsm"
  state.mkdir()
  (state / "job.json").write_text(json.dumps({"seed": "x"}))
  done = rpfgsm("--out", tmp_path / "work")
  assert done.exit_code == 2
  assert "must be the record of a job, but it is damaged" in done.stderr
