"""PyTorch's side of a comparison: the same attack, as its authors run it and as well as we can.

Started by `sides.Side`; reads one JSON command a line and answers with one JSON line. Images are
`(B, 3, H, W)`, gray levels 0..255. The defenses do the same work as ours (JPEG in floats, straight
through its roundings); they are not exact to the pixel, and nothing but time is read from them.
"""

import functools
import itertools
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sides import OURS_BESIDE, SEEN, serve
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path[:0] = [str(OURS_BESIDE), str(OURS_BESIDE / "tests" / "oracles")]
from torchvision_models import import_torchvision

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
FAMILIES = (("identity", (0,)), ("requantize", range(1, 8)), ("median", (2, 3, 5)))
FAMILIES += (("jpeg", (25, 50, 75, 100)),)

MODERN = ("vit_s14", "convnext_tiny")

Gradient = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class TorchNetwork:
  """One of torchvision's networks on gray levels; `best`: prepared for input gradients alone."""

  def __init__(self, name: str, device: str, best: bool, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    self.dtype = dtype
    model = plain_model(name).eval()
    if best:
      fold(model)
      model = model.requires_grad_(False)
      if name not in MODERN:  # whose convolutions take ten times as long with channels last
        model = model.to(memory_format=torch.channels_last)
    self.model = model.to(device, dtype)
    shape = (1, 3, 1, 1)
    self.mean = torch.tensor(MEAN, device=device).reshape(shape)
    self.deviation = torch.tensor(DEVIATION, device=device).reshape(shape)

  def __call__(self, images: torch.Tensor) -> torch.Tensor:
    normalized = (images / 255.0 - self.mean) / self.deviation
    return self.model(normalized.to(self.dtype)).float()


def plain_model(name: str) -> torch.nn.Module:
  """One of torchvision's, or transformers' ViT-S/14 with a head, 365 classes, random weights."""
  models = import_torchvision().models
  if name != "vit_s14":
    return getattr(models, name)(weights=None, num_classes=365)
  import transformers

  config = transformers.Dinov2Config(
    hidden_size=384, num_attention_heads=6, image_size=224, num_labels=365
  )
  network = transformers.Dinov2ForImageClassification(config)

  class Logits(torch.nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
      return self.network(images).logits

  return Logits()


def fold(module: torch.nn.Module) -> None:
  """Merges each batch-norm that directly follows a convolution into it (our side does so too)."""
  children = list(module.named_children())
  for (name, child), (next_name, follower) in itertools.pairwise(children):
    if isinstance(child, torch.nn.Conv2d) and isinstance(follower, torch.nn.BatchNorm2d):
      setattr(module, name, fuse_conv_bn_eval(child, follower))
      setattr(module, next_name, torch.nn.Identity())
  for _, child in children:
    fold(child)


def straight_through(values: torch.Tensor) -> torch.Tensor:
  return values + (torch.round(values) - values).detach()


def requantize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
  levels = (2.0**bits - 1).reshape(-1, 1, 1, 1)
  return straight_through(images / 255.0 * levels) / levels * 255.0


def median(images: torch.Tensor, size: int) -> torch.Tensor:
  low, high = size // 2, size - 1 - size // 2
  padded = F.pad(images, (low, high, low, high), mode="replicate")
  windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
  return windows.kthvalue(size * size // 2 + 1, dim=-1).values


def jpeg(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
  device = images.device
  red, green, blue = images.unbind(1)
  luma = 0.299 * red + 0.587 * green + 0.114 * blue
  chroma = [128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)]
  scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
  planes = []
  for table, plane in ((LUMA, luma), (CHROMA, chroma[0]), (CHROMA, chroma[1])):
    small = plane if table is LUMA else F.avg_pool2d(plane[:, None], 2)[:, 0]
    steps = torch.tensor(table, device=device).reshape(1, 64) * scale.reshape(-1, 1) + 50
    steps = torch.clamp(torch.floor(steps / 100), 1, 255)[:, :, None, None]
    filters = dct_filters(device)
    levels = F.conv2d(small[:, None] - 128, filters, stride=8) / steps
    back = F.conv_transpose2d(straight_through(levels) * steps, filters, stride=8)
    back = back[:, 0] + 128
    if table is CHROMA:
      back = F.interpolate(back[:, None], scale_factor=2, mode="bilinear")[:, 0]
    planes.append(back)
  luma, blue_difference, red_difference = planes[0], planes[1] - 128, planes[2] - 128
  red, blue = luma + 1.402 * red_difference, luma + 1.772 * blue_difference
  green = luma - 0.34414 * blue_difference - 0.71414 * red_difference
  return straight_through(torch.clamp(torch.stack([red, green, blue], 1), 0, 255))


@functools.cache
def dct_filters(device: torch.device) -> torch.Tensor:
  """The 64 cosines of a JPEG block as the filters of a convolution, `(64, 1, 8, 8)`."""
  k, n = np.arange(8)[:, None], np.arange(8)[None, :]
  basis = np.where(k == 0, np.sqrt(1 / 8), 0.5) * np.cos((2 * n + 1) * k * np.pi / 16)
  filters = np.einsum("ui,vj->uvij", basis, basis).reshape(64, 1, 8, 8)
  return torch.tensor(filters, dtype=torch.float32, device=device)


def defend(images: torch.Tensor, families: np.ndarray, parameters: np.ndarray) -> torch.Tensor:
  """Applies to each image its own member; those of one member go together."""
  parts, places = [], []

  def take(chosen: np.ndarray, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    if len(chosen):
      parts.append(change(images[torch.as_tensor(chosen, device=images.device)]))
      places.append(chosen)

  def parameter(chosen: np.ndarray) -> torch.Tensor:
    return torch.tensor(parameters[chosen], dtype=torch.float32, device=images.device)

  take(np.flatnonzero(families == 0), lambda x: x)
  chosen = np.flatnonzero(families == 1)
  take(chosen, lambda x: requantize(x, parameter(chosen)))
  for size in FAMILIES[2][1]:
    take(np.flatnonzero((families == 2) & (parameters == size)), lambda x, s=size: median(x, s))
  coded = np.flatnonzero(families == 3)
  take(coded, lambda x: jpeg(x, parameter(coded)))
  order = np.argsort(np.concatenate(places))
  joined = torch.cat(parts)[torch.as_tensor(order, device=images.device)]
  return joined.contiguous(memory_format=torch.channels_last)


def attack(
  networks: Sequence[TorchNetwork], images: torch.Tensor, steps: int, together: bool
) -> torch.Tensor:
  """RP-FGSM; `together`: all images at once, those of one network in one pass.

  In every iteration each network and each family of defenses gets its equal part of the images, so
  that tensors keep their shapes, for which libraries choose their fastest kernels.
  """
  count, device = len(images), images.device
  generator = np.random.default_rng(0)
  with torch.no_grad():
    labels = torch.stack([network(images).argmax(-1) for network in networks], 1)
  turns = np.arange(count)[:, None] + np.arange(steps)[None, :]
  drawn, families = turns % len(networks), turns // len(networks) % len(FAMILIES)
  parameters = np.vectorize(lambda f: generator.choice(FAMILIES[f][1]))(families)
  adversarial = images
  for step in range(steps):
    point = adversarial.detach().requires_grad_(True)
    defended = defend(point, families[:, step], parameters[:, step])
    loss = torch.zeros((), device=device)
    for index, network in enumerate(networks):
      chosen = torch.as_tensor(np.flatnonzero(drawn[:, step] == index), device=device)
      if len(chosen):
        logits = network(defended[chosen])
        loss = loss + F.cross_entropy(logits, labels[chosen, index], reduction="sum")
    if together:
      (gradient,) = torch.autograd.grad(loss, point)
    else:
      loss.backward()  # as the authors do: the gradients of all weights come along
      gradient = point.grad
    moved = adversarial + gradient.sign()
    moved = torch.minimum(torch.maximum(moved, images - 16), images + 16)
    adversarial = torch.clamp(moved, 0, 255)
  return adversarial


def timed(function: Callable[[], torch.Tensor]) -> float:
  start = time.perf_counter()
  float(function().detach().sum())  # waits for a GPU
  return time.perf_counter() - start


def pictures(count: int, device: str) -> torch.Tensor:
  values = np.random.default_rng(0).integers(0, 256, (count, 3, 224, 224))
  images = torch.tensor(values, dtype=torch.float32, device=device)
  return images.contiguous(memory_format=torch.channels_last)


def main() -> None:
  """Serves commands: setup, peak, gradient, defense, attack."""
  state: dict = {"networks": {}}

  def setup(*, device: str = "cpu", precision: str = "float32", threads: int | None = None) -> dict:
    state.update(device=device, precision=precision)
    if threads:
      torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}

  def dtype() -> torch.dtype:
    return torch.bfloat16 if state["precision"] == "bfloat16" else torch.float32

  def network(name: str, best: bool) -> TorchNetwork:
    if (name, best) not in state["networks"]:
      state["networks"][name, best] = TorchNetwork(name, state["device"], best, dtype())
    return state["networks"][name, best]

  def peak(*, size: int) -> dict:
    a, b = (torch.randn(size, size, device=state["device"], dtype=dtype()) for _ in range(2))
    seconds = min(timed(lambda: a @ b) for _ in range(5))
    return {"seconds": seconds, "gflops": 2 * size**3 / seconds / 1e9}

  def gradient(*, name: str, batch: int, repeats: int) -> dict:
    images, chosen = pictures(batch, state["device"]), network(name, True)
    labels = torch.zeros(batch, dtype=torch.long, device=state["device"])

    def once() -> torch.Tensor:
      moved = images
      for _ in range(repeats):
        point = moved.detach().requires_grad_(True)
        loss = F.cross_entropy(chosen(point), labels, reduction="sum")
        moved = moved + torch.autograd.grad(loss, point)[0].sign()
      return moved

    return {"seconds": timed(once) / repeats}

  def defense(*, family: str, parameter: float, batch: int) -> dict:
    index = [name for name, _ in FAMILIES].index(family)
    images = pictures(batch, state["device"])

    def once() -> torch.Tensor:
      point = images.detach().requires_grad_(True)
      out = defend(point, np.full(batch, index), np.full(batch, parameter))
      return torch.autograd.grad(out.sum(), point)[0]

    return {"seconds": timed(once)}

  def whole_attack(*, batch: int, steps: int, best: bool) -> dict:
    networks, images = [network(name, best) for name in SEEN], pictures(batch, state["device"])
    groups = [images] if best else images.split(1)
    return {"seconds": timed(lambda: torch.cat([attack(networks, x, steps, best) for x in groups]))}

  commands = {"setup": setup, "peak": peak, "gradient": gradient, "defense": defense}
  serve({**commands, "attack": whole_attack})


if __name__ == "__main__":
  main()
