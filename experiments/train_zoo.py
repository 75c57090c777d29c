"""Trains the networks that the package bundles, or the paper's full-size ones, on class folders.

```
python experiments/train_zoo.py --data scenes25 --networks resnet18,alexnet --out weights/
```

`small` (128 px, reduced width) takes about half an hour a network on two CPU cores; `full` (224 px,
the paper's architectures) wants a GPU; `tune` goes on from `--init DIR`, at 112 and 128 px and a
low learning rate. `--width` and `--size` change a preset's network. A stopped run goes on with
`--resume`. Each network is written to `--out/NAME` as soon as it is usable and overwritten when it
gets better; NAME is the network's and what was changed, as in `resnet18-size160-robust4`.

Networks made to be attacked: `--robust 4` trains on views that one signed gradient step from a
random start has moved by up to 4 gray levels of 255. It tunes the bundled network, unless `--init`
or another preset says otherwise:

```
python experiments/train_zoo.py --data scenes25 --networks resnet18 --robust 4 --out weights/
```

Beside the paper's four `--networks` knows `efficientnet_lite0` to `efficientnet_lite4`, from
random weights or from converted ones, whose 1,000 classes make way for a new head:

```
rpfgsm convert efficientnet-lite0.pth --arch efficientnet_lite0 --classes imagenet.txt --out DIR
python experiments/train_zoo.py --data scenes25 --networks efficientnet_lite0 --preset tune \\
  --init DIR --teacher DIR --robust 4 --out weights/
```

With `--teacher` a moved view shall also have the features that the teacher has of the unmoved one:
of 1,280 numbers a photo the network forgets less than of one class.

A linear head for any class folders on a network that stays as it is, `--probe BACKBONE`, a ViT,
DINOv2, CLIP or ConvNeXt; `--out` is then the new classifier's folder:

```
python experiments/train_zoo.py --probe dinov2-small --layers 7,9,11 --norm plain \\
  --pooling class+mean --data scenes25 --out scenes25-dinov2
```
"""

import argparse
import json
import pathlib
import sys

if __name__ == "__main__":
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

_OF_TRAINING = (
  "networks", "preset", "init", "epochs", "width", "size", "robust", "teacher", "resume",
  "stop_epoch", "cache",
)  # fmt: skip
_OF_PROBES = ("layers", "pooling", "photos_per_class")
NAMES = ("resnet18", "resnet50", "alexnet", "densenet161")


def _numbers(text: str) -> tuple[int, ...]:
  try:
    return tuple(int(word) for word in text.split(","))
  except ValueError:
    raise argparse.ArgumentTypeError(f"must be whole numbers as in 7,9,11, got {text!r}") from None


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """Returns the options; ends the process with a message when they make no sense."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--data", type=pathlib.Path, required=True, help="DIR/{train,val}/CLASS/*")
  parser.add_argument("--out", type=pathlib.Path, required=True, help="one folder a network")
  parser.add_argument("--networks", default=",".join(NAMES), help="names, with commas between")
  parser.add_argument("--preset", help="small, full or tune (default: small; if robust, tune)")
  parser.add_argument(
    "--init", type=pathlib.Path,
    help="start from DIR/NAME, networks of the same shape, or from DIR itself; where classes are "
    "others, the head is new; for tune",
  )  # fmt: skip
  parser.add_argument("--epochs", type=int, help="instead of the preset's")
  parser.add_argument("--width", type=int, help="instead of the preset's; ResNets only")
  parser.add_argument("--size", type=int, help="pixels a side, instead of the preset's; all views")
  parser.add_argument(
    "--robust", type=float, metavar="LEVELS",
    help="train on views moved against the network by up to LEVELS gray levels",
  )  # fmt: skip
  parser.add_argument(
    "--teacher", type=pathlib.Path, metavar="DIR",
    help="also learn the features that this network of the same shape has of the unmoved views",
  )  # fmt: skip
  parser.add_argument(
    "--norm",
    help="of --robust: linf (default), LEVELS bound the change of each value, or l2, the root mean "
    "square of a view's; of --probe: final, plain or none, of each token",
  )  # fmt: skip
  parser.add_argument(
    "--probe", metavar="BACKBONE", help="fit a linear head on this frozen network: name or folder"
  )
  parser.add_argument(
    "--layers", type=_numbers, help="of the probe: blocks or stages, from 0, as in 7,9,11"
  )
  parser.add_argument("--pooling", help="of the probe: class, mean or class+mean")
  parser.add_argument("--photos-per-class", type=int, help="of the probe: so many at random")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--resume", action="store_true", help="go on from the checkpoints")
  parser.add_argument("--stop-epoch", type=int, help="end after so many epochs of each run")
  parser.add_argument("--cache", type=pathlib.Path, help="decoded photographs and checkpoints")
  from rpfgsm_jax import result_folder

  try:
    result_folder.check_words(sys.argv[1:] if arguments is None else arguments)
  except result_folder.FolderError as error:
    parser.error(str(error))
  options = parser.parse_args(arguments)
  _check(parser, options)
  return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
  for name in ("epochs", "stop_epoch", "width", "size", "photos_per_class"):
    value = getattr(options, name)
    if value is not None and value < 1:
      parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
  if options.robust is not None and not 0.0 < options.robust <= 255.0:
    parser.error(f"--robust must be above 0 and at most 255 gray levels, got {options.robust}.")
  if options.norm and options.robust is None and options.probe is None:
    parser.error("--norm says how --robust is measured, or what --probe reads; give both.")
  if options.norm and options.robust is not None and options.norm not in ("linf", "l2"):
    parser.error(f"--norm of --robust must be linf or l2, got {options.norm!r}.")
  others = _OF_PROBES if options.probe is None else _OF_TRAINING
  given = [name for name in others if getattr(options, name) != parser.get_default(name)]
  if given:
    words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    needs = "needs --probe BACKBONE" if options.probe is None else "does not go with --probe"
    parser.error(f"{words} {needs}.")
  if options.seed < 0:
    parser.error(f"--seed must not be negative, got {options.seed}.")


def main(arguments: list[str] | None = None) -> int:
  """Trains or fits what the command line asks for; returns the process's exit status."""
  options = parse(arguments)
  from experiments.training import probe, zoo  # import JAX: after runtime.prepare()
  from rpfgsm_jax import process

  try:
    with process.absent_devices_named():
      report = zoo.train_all(options) if options.probe is None else probe.fit_probe(options)
  except (ValueError, OSError, process.NoDeviceError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(json.dumps(report, indent=2))
  return 0


if __name__ == "__main__":
  from experiments import runtime

  runtime.prepare()
  sys.exit(main())
