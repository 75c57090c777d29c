"""The command `rpfgsm protect`: from its options to a job; progress, results and exit codes."""

import contextlib
import dataclasses
import os
import pathlib
import stat
import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rpfgsm_jax.atomic import strict_json
from rpfgsm_jax.cli_common import ExitCode, epilog
from rpfgsm_jax.cli_protect_options import (
  BESIDE_OUT,
  DEFAULT_HELD_OUT,
  ProtectCommand,
  all_options,
)

if TYPE_CHECKING:
  from rpfgsm_jax.jobs.run import RunningJob
  from rpfgsm_jax.jobs.spec import Job
  from rpfgsm_jax.photos.config import PhotoConfig

_SAID_NOTES = 20
_DEFAULT_STRENGTH = {"photo": "medium", "network": "strong"}  # by `--size`
_MEGA = 1e6
_NAME_THE_PAGE = "name another place, --report PAGE.html"
# Options that only have a meaning beside one choice of another.
_BELONGS_TO = {
  ("size", "network"): {"preprocess"},
  ("size", "photo"): {
    "held_out", "working_megapixels", "keep_metadata", "report", "strict", "texture",
  },
  ("encoding_format", "jpeg"): {"quality", "subsampling"},
  ("engine", "ray"): {"address"},
}  # fmt: skip


@click.command(
  cls=ProtectCommand,
  epilog=epilog(
    "rpfgsm protect ~/Pictures/holiday --out ~/Protected --report",
    "rpfgsm protect beach.jpg --out ~/Protected --strength strong --format jpeg",
    "rpfgsm protect 'trip/*.jpg' --out done --held-out dinov2-small --strict",
    "rpfgsm protect bedrooms --out done --scene bedroom",
    "rpfgsm protect photos --out done --dry-run",
    "rpfgsm protect photos --out done --json > result.json",
  ),
)
@all_options
@click.pass_context
def protect(context: click.Context, **options: Any) -> None:
  """Protects photos with RP-FGSM and writes each under its own name into OUT.

  SOURCE is a folder, with all folders below, a photo, or a pattern such as 'trip/*.jpg'. Each photo
  keeps its size. It is read back and judged before it takes its name, as it is and after what
  platforms do to it: by the networks, and by held-out ones, which the attack does not use. Verdicts
  name their judges and are worth what these are: photos that mislead small networks seldom mislead
  modern ones. Whatever ends a run, the same command goes on. Originals are never touched, nor,
  without --overwrite, any other file.

  OUT/.rpfgsm holds the settings, what networks saw in each photo, and the seed, from which targets
  and draws can be computed: keep it private, and do not publish it with the photos.

  With --size network the results have the size of the networks' input, not that of the photos, and
  nobody judges them.
  """
  from rpfgsm_jax.jobs.spec import JobError, SettingsError
  from rpfgsm_jax.models.weights import WeightsError
  from rpfgsm_jax.result_folder import FolderError

  check_together(context, options)
  if options["report"]:
    _check_page(options)
  try:
    code = _list(options) if options["dry_run"] else _run(options)
  except (SettingsError, FolderError, WeightsError) as error:
    raise click.UsageError(str(error)) from error
  except (JobError, OSError) as error:
    raise click.ClickException(str(error)) from error
  except KeyboardInterrupt:
    click.echo("interrupted before the first photo; the same command begins again", err=True)
    code = ExitCode.INTERRUPTED
  if code:
    raise click.exceptions.Exit(code)


def leave_at_once() -> None:
  """Ends an interrupted process without waiting for what the devices still compute."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(ExitCode.INTERRUPTED)


def check_together(context: click.Context, options: dict[str, Any]) -> None:
  """Refuses options that exclude each other, or that have no meaning beside another."""
  names = {option.name: option.opts[0] for option in context.command.params}
  given = {
    name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
  }
  for (option, choice), belonging in _BELONGS_TO.items():
    for name in sorted(belonging & given if options[option] != choice else ()):
      what = names[option]
      raise click.UsageError(
        f"{names[name]} belongs to {what} {choice}; leave it out or change the {what.strip('-')}."
      )
  shares = {"shard", "distributed"}
  for wrong, message in (
    ({"strength", "epsilon"} <= given, "--strength and --epsilon say the same; leave one out."),
    (shares <= given, "--shard and --distributed exclude each other; leave one out."),
    (
      options["engine"] == "ray" and shares & given,
      "--engine ray divides the photos itself; leave --shard and --distributed out.",
    ),
  ):
    if wrong:
      raise click.UsageError(message)


def job_of(options: dict[str, Any]) -> "Job":
  """Returns the job that the options describe."""
  from PIL import Image

  from rpfgsm_jax.jobs.spec import Job, Shard

  options = options | _with_classes(options)
  largest, shard = options["max_megapixels"], options["shard"]
  if options["distributed"]:
    shard = Shard.of_this_process()
  elif shard is not None:
    shard = Shard.parse(shard)
  choices = {"working_pixels": "working_megapixels", "micro_batch": "micro_batch"}
  return Job(
    sources=options["sources"],
    out=options["out"],
    networks=options["networks"],
    held_out=_held_out(options),
    photos=_photos(options),
    by_device=frozenset(name for name, option in choices.items() if options[option] == "auto"),
    seed=options["seed"],
    batch_size=options["batch_size"],
    devices=options["devices"] if options["engine"] == "local" else None,
    shard=shard,
    max_pixels=Image.MAX_IMAGE_PIXELS if largest is None else round(_MEGA * largest),
    overwrite=options["overwrite"],
  )


def _with_classes(options: dict[str, Any]) -> dict[str, tuple[str, ...]]:
  """Returns the named networks, with their classes where these are words."""
  from rpfgsm_jax.models.clip_words import with_classes

  attacked = len(options["networks"])
  names = with_classes((*options["networks"], *options["held_out"]), options["classes"])
  return {"networks": names[:attacked], "held_out": names[attacked:]}


def _held_out(options: dict[str, Any]) -> tuple[str, ...]:
  """Returns the networks that only judge: as asked, as OUT was begun with, or the default ones."""
  if options["held_out"] or options["size"] == "network":
    return options["held_out"]
  from rpfgsm_jax.jobs import record
  from rpfgsm_jax.jobs.spec import fetched_judges

  begun = record.read(options["out"] / record.STATE)
  if begun is not None and not options["overwrite"] and "held_out" in begun["settings"]:
    return tuple(each["name"] for each in begun["settings"]["held_out"])
  bundled = all(name.startswith(("shield/", "scenes25/")) for name in options["networks"])
  own = [name for name in DEFAULT_HELD_OUT if bundled and name not in options["networks"]]
  return (*own, *fetched_judges(options["networks"]))


def _photos(options: dict[str, Any]) -> "PhotoConfig":
  from rpfgsm_jax.data.photo_files import Encoding
  from rpfgsm_jax.photos.config import PhotoConfig
  from rpfgsm_jax.photos.strength import MASKING, photo_attack

  strength = options["epsilon"] or options["strength"] or _DEFAULT_STRENGTH[options["size"]]
  chosen = {
    "targeted": options["targeted"],
    "num_steps": options["steps"],
    "micro_batch": options["micro_batch"],
  }
  attack = dataclasses.replace(photo_attack(strength), **_given(chosen))
  if options["texture"] is not None:
    attack = dataclasses.replace(attack, masking=MASKING if options["texture"] else None)
  pixels, jpeg = options["working_megapixels"], ("quality", "subsampling")
  try:
    return PhotoConfig(
      attack=attack,
      size=options["size"],
      preprocess=options["preprocess"],
      working_pixels=round(_MEGA * pixels) if isinstance(pixels, float) else None,
      encoding=Encoding(
        format=options["encoding_format"], **_given({name: options[name] for name in jpeg})
      ),
      scene=options["scene"],
      keep_metadata=options["keep_metadata"],
    )
  except ValueError as error:
    raise click.UsageError(str(error)) from error


def _given(values: dict[str, Any]) -> dict[str, Any]:
  """Returns what has a value already; with "auto" the job finds it itself."""
  return {name: value for name, value in values.items() if value not in (None, "auto")}


def _run(options: dict[str, Any]) -> int:
  """Does the work; returns the exit code."""
  from rpfgsm_jax import process

  cache = process.prepare()
  from rpfgsm_jax.jobs.engines import LocalEngine
  from rpfgsm_jax.jobs.ray_engine import RayEngine
  from rpfgsm_jax.jobs.run import open_job

  local = options["engine"] == "local"
  engine = LocalEngine() if local else RayEngine(options["address"], options["devices"])
  with open_job(job_of(options), engine) as running:
    if running.to_do:
      click.echo(f"{running.to_do} to do; {cache.describe()}", err=True)
    try:
      interrupted = _follow(running)
    finally:
      click.echo(running.to_text(), err=options["as_json"])
      if options["as_json"]:
        click.echo(strict_json(running.to_json()))
    if interrupted:
      click.echo("interrupted; the same command goes on", err=True)
      return ExitCode.INTERRUPTED
    if options["report"]:
      _write_report(_page_of(options), options["out"], running)
  if running.failures:
    return ExitCode.FAILED
  lacking = {"partly", "not"} & set(running.statuses.values())
  return ExitCode.NOT_PROTECTED if options["strict"] and lacking else ExitCode.DONE


def _follow(running: "RunningJob") -> bool:
  """Does the work with a progress bar; True when Ctrl-C ended it."""
  import tqdm

  from rpfgsm_jax.jobs.messages import one_line, shortcoming

  said = 0
  for note in running.notes:
    click.echo(f"note: {one_line(note)}", err=True)
  # Off where nobody watches; what goes wrong is said in any case.
  bar = tqdm.tqdm(total=running.total, unit="photo", disable=None, leave=False, smoothing=0.05)
  with bar, contextlib.closing(iter(running)) as outcomes:
    try:
      for outcome in outcomes:
        bar.update()
        line = shortcoming(outcome) if outcome.failure is None else f"failed: {outcome.failure}"
        if line:
          bar.write(one_line(line), file=sys.stderr)
        for note in outcome.notes:
          said += 1
          if said <= _SAID_NOTES:
            bar.write(f"note: {one_line(note)}", file=sys.stderr)
    except KeyboardInterrupt:
      return True
  if said > _SAID_NOTES:
    click.echo(f"note: and {said - _SAID_NOTES} more of this kind", err=True)
  return False


def _list(options: dict[str, Any]) -> int:
  """Says what would be done; returns the exit code that could be expected."""
  from rpfgsm_jax.jobs.messages import one_line
  from rpfgsm_jax.jobs.run import preview

  found = preview(job_of(options))
  counts = dict.fromkeys(("to do", "done", "refused"), 0)
  for each in found:
    counts[each.standing] += 1
    if not options["as_json"]:
      target = "" if each.output is None else f" -> {each.output}"
      reason = f": {each.reason}" if each.reason else ""
      click.echo(one_line(f"{each.standing}: {each.relative}{target}{reason}"))
  if options["as_json"]:
    photos = [
      each._asdict() | {"output": None if each.output is None else str(each.output)}
      for each in found
    ]
    click.echo(strict_json({"photos": photos}))
  click.echo(", ".join(f"{count} {standing}" for standing, count in counts.items()), err=True)
  return ExitCode.FAILED if counts["refused"] else ExitCode.DONE


def _page_of(options: dict[str, Any]) -> pathlib.Path:
  """Returns the place of the page: beside the results, inside it would be published with them."""
  if options["report"] != BESIDE_OUT:
    return pathlib.Path(os.path.abspath(options["report"]))
  results = pathlib.Path(os.path.abspath(options["out"]))
  if not results.name:
    raise click.UsageError(f"--report: nothing lies beside {results}; {_NAME_THE_PAGE}.")
  return results.with_name(f"{results.name}-report.html")


def _check_page(options: dict[str, Any]) -> None:
  """Refuses a page that could not be written, before any photo is attacked."""
  from rpfgsm_jax.report import is_page
  from rpfgsm_jax.result_folder import FolderError, check_writable

  path = _page_of(options)
  if path.suffix != ".html":
    raise click.UsageError(f"--report must end in .html, got {path}; browsers go by it.")
  try:
    mode = path.lstat().st_mode
  except (FileNotFoundError, NotADirectoryError):
    mode = None
  except OSError as error:
    why = error.strerror or error
    raise click.UsageError(f"--report cannot write {path} ({why}); {_NAME_THE_PAGE}.") from error
  if mode is not None and stat.S_ISDIR(mode):
    raise click.UsageError(f"--report must be a file, got the folder {path}; {_NAME_THE_PAGE}.")
  if mode is not None and not options["overwrite"] and not is_page(path):
    raise click.UsageError(
      f"--report writes {path}, which is there and is no such page; move it away, or --overwrite "
      "replaces it."
    )
  try:
    check_writable(path.parent, "--report PAGE.html")
  except FolderError as error:
    raise click.UsageError(str(error)) from error


def _write_report(path: pathlib.Path, out: pathlib.Path, running: "RunningJob") -> None:
  from rpfgsm_jax.photos.page import Entry, write_photo_page

  entries = [
    Entry(task.relative, task.path.absolute(), task.output, facts)
    for task, facts in running.records()
  ]
  if not entries:
    click.echo("no report: no photo is done", err=True)
    return
  write_photo_page(path, entries, failures=running.failures)
  among = path.is_relative_to(os.path.abspath(out))
  click.echo(
    f"{path} shows the originals: keep it private"
    + (", and do not publish it with the results it lies among" if among else ""),
    err=True,
  )
