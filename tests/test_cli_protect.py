"""`rpfgsm protect --size network`: what it prints, its exit codes, how an interruption ends it.

What photos at their own size add is in `jobs/test_photo_command.py`.
"""

import os
import pathlib
import sys

import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from jobs.fake_protector import FakePhotoProtector
from jobs.interrupted import interrupt
from jobs.protect_json import read_protect_json
from PIL import Image

from rpfgsm_jax import cli, cli_protect_options, process
from rpfgsm_jax.engine.protector import MAX_SEED
from rpfgsm_jax.jobs import engines, run, spec
from rpfgsm_jax.models import weights


@pytest.fixture(autouse=True)
def no_attack(monkeypatch):
  monkeypatch.setattr(process, "prepare", lambda: process.CompileCache(None, False))
  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", lambda name: toys.linear(1))


@pytest.fixture
def rpfgsm():
  runner = CliRunner()

  def run(*arguments):
    return runner.invoke(cli.cli, ["protect", "--size", "network", *map(str, arguments)])

  return run


@pytest.fixture
def folder(tmp_path):
  for index, pixels in enumerate(toys.images(5)):
    path = tmp_path / "in" / "album" / f"{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
  return tmp_path / "in"


def test_protects_a_folder_and_then_skips_it(rpfgsm, folder, tmp_path):
  first = rpfgsm(folder, "--out", tmp_path / "out")
  assert first.exit_code == 0
  assert first.stdout.startswith("5 done, 0 failed, 0 skipped; ")
  assert "photos/s; devices idle" in first.stdout
  assert first.stderr.startswith("5 to do; compiling")
  assert len(list((tmp_path / "out" / "album").glob("*.png"))) == 5
  again = rpfgsm(folder, "--out", tmp_path / "out")
  assert (again.exit_code, again.stdout) == (0, "0 done, 0 failed, 5 skipped\n")


def test_a_bad_file_is_named_at_once_and_at_the_end(rpfgsm, folder, tmp_path):
  (folder / "bad.jpg").write_bytes(b"no picture")
  result = rpfgsm(folder, "--out", tmp_path / "out")
  assert result.exit_code == 1
  for text in (result.stdout, result.stderr):
    assert f"failed: {folder / 'bad.jpg'} must be a JPEG" in text
  assert result.stdout.startswith("5 done, 1 failed")


def test_a_program_reads_one_object(rpfgsm, folder, tmp_path):
  (folder / "bad.jpg").write_bytes(b"no picture")
  result = rpfgsm(folder, "--out", tmp_path / "out", "--json")
  found = read_protect_json(result.stdout)
  assert (found["done"], found["failed"], found["skipped"], found["left"]) == (5, 1, 0, 0)
  assert found["failures"][0]["photo"] == "bad.jpg"
  assert 0 <= found["idle_share"] <= 1
  assert "5 done, 1 failed" in result.stderr


WRONG = {
  "no folder": (["absent", "--out", "out"], "a pattern, got nothing of that name: absent"),
  "inside": (["in", "--out", "in/out"], "must lie apart"),
  "network": (["in", "--out", "out", "--network", "nonsense"], "known network or a folder, got"),
  "shard": (["in", "--out", "out", "--shard", "2/2"], "--shard must be I/N"),
  "held out": (["in", "--out", "out", "--held-out", "x"], "--held-out belongs to --size photo"),
  "report": (["in", "--out", "out", "--report"], "--report belongs to --size photo"),
  "two shards": (["in", "--out", "out", "--shard", "0/2", "--distributed"], "exclude each other"),
  "ray": (["in", "--out", "out", "--engine", "ray", "--shard", "0/2"], "divides the photos itself"),
  "address": (["in", "--out", "out", "--address", "h:1"], "--address belongs to --engine ray"),
  "epsilon": (["in", "--out", "out", "--epsilon", "0"], "Invalid value for '--epsilon'"),
  "batch": (["in", "--out", "out", "--batch-size", "some"], "Invalid value for '--batch-size'"),
  "micro-batch": (["in", "--out", "out", "--micro-batch", 0], "Invalid value for '--micro-batch'"),
  "seed": (["in", "--out", "out", "--seed", 2**64], "Invalid value for '--seed'"),
  "no out": (["in"], "Missing option '--out'"),
  "empty out": (["in", "--out", ""], "--out must not be empty; is a variable not set?"),
  "empty source": (["in", "", "--out", "out"], "the word after in must not be empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_is_two_and_makes_nothing(rpfgsm, folder, monkeypatch, name):
  monkeypatch.chdir(folder.parent)
  arguments, message = WRONG[name]
  result = rpfgsm(*arguments)
  assert result.exit_code == 2
  assert message in result.stderr.replace("\n", " ")
  assert not pathlib.Path("out").exists()
  assert not pathlib.Path("in/out").exists()


def test_other_settings_are_a_wrong_command(rpfgsm, folder, tmp_path):
  rpfgsm(folder, "--out", tmp_path / "out")
  result = rpfgsm(folder, "--out", tmp_path / "out", "--epsilon", 8)
  assert result.exit_code == 2
  assert "attack.epsilon = 16.0, got 8.0" in result.stderr


def test_a_locked_folder_is_a_failure(rpfgsm, folder, tmp_path):
  with run.open_job(spec.Job(sources=[folder], out=tmp_path / "out", networks=[])):
    result = rpfgsm(folder, "--out", tmp_path / "out")
  assert result.exit_code == 1
  assert f"is in use: the whole folder, by process {os.getpid()}" in result.stderr


def test_a_failure_in_the_middle_still_says_what_is_done(rpfgsm, folder, tmp_path, monkeypatch):
  def fail(self):
    raise spec.JobError("The disk is full.")
    yield

  monkeypatch.setattr(run.RunningJob, "__iter__", fail)
  result = rpfgsm(folder, "--out", tmp_path / "out")
  assert result.exit_code == 1
  assert result.stdout.startswith("0 done, 0 failed, 0 skipped, 5 left")
  assert result.stderr.endswith("Error: The disk is full.\n")


def test_options_reach_the_job(rpfgsm, folder, monkeypatch):
  given = {}

  def stop(job, engine):
    given["job"], given["engine"] = job, engine
    raise spec.JobError("stopped here.")

  monkeypatch.setattr(run, "open_job", stop)
  monkeypatch.setattr(spec.Shard, "of_this_process", lambda: spec.Shard(4, 7))
  options = ("--epsilon", 8, "--targeted", "--steps", 3, "--seed", 5, "--batch-size", 16)
  more = ("--devices", 2, "--preprocess", "places365", "--network", "x", "--distributed")
  last = ("--micro-batch", 2, "--format", "jpeg", "--quality", 80, "--max-megapixels", 3)
  command = (folder, "more", "--out", "o", *options, *more, *last, "--overwrite")
  assert rpfgsm(*command).stderr == "Error: stopped here.\n"
  job = given["job"]
  attack = job.photos.attack
  assert (attack.epsilon, attack.targeted, attack.num_steps) == (8.0, True, 3)
  assert (attack.micro_batch, "micro_batch" in job.by_device) == (2, False)
  assert (job.photos.size, job.photos.preprocess) == ("network", "places365")
  assert (job.photos.encoding.format, job.photos.encoding.quality) == ("jpeg", 80)
  assert (job.seed, job.batch_size, job.devices, job.max_pixels) == (5, 16, 2, 3_000_000)
  assert (job.networks, job.held_out, job.shard) == (("x",), (), spec.Shard(4, 7))
  assert (job.sources, job.overwrite) == ((str(folder), "more"), True)
  rpfgsm(folder, "--out", "o", "--shard", "1/2")
  job = given["job"]
  assert (job.batch_size, job.seed, job.devices, job.shard) == ("auto", None, None, (1, 2))
  assert (job.networks, job.held_out) == (cli_protect_options.DEFAULT_NETWORKS, ())
  assert (job.photos.attack.epsilon, "micro_batch" in job.by_device) == (16.0, True)
  rpfgsm(folder, "--out", "o", "--engine", "ray", "--devices", 3, "--address", "h:1")
  assert (given["job"].devices, given["engine"]._workers, given["engine"]._address) == (
    None,
    3,
    "h:1",
  )


def test_without_ray_the_remedy_is_named(rpfgsm, folder, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  result = rpfgsm(folder, "--out", tmp_path / "out", "--engine", "ray")
  assert result.exit_code == 1
  assert "pip install 'rpfgsm-jax[ray]'" in result.stderr


def test_constants_are_the_packages_own():
  assert cli_protect_options.MAX_SEED == MAX_SEED
  assert set(cli_protect_options.DEFAULT_NETWORKS) < set(weights.available_networks())


def test_the_help_says_what_must_stay_private(rpfgsm):
  text = " ".join(rpfgsm("--help").stdout.split())
  assert "keep it private" in text
  assert "not that of the photos" in text


# Interrupted between the first photo and the last, by a real signal to a real process, whose device
# never finishes the second batch.
INTERRUPTED = """
import sys, threading
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector
from rpfgsm_jax import cli, cli_protect
from rpfgsm_jax.jobs import engines

real, batches = FakePhotoProtector.attack_together, []
def attack_together(self, *arguments, **options):
  batches.append(self)
  if len(batches) > 1:
    print("waiting", flush=True)
    threading.Event().wait()
  return real(self, *arguments, **options)
FakePhotoProtector.attack_together = attack_together
engines.PhotoProtector = FakePhotoProtector
engines.load_classifier = lambda name: toys.linear(1)
sys.argv = ["rpfgsm", "protect", "--size", "network", *sys.argv[1:]]
cli.main()
"""


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(rpfgsm, folder, tmp_path):
  out = tmp_path / "out"
  arguments = [str(folder), "--out", str(out), "--batch-size", "2"]
  ended = interrupt(INTERRUPTED, *arguments, cache=tmp_path / "cache")
  assert ended.exit_code == 130
  assert ended.stderr.endswith("interrupted; the same command goes on\n")
  done = len(list(out.rglob("*.png")))
  assert ended.stdout.startswith(f"{done} done, 0 failed, 0 skipped, {5 - done} left")
  assert not [path for path in out.rglob("*.partial.*")]
  again = rpfgsm(*arguments)
  assert again.exit_code == 0
  assert again.stdout.startswith(f"{5 - done} done, 0 failed, {done} skipped")
