"""The command `rpfgsm protect`: progress, results and exit codes around `rpfgsm_jax.jobs`."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from rpfgsm_jax import cli_protect_job
from rpfgsm_jax.cli_protect_job import Asked
from rpfgsm_jax.cli_protect_options import PREPROCESSINGS as PREPROCESSINGS
from rpfgsm_jax.cli_protect_options import all_options

if TYPE_CHECKING:
  from rpfgsm_jax.jobs import RunningJob

NOT_PROTECTED = 3
INTERRUPTED = 130
_SAID_NOTES = 20


@click.command()
@all_options
@click.pass_context
def protect(context: click.Context, **given: object) -> None:
  """Protects photos with RP-FGSM and writes each under its own name into OUT.

  SOURCE is a folder, with all folders below, a photo, or a pattern such as 'trip/*.jpg'. Each photo
  keeps its size. It is read back and judged before it takes its name: by the networks, by one that
  the attack never asked, as it is and after what platforms do to it. Whatever ends a run, the same
  command goes on. Originals are never touched, nor, without --overwrite, any other file.

  OUT/.rpfgsm holds the settings, what networks saw in each photo, and the seed, from which targets
  and draws can be computed: keep it private, and do not publish it with the photos.

  With --size network SOURCE is one folder, and the PNGs have the size of the networks' input, not
  that of the photos; a photo is done when its PNG exists.

  Exit codes: 0 all done, 1 a photo could not be done or the job failed, 2 the command was wrong,
  3 with --strict, all done but not all protected, 130 interrupted.
  """
  asked = Asked(**given)
  cli_protect_job.check_together(asked, context)
  if asked.report:
    _check_page(asked)
  with _exit_codes():
    code = _list(asked) if asked.dry_run else _run(asked)
  if code:
    raise click.exceptions.Exit(code)


def leave_at_once() -> None:
  """Ends an interrupted process without waiting for what the devices still compute."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(INTERRUPTED)


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
  from rpfgsm_jax.jobs import JobError, SettingsError
  from rpfgsm_jax.models.weights import WeightsError

  try:
    yield
  except (SettingsError, WeightsError) as error:
    raise click.UsageError(str(error)) from error
  except (JobError, OSError) as error:
    raise click.ClickException(str(error)) from error
  except KeyboardInterrupt:
    click.echo("interrupted before the first photo; the same command begins again", err=True)
    raise click.exceptions.Exit(INTERRUPTED) from None


def _run(asked: Asked) -> int:
  """Does the work; returns the exit code."""
  from rpfgsm_jax import process

  cache = process.prepare()
  from rpfgsm_jax import jobs
  from rpfgsm_jax.jobs import telling

  job = cli_protect_job.job_of(asked)
  with jobs.open_job(job, cli_protect_job.engine_of(asked)) as running:
    if running.to_do:
      click.echo(f"{running.to_do} to do; {cache.describe()}", err=True)
    try:
      interrupted = _follow(running)
    finally:
      summary = running.summary()
      click.echo(summary.to_text(), err=asked.as_json)
      if asked.as_json:
        each = {"photos": telling.each_photo(running)} if job.photo else {}
        click.echo(json.dumps(summary.to_json() | each))
    if interrupted:
      click.echo("interrupted; the same command goes on", err=True)
      return INTERRUPTED
    if asked.report:
      _write_report(_page_of(asked.out), running)
  if summary.failures:
    return 1
  lacking = {"partly", "not"} & set(running.statuses.values())
  return NOT_PROTECTED if asked.strict and lacking else 0


def _follow(running: "RunningJob") -> bool:
  """Does the work with a progress bar; True when Ctrl-C ended it."""
  import tqdm

  from rpfgsm_jax.jobs.summary import one_line
  from rpfgsm_jax.jobs.telling import shortcoming

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


def _list(asked: Asked) -> int:
  """Says what would be done; returns the exit code that could be expected."""
  from rpfgsm_jax import jobs
  from rpfgsm_jax.jobs.summary import one_line

  found = jobs.preview(cli_protect_job.job_of(asked))
  counts = dict.fromkeys(("to do", "done", "refused"), 0)
  for each in found:
    counts[each.standing] += 1
    if not asked.as_json:
      target = "" if each.output is None else f" -> {each.output}"
      reason = f": {each.reason}" if each.reason else ""
      click.echo(one_line(f"{each.standing}: {each.relative}{target}{reason}"))
  if asked.as_json:
    photos = [
      each._asdict() | {"output": None if each.output is None else str(each.output)}
      for each in found
    ]
    click.echo(json.dumps({"photos": photos}))
  click.echo(", ".join(f"{count} {standing}" for standing, count in counts.items()), err=True)
  return 1 if counts["refused"] else 0


def _page_of(out: pathlib.Path) -> pathlib.Path:
  """The page lies beside the results: inside, it would be published with them."""
  results = pathlib.Path(os.path.abspath(out))
  return results.with_name(f"{results.name}-report.html")


def _check_page(asked: Asked) -> None:
  from rpfgsm_jax.report import is_page

  path = _page_of(asked.out)
  if os.path.lexists(path) and not asked.overwrite and not is_page(path):
    raise click.UsageError(
      f"--report writes {path}, which is there and is no such page; move it away, or --overwrite "
      "replaces it."
    )


def _write_report(path: pathlib.Path, running: "RunningJob") -> None:
  from rpfgsm_jax.photos.page import Entry, write_photo_page

  entries = [
    Entry.of(task.record.relative, task.record.path.absolute(), task.output, facts)
    for task, facts in running.records()
  ]
  if not entries:
    click.echo("no report: no photo is done", err=True)
    return
  write_photo_page(path, entries, failures=running.summary().failures)
  click.echo(f"{path} shows the originals: keep it private", err=True)
