"""Converts a public Places365 checkpoint (PyTorch, `.pth.tar`) into a folder of ours.

The files come from http://places2.csail.mit.edu/models_places365/<arch>_places365.pth.tar; torch is
not needed, and no code in the file is run. With a network, `rpfgsm weights fetch places365` does
both, download and conversion.

```
python converters/places365.py resnet18_places365.pth.tar --arch resnet18 --out places365/resnet18
```
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rpfgsm_jax import process, result_folder
from rpfgsm_jax.data.classes import places365_class_names
from rpfgsm_jax.models.architectures import PAPER
from rpfgsm_jax.models.checkpoint import CheckpointError
from rpfgsm_jax.models.convert import convert_checkpoint
from rpfgsm_jax.models.fetch import PLACES365_ADDRESS, PLACES365_CARD, PLACES365_FILES


def main(arguments: Sequence[str] | None = None) -> int:
  """Converts one file.

  Args:
    arguments: the command line without the program's name; `None` takes it from the system.

  Returns:
    The exit code: 0 done, 1 failed.
  """
  parser = argparse.ArgumentParser(description="Places365 checkpoint -> network folder")
  parser.add_argument("file", type=pathlib.Path)
  parser.add_argument("--arch", required=True, choices=list(PAPER))
  parser.add_argument("--out", required=True, type=pathlib.Path)
  try:
    result_folder.check_words(sys.argv[1:] if arguments is None else arguments)
  except result_folder.FolderError as error:
    parser.error(str(error))
  chosen = parser.parse_args(arguments)
  process.write_anything()
  source = f"{PLACES365_ADDRESS}/{PLACES365_FILES[chosen.arch]}"
  try:
    with process.absent_devices_named():
      convert_checkpoint(
        chosen.file,
        chosen.out,
        PAPER[chosen.arch],
        class_names=places365_class_names(),
        card={"source": source} | PLACES365_CARD,
      )
  except (CheckpointError, OSError, process.NoDeviceError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(f"{chosen.out}: {chosen.arch}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
