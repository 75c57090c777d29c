"""Networks of Hugging Face, fetched through its own library; the extra `hub` installs that.

A repository lies as `hf/OWNER--NAME` (with `@REVISION`, where one was asked for) in the user's
cache; `hub.json` beside its files says which commit it is, and it keeps that until it is deleted.
"""

import contextlib
import json
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rpfgsm_jax import atomic
from rpfgsm_jax.models.checkpoint import CheckpointError
from rpfgsm_jax.models.fetch import DownloadError, cache_for_downloads
from rpfgsm_jax.models.parameters import WeightsError
from rpfgsm_jax.models.published import is_published
from rpfgsm_jax.models.published_config import image_config
from rpfgsm_jax.models.tensor_files import INDEX, PICKLE, SAFETENSORS, check_memory
from rpfgsm_jax.models.weights import CONFIG_FILE, load_network

RECORD_FILE = "hub.json"
SHORT_NAMES = {
  **{f"dinov2-{size}": f"facebook/dinov2-{size}" for size in ("small", "base", "large")},
  **{f"vit-{size}": f"google/vit-{size}-patch16-224" for size in ("base", "large")},
  **{
    f"clip-vit-{size}": f"openai/clip-vit-{size}"
    for size in ("base-patch32", "base-patch16", "large-patch14")
  },
  **{f"convnext-{s}": f"facebook/convnext-{s}-224" for s in ("tiny", "small", "base", "large")},
}
"""Short name -> repository."""

_DESCRIBING = (CONFIG_FILE, "preprocessor_config.json", "tokenizer.json")
_WANTED = re.compile(r"hf:([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?", re.ASCII)


class Wanted(NamedTuple):
  """A repository to fetch."""

  repository: str  # OWNER/NAME
  revision: str | None  # branch, tag or commit; None: the repository's main branch

  @property
  def network(self) -> str:
    """The name that the network is loaded by."""
    revision = f"@{self.revision}" if self.revision else ""
    return "hf/" + f"{self.repository}{revision}".replace("/", "--")

  def __str__(self) -> str:
    return self.repository + (f"@{self.revision}" if self.revision else "")


def parse_wanted(text: str) -> Wanted:
  """Reads a short name, or hf:OWNER/NAME[@REVISION]."""
  found = _WANTED.fullmatch(f"hf:{SHORT_NAMES[text]}" if text in SHORT_NAMES else text)
  if found is None:
    known = ", ".join(SHORT_NAMES)
    raise ValueError(f"must be hf:OWNER/NAME[@REVISION] or one of {known}, got {text!r}")
  return Wanted(found[1], found[2])


def fetch_from_hub(wanted: Wanted) -> pathlib.Path:
  """Downloads a repository's network into the user's cache and loads it once; returns its folder.

  Tensors come only once the network's kind and size are known to be usable; what turns out not to
  load is removed.
  """
  cache = cache_for_downloads()
  directory = cache / "weights" / wanted.network
  if (directory / CONFIG_FILE).is_file():
    _check_whole(directory, wanted)
    return directory
  hub = _library()
  api = hub.HfApi()
  with _explained(hub, wanted):
    found = api.model_info(wanted.repository, revision=wanted.revision, files_metadata=True)
  sizes = {file.rfilename: file.size or 0 for file in found.siblings or ()}
  tensors = _tensors(wanted, list(sizes))
  waiting = cache / "downloads" / f"{wanted.network}-{found.sha}"
  source = {"repo_id": wanted.repository, "revision": found.sha, "local_dir": waiting}
  with _explained(hub, wanted):
    api.hf_hub_download(filename=CONFIG_FILE, **source)
  _check_description(waiting, wanted)
  check_memory(sum(sizes[name] for name in tensors), str(wanted))
  names = [name for name in _DESCRIBING if name in sizes] + tensors
  with _explained(hub, wanted):
    api.snapshot_download(allow_patterns=names, **source)
  try:
    load_network(waiting)
  except (CheckpointError, WeightsError) as error:
    shutil.rmtree(waiting)
    raise WeightsError(f"{wanted} cannot be used and is removed: {error}") from error
  shutil.rmtree(waiting / ".cache", ignore_errors=True)  # the library's notes on the download
  record = {
    "repository": wanted.repository,
    "revision": wanted.revision,
    "commit": found.sha,
    "files": {name: (waiting / name).stat().st_size for name in names},
  }
  atomic.write_text(waiting / RECORD_FILE, atomic.strict_json(record, indent=2) + "\n")
  directory.parent.mkdir(parents=True, exist_ok=True)
  waiting.rename(directory)
  return directory


def fetched_commit(directory: pathlib.Path) -> str | None:
  """Returns the commit of a network that came from the hub; None for all others."""
  return _record(directory).get("commit")


def _record(directory: pathlib.Path) -> dict[str, Any]:
  try:
    record = json.loads((directory / RECORD_FILE).read_bytes())
  except (OSError, ValueError):
    return {}
  return record if isinstance(record, dict) else {}


def _check_whole(directory: pathlib.Path, wanted: Wanted) -> None:
  for name, size in _record(directory).get("files", {}).items():
    path = directory / name
    found = path.stat().st_size if path.is_file() else 0
    if found != size:
      raise DownloadError(
        f"{path} has {found} bytes, not {size} as {wanted} has; delete {directory}, "
        "then fetch it again."
      )


def _library() -> Any:
  try:
    import huggingface_hub
  except ImportError as error:
    raise DownloadError(
      "networks of Hugging Face come through huggingface_hub, which is not installed: "
      "pip install 'rpfgsm-jax[hub]'. A folder that transformers wrote loads without it."
    ) from error
  return huggingface_hub


@contextlib.contextmanager
def _explained(hub: Any, wanted: Wanted) -> Iterator[None]:
  """Turns the library's errors into one that says what to do."""
  from huggingface_hub import constants, errors

  try:
    yield
  except errors.GatedRepoError as error:
    raise DownloadError(
      f"{wanted.repository} asks for consent: agree to its terms on its page, then log in by "
      "`hf auth login` or set HF_TOKEN."
    ) from error
  except errors.RepositoryNotFoundError as error:
    who = "the token in use may not see it" if hub.get_token() else "no token is set"
    raise DownloadError(
      f"{wanted.repository} is unknown to {constants.ENDPOINT}, or private and {who}: "
      "check the spelling; for a private one log in by `hf auth login` or set HF_TOKEN."
    ) from error
  except errors.RevisionNotFoundError as error:
    raise DownloadError(
      f"{wanted.repository} has no revision {wanted.revision!r}; name a branch, tag or commit."
    ) from error
  except errors.HFValidationError as error:
    raise DownloadError(f"{wanted} is no repository's name: {error}") from error
  except errors.OfflineModeIsEnabled as error:
    raise DownloadError(
      f"cannot download {wanted}: HF_HUB_OFFLINE is set; unset it, or give a folder instead."
    ) from error
  except (errors.HTTPError, OSError, RuntimeError) as error:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise DownloadError(
      f"cannot download {wanted} from {constants.ENDPOINT} ({reason.rstrip('.')}); is there a "
      "network? Files that came whole are kept for the next run. Without a network, copy the "
      f"repository's {CONFIG_FILE} and {SAFETENSORS} into a folder and give the folder instead."
    ) from error


def _tensors(wanted: Wanted, names: Sequence[str]) -> list[str]:
  """Chooses the files that hold the tensors: safetensors, whole or in shards, else one pickle."""
  if CONFIG_FILE not in names:
    raise WeightsError(
      f"{wanted} has no {CONFIG_FILE}, so it is no network as transformers saves it; it has "
      f"{sorted(names)}."
    )
  if SAFETENSORS in names:
    return [SAFETENSORS]
  if INDEX in names:
    shards = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    return [INDEX, *shards]
  if PICKLE in names:  # read without running it
    return [PICKLE]
  raise WeightsError(
    f"{wanted} must have {SAFETENSORS} (or {INDEX} and its shards, or one {PICKLE}), got "
    f"{sorted(names)}; other formats are not read: save it anew with transformers' save_pretrained."
  )


def _check_description(directory: pathlib.Path, wanted: Wanted) -> None:
  try:
    description = json.loads((directory / CONFIG_FILE).read_bytes())
    if not isinstance(description, dict) or not is_published(description):
      raise WeightsError("it must be an object with a model_type.")
    image_config(description)
  except ValueError as error:  # WeightsError is one
    raise WeightsError(f"{wanted} is not downloaded, {CONFIG_FILE}: {error}") from error
