"""The command `rpfgsm app`: a page on this machine instead of a terminal."""

import contextlib
import dataclasses
import os
import pathlib
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from rpfgsm_jax import cli_protect, process, result_folder
from rpfgsm_jax.cli_common import ExitCode, epilog
from rpfgsm_jax.user_folders import user_folder

if TYPE_CHECKING:
  from rpfgsm_jax.app.work import JobFor

_PORT = 8377
_PATIENCE = 5.0  # seconds for what is being written when Ctrl-C comes
# Options of `rpfgsm protect` that hold for all photos of the page; it asks for the strength itself.
_SHARED = {
  "networks", "held_out", "classes", "texture", "scene", "targeted", "steps", "seed",
  "encoding_format", "quality", "subsampling", "working_megapixels", "max_megapixels",
  "keep_metadata", "batch_size", "micro_batch", "devices",
}  # fmt: skip


@click.command(epilog=epilog("rpfgsm app", "rpfgsm app --out ~/Protected --no-browser --port 8080"))
@click.option(
  "--out",
  type=click.Path(path_type=pathlib.Path),
  help="Folder of the photos that are given to the page, of results and records; made if absent, "
  "and gone on with.  [default: a folder of yours]",
)
@click.option(
  "--port",
  type=click.IntRange(0, 65535),
  help=f"Of the address.  [default: {_PORT}, or another where that is taken]",
)
@click.option("--browser/--no-browser", default=True, help="Open the page in your browser.")
@click.pass_context
def app(
  context: click.Context, out: pathlib.Path | None, port: int | None, browser: bool, **shared: Any
) -> None:
  """Opens a page on this machine, on which photos are dropped and protected.

  It runs the same jobs as `rpfgsm protect`, and whatever ends it, the same command goes on. Nothing
  leaves this machine: the page is for its own browser alone, under an address that is new each
  time. Ctrl-C ends it.

  OUT holds copies of your photos until you remove them on the page; it is for your eyes only.
  """
  folder = pathlib.Path(os.path.abspath(out)) if out is not None else _own_folder()
  options_for = _options_maker(folder, shared)
  cli_protect.check_together(context, options_for("medium"))
  process.prepare()
  _check_extra()
  from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError, identified
  from rpfgsm_jax.models.weights import WeightsError

  def job_for(strength: str, names: Sequence[str]) -> Job:
    return dataclasses.replace(cli_protect.job_of(options_for(strength)), only=frozenset(names))

  try:
    identified(job_for("medium", ()))
    interrupted = _serve(folder, port, browser, job_for)
  except (SettingsError, result_folder.FolderError, WeightsError) as error:
    raise click.UsageError(str(error)) from error
  except (JobError, OSError) as error:
    raise click.ClickException(str(error)) from error
  if interrupted:
    click.echo("interrupted; the same command goes on", err=True)
    raise click.exceptions.Exit(ExitCode.INTERRUPTED)


app.params += [each for each in cli_protect.protect.params if each.name in _SHARED]


def _serve(folder: pathlib.Path, port: int | None, browser: bool, job_for: "JobFor") -> bool:
  """Serves the page until Ctrl-C; returns whether photos were being protected then."""
  import uvicorn

  from rpfgsm_jax.app import server, session, work
  from rpfgsm_jax.jobs import locks

  result_folder.check_place(folder, "rpfgsm app", lambda place: (place / session.MARK).is_dir())
  session.make_folders(folder)
  with locks.hold(folder / session.MARK, None), _listen(port) as listening:
    found, token = session.Session(folder, job_for("medium", ())), secrets.token_urlsafe()
    working = work.Work(found, job_for)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/"
    click.echo(f"{address}\n{folder} holds your photos and results. Ctrl-C ends the page.")
    if browser and _has_windows():
      webbrowser.open(address)
    config = uvicorn.Config(
      server.make_app(found, working, token),
      access_log=False,
      lifespan="off",
      log_config=None,  # Python's own: warnings go to stderr
      server_header=False,
      timeout_graceful_shutdown=1,
      ws="none",
    )
    with contextlib.suppress(KeyboardInterrupt):  # once the server has ended
      uvicorn.Server(config).run(sockets=[listening])
    return working.end(_PATIENCE)


def _check_extra() -> None:
  try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
  except ImportError as error:
    raise click.ClickException(
      f"rpfgsm app needs more ({error}): pip install 'rpfgsm-jax[app]'."
    ) from error


def _own_folder() -> pathlib.Path:
  root = user_folder("data", "RPFGSM_APP")
  if root is None:
    raise click.UsageError("--out must be named where there is no home folder.")
  return root / "app"


def _options_maker(folder: pathlib.Path, shared: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
  """Returns what makes the options that `rpfgsm protect` would be given for a strength."""

  def options_for(strength: str) -> dict[str, Any]:
    words = [str(folder / "originals"), "--out", str(folder / strength), "--strength", strength]
    return cli_protect.protect.make_context("rpfgsm app", words).params | shared

  return options_for


def _listen(port: int | None) -> socket.socket:
  """Takes the port, or, where none was named and the usual one is taken, any that is free."""
  try:
    return socket.create_server(("127.0.0.1", _PORT if port is None else port))
  except OSError as error:
    if port is not None:
      why = os.strerror(error.errno) if error.errno else error
      raise click.UsageError(f"--port {port} cannot be had ({why}); name another one.") from error
    return socket.create_server(("127.0.0.1", 0))


def _has_windows() -> bool:
  """Says whether a browser would open in a window, and not in this terminal."""
  return sys.platform in ("darwin", "win32") or any(
    os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
  )
