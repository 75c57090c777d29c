"""`rpfgsm protect` for photos at their own size: options, verdicts, dry runs, reports, Ctrl-C."""

import os
import pathlib

import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from jobs.fake_protector import FakePhotoProtector
from jobs.interrupted import interrupt
from jobs.protect_json import read_protect_json
from PIL import Image

from rpfgsm_jax import cli, cli_protect_options, process
from rpfgsm_jax.data.photo_files import Encoding
from rpfgsm_jax.jobs import engines, run, spec
from rpfgsm_jax.photos.config import PhotoConfig
from rpfgsm_jax.photos.strength import MASKING, STRENGTHS
from rpfgsm_jax.report import is_page


@pytest.fixture(autouse=True)
def no_attack(monkeypatch):
  monkeypatch.setattr(process, "prepare", lambda: process.CompileCache(None, False))
  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", lambda name: toys.linear(1, name=name))


@pytest.fixture
def rpfgsm():
  runner = CliRunner()

  def run(*arguments):
    return runner.invoke(cli.cli, ["protect", *map(str, arguments)])

  return run


@pytest.fixture
def album(tmp_path, monkeypatch):
  """Two colored photos and a gray one, which the fake network that is held out recognizes."""
  generator = np.random.default_rng(0)
  for name in ("a.png", "sub/b.png"):
    (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = generator.integers(0, 256, (36, 34, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / name)
  Image.fromarray(pixels[..., 0]).save(tmp_path / "in" / "gray.png")
  monkeypatch.chdir(tmp_path)
  return tmp_path / "in"


def test_protects_names_what_is_lacking_and_then_skips(rpfgsm, album):
  first = rpfgsm("in", "--out", "out")
  assert first.exit_code == 0
  assert first.stdout.startswith("3 done (2 protected, 1 partly protected), 0 failed, 0 skipped; ")
  assert first.stderr.startswith("3 to do; compiling")
  held_out = "; ".join(f"{name} (as written)" for name in cli_protect_options.DEFAULT_HELD_OUT)
  line = f"partly protected: gray.png: not misled: {held_out}\n"
  assert line in first.stderr
  assert first.stderr.count("protected:") == 1
  judges = "3 small networks, none like those in use; not judged by a modern network"
  assert f"\n2 of 3 scenes protected, judged by {judges}.\n" in first.stdout
  again = rpfgsm("in", "--out", "out")
  assert (again.exit_code, again.stdout) == (0, "0 done, 0 failed, 3 skipped\n")


def test_strict_tells_by_its_exit_code(rpfgsm, album):
  for _ in range(2):  # what was done before counts too
    assert rpfgsm("in", "--out", "out", "--strict").exit_code == 3
  assert rpfgsm("in/a.png", "in/sub", "--out", "other", "--strict").exit_code == 0
  (album / "bad.jpg").touch()
  assert rpfgsm("in", "--out", "out", "--strict").exit_code == 1


def test_a_program_reads_every_photo(rpfgsm, album):
  rpfgsm("in/a.png", "--out", "out")
  (album / "bad.jpg").write_bytes(b"no picture")
  result = rpfgsm("in", "--out", "out", "--json")
  assert result.exit_code == 1
  found = read_protect_json(result.stdout)
  assert (found["done"], found["skipped"], found["failed"]) == (2, 1, 1)
  assert found["verdicts"] == {"protected": 1, "partly": 1}
  photos = {each["photo"]: each for each in found["photos"]}
  assert photos.keys() == {"a.png", "sub/b.png", "gray.png", "bad.jpg"}
  assert photos["bad.jpg"]["status"] == "failed"
  assert "bad.jpg must be a" in photos["bad.jpg"]["reason"]
  gray = photos["gray.png"]
  assert (gray["status"], gray["psnr"], gray["ssim"]) == ("partly", 20.0, 0.9)
  assert gray["working_size"] is None  # its own
  assert gray["source"] == str(album / "gray.png")
  assert pathlib.Path(gray["output"]) == pathlib.Path("out/gray.png").resolve()
  judge = {"network": "scenes25/densenet161", "held_out": True, "kind": "small"}
  assert gray["scenes"][-1] == judge | {"before": "kitchen", "after": "bar"}
  assert (len(found["judges"]), found["judges"][-1]) == (3, judge)
  assert found["judged_by"].endswith("not judged by a modern network")
  assert len(gray["scenes"]) == 3


def test_a_dry_run_lists_and_makes_nothing(rpfgsm, album, tmp_path):
  (album / "bad.jpg").write_bytes(b"no picture")
  before = sorted(tmp_path.rglob("*"))
  result = rpfgsm("in", "--out", "out", "--dry-run")
  assert result.exit_code == 1
  assert sorted(tmp_path.rglob("*")) == before
  out = tmp_path / "out"
  assert f"to do: sub/b.png -> {out / 'sub' / 'b.png'}\n" in result.stdout
  assert f"refused: bad.jpg -> {out / 'bad.png'}: " in result.stdout
  assert result.stderr == "3 to do, 0 done, 1 refused\n"
  (album / "bad.jpg").unlink()
  rpfgsm("in/a.png", "--out", "out")
  result = rpfgsm("in", "--out", "out", "--dry-run", "--json")
  assert result.exit_code == 0
  found = {
    each["relative"]: each["standing"] for each in read_protect_json(result.stdout)["photos"]
  }
  assert found == {"a.png": "done", "sub/b.png": "to do", "gray.png": "to do"}


def test_names_that_a_terminal_would_obey_are_written_out(rpfgsm, album):
  (album / "line\nbreak \x1b[31m.jpg").touch()
  (album / os.fsdecode(b"caf\xe9.jpg")).touch()
  result = rpfgsm("in", "--out", "out")
  assert result.exit_code == 1
  for text in (result.stdout, result.stderr):
    assert r"line\nbreak \x1b[31m.jpg" in text
    assert r"caf\udce9.jpg" in text
    assert "\x1b" not in text


WRONG = {
  "epsilon twice": (["--strength", "strong", "--epsilon", "3"], "--strength and --epsilon say the"),
  "strength": (["--strength", "huge"], "'huge' is neither gentle, medium, strong nor a number"),
  "too strong": (["--strength", "256"], "nor a number in 1..255"),
  "quality of png": (["--quality", "80"], "--quality belongs to --format jpeg; leave"),
  "subsampling of webp": (
    ["--format", "webp", "--subsampling", "4:4:4"],
    "--subsampling belongs to --format jpeg",
  ),
  "preprocess": (["--preprocess", "places365"], "--preprocess belongs to --size network"),
  "scene": (
    ["--scene", "bedrom"],
    "--scene must be a class of shield/efficientnet_lite0, got 'bedr",
  ),
  "targeted scene": (["--scene", "bedroom", "--targeted"], "the attack untargeted"),
  "batches": (["--batch-size", "0"], "Invalid value for '--batch-size'"),
  "micro-batches": (["--micro-batch", "many"], "Invalid value for '--micro-batch'"),
  "judges": (["--size", "network", "--held-out", "x"], "--held-out belongs to --size photo"),
  "metadata": (["--size", "network", "--keep-metadata"], "--keep-metadata belongs to --size photo"),
  "own judge": (
    ["--held-out", "shield/efficientnet_lite0"],
    "--held-out must be a network that the attack",
  ),
  "working size": (["--working-megapixels", "0.001"], "Invalid value for '--working-megapixels'"),
  "no judge": (["--held-out", "nonsense"], "--held-out must be a known network or a folder"),
  "largest": (["--max-megapixels", "0"], "Invalid value for '--max-megapixels'"),
  "no such photo": (["absent.jpg"], "got nothing of that name: absent.jpg"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_is_two_and_makes_nothing(rpfgsm, album, name):
  arguments, message = WRONG[name]
  result = rpfgsm("in", "--out", "out", *arguments)
  assert result.exit_code == 2
  assert message in " ".join(result.stderr.split())
  assert not pathlib.Path("out").exists()


@pytest.fixture
def given(rpfgsm, monkeypatch):
  """Returns the job that options make."""

  def given(*options):
    found = []

    def stop(job, engine):
      found.append(job)
      raise spec.JobError("stopped here.")

    monkeypatch.setattr(run, "open_job", stop)
    result = rpfgsm(*options, "--out", "o")
    assert result.stderr == "Error: stopped here.\n"
    return found[0]

  return given


def test_the_defaults_are_the_photos_own(given):
  job = given("a", "b*")
  assert job.sources == ("a", "b*")
  assert job.photos == PhotoConfig(working_pixels=None)
  assert job.by_device == {"working_pixels", "micro_batch"}
  assert job.networks == cli_protect_options.DEFAULT_NETWORKS
  assert job.held_out == ("scenes25/resnet18", "scenes25/densenet161")
  assert not job.overwrite
  assert job.max_pixels == Image.MAX_IMAGE_PIXELS


def test_options_reach_the_job(given):
  job = given(
    *("x", "--strength", "strong", "--targeted", "--steps", 3, "--seed", 2**63, "--keep-metadata"),
    *("--format", "jpeg", "--quality", 80, "--subsampling", "4:4:4", "--working-megapixels", 0.5),
    *("--max-megapixels", 20, "--overwrite", "--network", "n", "--devices", 2, "--shard", "1/2"),
  )
  attack = job.photos.attack
  assert (attack.epsilon, attack.targeted, attack.num_steps) == (STRENGTHS["strong"], True, 3)
  assert (attack.masking, attack.defenses) == (None, PhotoConfig().attack.defenses)
  assert job.photos.encoding == Encoding(format="jpeg", quality=80, subsampling="4:4:4")
  assert (job.photos.working_pixels, job.by_device) == (500_000, {"micro_batch"})
  assert (job.max_pixels, job.overwrite, job.photos.keep_metadata) == (20_000_000, True, True)
  # A network of one's own has no judge unless one is named.
  assert (job.networks, job.held_out, job.seed) == (("n",), (), 2**63)
  assert (job.devices, job.shard) == (2, spec.Shard(1, 2))


def test_what_the_options_say_is_so(rpfgsm):
  text = " ".join(rpfgsm("--help").stdout.split())
  assert f"--strength {'|'.join(STRENGTHS)}|N" in text
  assert STRENGTHS["medium"] == PhotoConfig().attack.epsilon
  assert f"Pillow's limit, {Image.MAX_IMAGE_PIXELS / 1e6:.0f}" in text
  assert (Encoding().format, Encoding().quality, Encoding().subsampling) == ("png", 90, "4:2:0")
  assert set(cli_protect_options.DEFAULT_HELD_OUT) <= set(cli.BUNDLED_NETWORKS)
  assert not {*cli_protect_options.DEFAULT_HELD_OUT} & {*cli_protect_options.DEFAULT_NETWORKS}


def test_own_size_and_numbers(given):
  job = given(
    *("x", "--working-megapixels", "own", "--strength", "12.5", "--held-out", "h"),
    *("--micro-batch", 3, "--batch-size", 6),
  )
  assert (job.photos.working_pixels, job.by_device) == (None, frozenset())
  assert (job.photos.attack.epsilon, job.held_out) == (12.5, ("h",))
  assert (job.photos.attack.micro_batch, job.batch_size) == (3, 6)
  assert given("x", "--scene", "bedroom").photos.scene == "bedroom"
  assert given("x", "--epsilon", 4).photos.attack.epsilon == 4.0
  job = given("x", "y", "--size", "network", "--format", "jpeg", "--overwrite")
  assert (job.photos.size, job.photos.attack.epsilon, job.held_out) == ("network", 16.0, ())
  gentle = given("x", "--size", "network", "--strength", "gentle")
  assert gentle.photos.attack.epsilon == STRENGTHS["gentle"]


def test_smooth_places_are_spared_as_asked(given):
  masked = {
    options: given("x", *options).photos.attack.masking
    for options in (
      (), ("--strength", "gentle"), ("--strength", "strong"), ("--strength", "16"),
      ("--no-texture",), ("--strength", "strong", "--texture"), ("--epsilon", "9", "--texture"),
    )
  }  # fmt: skip
  assert list(masked.values()) == [MASKING, MASKING, None, None, None, MASKING, MASKING]


def test_the_page_lies_beside_the_results_and_holds_every_photo_that_is_done(
  rpfgsm, album, monkeypatch
):
  from rpfgsm_jax.photos import page

  written = []
  monkeypatch.setattr(
    page, "write_photo_page", lambda path, entries, failures: written.append((path, entries))
  )
  rpfgsm("in/a.png", "--out", "out")
  result = rpfgsm("in", "--out", "out/", "--report")
  assert result.exit_code == 0
  ((path, entries),) = written
  assert path == pathlib.Path("out-report.html").resolve()
  assert f"{path} shows the originals: keep it private" in result.stderr
  assert [each.relative for each in entries] == ["a.png", "gray.png", "sub/b.png"]
  assert entries[2].original == album / "sub" / "b.png"
  assert entries[2].output == pathlib.Path("out/sub/b.png").resolve()
  assert entries[2].verdict.status == "protected"


def test_a_file_in_the_pages_place_stays_but_an_older_page_is_made_anew(rpfgsm, album, tmp_path):
  place = tmp_path / "out-report.html"
  place.write_text("<!DOCTYPE html><title>my own</title>")
  arguments = ["in", "--out", "out", "--report"]
  refused = rpfgsm(*arguments)
  assert refused.exit_code == 2
  assert "move it away, or --overwrite replaces it" in refused.stderr
  assert "my own" in place.read_text()
  assert not (tmp_path / "out").exists()
  (album / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
  place.unlink()
  assert rpfgsm(*arguments).exit_code == 1  # of the broken photo
  first = place.read_text()
  assert "broken.jpg" in first
  assert "Not done" in first
  (album / "broken.jpg").unlink()
  assert rpfgsm(*arguments).exit_code == 0
  assert "Not done" not in place.read_text()


@pytest.mark.parametrize("where", ["out/page.html", "pages/new/page.html", "in/page.html"])
def test_the_page_lies_where_the_user_says(rpfgsm, album, where):
  result = rpfgsm("--report", where, "in", "--out", "out")
  assert result.exit_code == 0, result.output
  assert is_page(where)
  assert ("do not publish it" in result.stderr) == where.startswith("out")
  assert not pathlib.Path("out-report.html").exists()


def test_a_source_after_report_is_a_source(rpfgsm, album):
  assert rpfgsm("--report", "in", "--out", "out").exit_code == 0
  assert is_page("out-report.html")


LATE = {
  "no page": (["out", "--report=page.txt"], "--report must end in .html"),
  "a file above": (["out", "--report", "in/a.png/p.html"], "a.png is in the way"),
  "a folder": (["out", "--report", "there.html"], "there.html' is a directory"),
  "a folder beside": (["far"], "got the folder"),
  "too long": (["o" * 250], "File name too long); name another place, --report PAGE.html"),
  "nothing beside": (["/"], "nothing lies beside /; name another place, --report PAGE.html"),
  "empty": (["out", "--report="], "--report must not be empty"),
}


@pytest.mark.parametrize("name", LATE)
def test_a_page_that_cannot_be_written_is_found_out_before_the_photos(rpfgsm, album, name):
  for folder in ("there.html", "far-report.html"):
    pathlib.Path(folder).mkdir()
  (out, *report), says = LATE[name]
  result = rpfgsm("in", "--out", out, *(report or ["--report"]), "--overwrite")
  assert result.exit_code == 2
  assert says in " ".join(result.stderr.split())
  assert sorted(os.listdir()) == ["far-report.html", "in", "there.html"]


# Interrupted between the first photo and the last, by a real signal to a real process, whose device
# never finishes the second photo.
INTERRUPTED = """
import contextlib, sys, threading
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector
from rpfgsm_jax import cli
from rpfgsm_jax.jobs import engines

real, photos, counted = FakePhotoProtector.attack_together, [], threading.Event()
real_run = engines.LocalEngine.run
def attack(self, *arguments, **options):
  photos.append(arguments)
  if len(photos) > 1:
    counted.wait()
    print("waiting", flush=True)
    threading.Event().wait()
  return real(self, *arguments, **options)
def run(self, *arguments):
  with contextlib.closing(real_run(self, *arguments)) as outcomes:
    for outcome in outcomes:
      yield outcome
      counted.set()  # who asks for the next photo has counted this one
FakePhotoProtector.attack_together = attack
engines.LocalEngine.run = run
engines.PhotoProtector = FakePhotoProtector
engines.load_classifier = lambda name: toys.linear(1, name=name)
sys.argv = ["rpfgsm", "protect", *sys.argv[1:]]
cli.main()
"""


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(rpfgsm, album, tmp_path):
  arguments = ["in", "--out", "out"]
  ended = interrupt(INTERRUPTED, *arguments, cache=tmp_path / "cache")
  assert ended.exit_code == 130
  assert ended.stderr.endswith("interrupted; the same command goes on\n")
  assert ended.stdout.startswith(("1 done (1 pro", "1 done (1 partly"))
  assert ", 0 failed, 0 skipped, 2 left" in ended.stdout
  out = tmp_path / "out"
  assert len(list(out.rglob("*.png"))) == 1
  assert not list(out.rglob("*.partial.*"))
  again = rpfgsm(*arguments)
  assert (again.exit_code, again.stdout.startswith("2 done")) == (0, True)
  assert "1 skipped" in again.stdout
