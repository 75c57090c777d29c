"""Downloads LIVE's BRISQUE model, which its notice allows to use but which is not bundled."""

import pathlib

from rpfgsm_jax.models.convert import sha256
from rpfgsm_jax.models.fetch import DownloadError, Progress, cache_for_downloads, download
from rpfgsm_jax.quality.brisque import MODEL_FILE, RANGE_FILE

ADDRESS = "https://raw.githubusercontent.com/utlive/BRISQUE/master/MATLAB"
DIGESTS = {
  RANGE_FILE: "e47d753d96b631e1aa2dbac8c4e51ade767f2def8ce678c7130b6b3f90ee915f",
  MODEL_FILE: "8b04d6045f1b27261610c8ab1730fdcc14ec80bfab0f1ab5f703bbc2927314de",
}
"""SHA-256 of the release's files."""


def fetch_brisque_model(
  *,
  address: str = ADDRESS,
  attempts: int = 3,
  pause: float = 1.0,
  progress: Progress | None = None,
) -> pathlib.Path:
  """Downloads the model's two files into the user's cache; files that are there already stay.

  Mittal, Moorthy, Bovik, "BRISQUE Software Release" (2011); whoever reports scores is to cite it.
  """
  folder = cache_for_downloads() / "brisque"
  for name, digest in DIGESTS.items():
    path = folder / name
    if path.is_file() and sha256(path) == digest:
      continue
    # Downloaded under another name: a wrong file must never be taken for the model.
    waiting = folder / f"{name}.unchecked"
    came = download(f"{address}/{name}", waiting, attempts=attempts, pause=pause, progress=progress)
    waiting.with_name(f"{waiting.name}.sha256").unlink(missing_ok=True)
    if came != digest:
      waiting.unlink()
      raise DownloadError(
        f"{address}/{name} must have SHA-256 {digest}, got {came}; it is removed. Copy {name} of "
        f"LIVE's BRISQUE_release.zip into {folder} instead."
      )
    waiting.replace(path)
  return folder
