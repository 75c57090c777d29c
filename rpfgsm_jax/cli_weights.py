"""The commands `rpfgsm weights list` and `rpfgsm weights fetch`."""

import click

from rpfgsm_jax.cli_common import ARCHITECTURES, ExitCode, epilog, progress_bar, reported_failures


@click.group()
def weights() -> None:
  """Lists and fetches networks."""


@weights.command("list", epilog=epilog("rpfgsm weights list"))
def list_weights() -> None:
  """Lists the networks that can be loaded by name: bundled and fetched ones."""
  from rpfgsm_jax.models.hub import fetched_commit
  from rpfgsm_jax.models.weights import BUNDLED, available_networks

  networks = available_networks()
  width = max((len(name) for name in networks), default=0)
  for name, directory in networks.items():
    commit = fetched_commit(directory)
    fetched = f"fetched, commit {commit}" if commit else "fetched"
    origin = "bundled" if directory.is_relative_to(BUNDLED) else f"{fetched}, in {directory}"
    click.echo(f"{name:<{width}}  {origin}")
  absent = [arch for arch in ARCHITECTURES if f"places365/{arch}" not in networks]
  if absent:
    click.echo(f"not fetched: {', '.join(f'places365/{arch}' for arch in absent)}")


@weights.command(
  epilog=epilog(
    "rpfgsm weights fetch places365 --arch resnet50",
    "rpfgsm weights fetch dinov2-small",
    "rpfgsm weights fetch hf:facebook/dinov2-small@main",
  )
)
@click.argument("collection")
@click.option(
  "--arch",
  "archs",
  multiple=True,
  type=click.Choice(ARCHITECTURES),
  help="Of places365, only this network; may be repeated.  [default: all four]",
)
def fetch(collection: str, archs: tuple[str, ...]) -> None:
  """Downloads a public COLLECTION of networks, or one network.

  \b
  places365                   the paper's four, which are converted
  brisque                     LIVE's BRISQUE model
  hf:OWNER/NAME[@REVISION]    any ViT, DINOv2, CLIP or ConvNeXt of Hugging Face ([hub])
  dinov2-small, vit-base, clip-vit-base-patch32, convnext-tiny, …  some of these

  An interrupted download goes on where it stopped; Hugging Face's begin the file anew that they
  stopped in. The cache is the user's own; RPFGSM_CACHE names another folder.
  """
  from rpfgsm_jax.data.classes import places365_class_names
  from rpfgsm_jax.models.fetch import fetch_places365
  from rpfgsm_jax.quality.fetch import fetch_brisque_model

  if collection != "places365" and archs:
    raise click.BadParameter("goes with places365 alone; leave it out.", param_hint="--arch")
  if collection == "brisque":
    with reported_failures(), progress_bar(collection) as progress:
      directory = fetch_brisque_model(progress=progress)
    click.echo(f"{collection}: {directory}")
    return
  if collection != "places365":
    return _fetch_from_hub(collection)
  failures = []
  for arch in archs or ARCHITECTURES:
    try:
      with reported_failures(), progress_bar(f"{collection}/{arch}") as progress:
        directory = fetch_places365(arch, places365_class_names(), progress=progress)
    except click.ClickException as error:
      failures.append(error.message)
      click.echo(f"Error: {collection}/{arch}: {error.message}", err=True)
    else:
      click.echo(f"{collection}/{arch}: {directory}")
  if failures:
    raise click.exceptions.Exit(ExitCode.FAILED)


def _fetch_from_hub(text: str) -> None:
  from rpfgsm_jax.models import hub

  try:
    wanted = hub.parse_wanted(text)
  except ValueError as error:
    raise click.BadParameter(
      f"{error}; also: places365, brisque.", param_hint="COLLECTION"
    ) from error
  with reported_failures():
    directory = hub.fetch_from_hub(wanted)
  click.echo(f"{wanted.network}: {directory}, commit {hub.fetched_commit(directory)}")
