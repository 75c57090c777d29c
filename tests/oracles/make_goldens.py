"""Writes `tests/golden/*.npz`: what torchvision's and timm's networks say, for tests without torch.

    python tests/oracles/make_goldens.py

needs torch, torchvision and timm (`make test-oracles` installs them) and takes about a minute. The
models compute in float64 here: the files hold the function itself, not one machine's rounding;
`tests/models/test_parity_oracle.py` checks the files, and compares with torchvision in float32.
"""

import pathlib
import sys
from typing import Any

import numpy as np

if __name__ == "__main__":
  _root = pathlib.Path(__file__).resolve().parents[2]
  sys.path[:0] = [str(_root), str(_root / "tests")]

from oracles import parity
from oracles.torchvision_models import load


def run_torch(
  arch: str, images: np.ndarray, *, double: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Returns what `parity.run_module` does, computed by torchvision or timm.

  Args:
    arch: one of `parity.ARCHITECTURES`.
    images: `(2, H, W, 3)`, gray levels.
    double: float64 instead of float32.

  Returns:
    Our stage name -> output, channels last, in forward order, "logits" behind them; and the
    gradient of the summed cross-entropy in gray levels, shaped like `images`.
  """
  import torch

  kind = torch.float64 if double else torch.float32
  model = load(arch, parity.SEED)
  weights = {name: torch.from_numpy(array) for name, array in parity.torch_weights(arch).items()}
  missing, unexpected = model.load_state_dict(weights, strict=False)
  assert not unexpected
  assert all(name.endswith("num_batches_tracked") for name in missing)
  model = model.to(kind)
  outputs: dict[str, np.ndarray] = {}
  for ours, theirs in parity.TORCH_STAGES[arch].items():
    model.get_submodule(theirs).register_forward_hook(_recorder(outputs, ours))
  gray = torch.tensor(images.transpose(0, 3, 1, 2), dtype=kind, requires_grad=True)
  mean, deviation = (
    torch.tensor(each, dtype=kind).reshape(1, 3, 1, 1) for each in (parity.MEAN, parity.DEVIATION)
  )
  logits = model((gray / 255.0 - mean) / deviation)
  labels = torch.from_numpy(parity.LABELS).long()
  torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
  outputs["logits"] = logits.detach().numpy()
  return outputs, gray.grad.numpy().transpose(0, 2, 3, 1)


def _recorder(outputs: dict[str, np.ndarray], name: str) -> Any:
  def record(module: Any, inputs: Any, output: Any) -> None:
    # A copy, because the next layer may work in place.
    value = output.detach().numpy().copy()
    outputs[name] = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value

  return record


def golden(arch: str) -> dict[str, np.ndarray]:
  """Returns the arrays of one golden file.

  Entries: `logits`; `shape/`, `norm/` and `sample/` of each stage, the logits and the gradient; and
  `learnable`, the number of learnable parameters.
  """
  outputs, gradient = run_torch(arch, parity.pictures(arch), double=True)
  arrays: dict[str, Any] = {"logits": outputs["logits"].astype(np.float32)}
  arrays["learnable"] = sum(parameter.numel() for parameter in load(arch, 0).parameters())
  for name, value in [*outputs.items(), ("gradient", gradient)]:
    count = parity.GRADIENT_SAMPLES if name == "gradient" else parity.STAGE_SAMPLES
    arrays[f"shape/{name}"] = np.array(value.shape)
    arrays[f"norm/{name}"] = parity.norm(value)
    arrays[f"sample/{name}"] = parity.sample(value, name, count).astype(np.float32)
  return arrays


def main() -> None:
  """Writes the files."""
  parity.GOLDEN.mkdir(exist_ok=True)
  for arch in parity.TORCH_STAGES:
    arrays = golden(arch)
    path = parity.GOLDEN / f"{arch}.npz"
    np.savez_compressed(path, **arrays)
    largest = float(np.abs(arrays["logits"]).max())
    norm = float(arrays["norm/gradient"])
    print(f"{path.name}: {path.stat().st_size} bytes, logits to {largest:.2f}, gradient {norm:.3g}")


if __name__ == "__main__":
  main()
