"""CW: a small L2 perturbation that reaches a target class, by Adam and a search for the weight.

Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017: the L2
attack.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rpfgsm_jax.attacks import inputs, minimal
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.rows import run_rows_until
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import likely_classes
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Integers, Key, Labels

_BUDGETS = {
  "quick": {"search_steps": 5, "num_steps": 200, "initial_c": 1.0},
  "paper": {"search_steps": 9, "num_steps": 10_000, "initial_c": 1e-3},
}
_INSIDE = 0.999999  # of the box, so that arctanh is finite at black and white
_NO_UPPER = 1e10  # no weight has succeeded yet
_LOOKS = 10  # at the progress, in a search step: Carlini's early abort
_LEAST_BETWEEN_LOOKS = 100  # steps; Adam's first ones raise the loss whatever the weight
_PROGRESS = 0.9999


@static_except()
@dataclasses.dataclass(frozen=True, kw_only=True)
class CWConfig:
  """Settings of CW-L2; the defaults are its authors' but for the budget. Static.

  The authors' own budget, 9 x 10,000 gradients an image from c = 0.001, is `budget="paper"`; so
  small a first weight wastes a small budget.
  """

  budget: minimal.Budget = "quick"  # search_steps x num_steps: quick 5 x 200, paper 9 x 10,000
  search_steps: int | None = None  # weights tried in the binary search; None: the budget's
  num_steps: int | None = None  # of Adam, for each weight; None: the budget's. 0 returns the images
  initial_c: float | None = None  # first weight of the goal; None: quick 1, paper 0.001
  learning_rate: float = 0.01  # of Adam, in the tanh of a box of side 1
  confidence: float = 0.0  # kappa, logits by which the target must lead
  abort_early: bool = True  # end a search step when a tenth of it (at least 100) brought nothing
  quantize: bool = True  # round to whole gray levels; mostly undoes so small a perturbation
  micro_batch: int = 4  # images computed together; results are the same bits for the same value


def cw(
  key: Key,
  images: ArrayLike,
  classifiers: Sequence[Classifier],
  config: CWConfig | None = None,
  *,
  image_ids: Integers | None = None,
  target: Integers | None = None,
  label: Integers | None = None,
) -> AttackResult:
  """Approaches the second most likely class of one network by a small L2 perturbation.

  Carlini and Wagner (2017), Sec. VI; the target is that of Sanchez-Matilla et al. (2020), Sec. V-A.
  Minimizes `c max(max of the other logits - target's logit + kappa, 0) + |x' - x|^2` over images in
  0..1 for each weight c of a binary search, and keeps the nearest image that reached the target.

  Example:
    >>> config = rp.CWConfig(budget="quick", quantize=False)
    >>> result = rp.cw(key, images, [rp.load_classifier("scenes25/resnet50")], config)

  Args:
    key: unused; CW draws nothing.
    images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the network's image_size.
    classifiers: one network.
    config: settings; None: the defaults.
    image_ids: unused.
    target: chosen classes, one or `(B,)`, instead of the second most likely ones. An image whose
      prediction is its target already is returned as it is, without success.
    label: not for this attack; must be None.

  Returns:
    The result; where no weight led to the target, the image itself.

  Raises:
    ValueError: an argument breaks its rule.
  """
  del key
  config = _resolved(inputs.config_or_default(config, CWConfig))
  goal: dict[str, Any] = {
    "image_ids": image_ids,
    "target": target,
    "label": label,
    "targeted": True,
  }
  return minimal.run_minimal("cw", _cw, images, classifiers, config, **goal)


@jax.jit
def _cw(begin: minimal.Start, config: Any) -> tuple[Images, Labels, Array, Array]:
  approach = likely_classes(begin.logits, 2)[:, 1] if begin.chosen is None else begin.chosen
  batch, images = len(approach), begin.images
  adam = optax.adam(config.learning_rate)
  state = {
    "change": jnp.zeros_like(images),
    "adam": jax.vmap(adam.init)(jnp.zeros_like(images)),
    "best": images,
    "distance": jnp.full(batch, jnp.inf),
    "c": jnp.full(batch, config.initial_c),
    "lower": jnp.zeros(batch),
    "upper": jnp.full(batch, _NO_UPPER),
    "reached": jnp.zeros(batch, bool),  # in this search step
    "earlier_loss": jnp.full(batch, jnp.inf),
    "step": jnp.zeros(batch, jnp.int32),
    "search": jnp.zeros(batch, jnp.int32),
    "evaluations": jnp.zeros(batch, jnp.int32),
    "slopes": jnp.zeros(batch, jnp.float32),
  }
  done = begin.predicted == approach
  state["search"] = jnp.where(done | (config.num_steps == 0), config.search_steps, state["search"])
  constants = {"image": images, "target": approach}

  def choose(state: Any, row: Any, step: Array) -> Array:
    del row, step
    return jnp.where(state["search"] >= config.search_steps, 1, 0)

  def advance(branch: Array, classifier: Classifier, state: Any, row: Any, step: Array) -> Any:
    del branch, step
    return _search(config, *_adam_step(config, adam, classifier, state, row))

  state = run_rows_until(advance, 1, begin.classifier, state, constants, choose, config.micro_batch)
  return state["best"], approach, state["evaluations"], state["slopes"]


def _adam_step(
  config: Any, adam: optax.GradientTransformation, classifier: Classifier, state: Any, row: Any
) -> tuple[Any, Array]:
  """Returns the state after one step of Adam, and the loss before it, `(m,)`."""
  box = row["image"] / 255.0
  center = jnp.arctanh((2 * box - 1) * _INSIDE)
  own = jax.nn.one_hot(row["target"], len(classifier.class_names), dtype=jnp.bool_)

  def goal_of(point: Images) -> tuple[Array, tuple[Array, Array]]:
    logits = classifier(255.0 * point)
    lead = jnp.max(jnp.where(own, logits, -jnp.inf), axis=-1) - jnp.max(
      jnp.where(own, -jnp.inf, logits), axis=-1
    )
    goal = state["c"] * jax.nn.relu(config.confidence - lead)
    return jnp.sum(goal), (goal, lead)

  point, pull_back = jax.vjp(lambda change: (jnp.tanh(center + change) + 1) / 2, state["change"])
  (_, (goal, lead)), of_goal = jax.value_and_grad(goal_of, has_aux=True)(point)
  distance = jnp.sum((point - box) ** 2, axis=(1, 2, 3))
  loss = goal + distance
  gradient = pull_back(of_goal + 2 * (point - box))[0]
  with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
    updates, memory = jax.vmap(adam.update)(gradient, state["adam"])
  reached = lead > config.confidence
  better = reached & (distance < state["distance"])
  new = state | {
    "change": state["change"] + updates,
    "adam": memory,
    "best": jnp.where(minimal.per_row(better, point), 255.0 * point, state["best"]),
    "distance": jnp.where(better, distance, state["distance"]),
    "reached": state["reached"] | reached,
    "step": state["step"] + 1,
    "evaluations": state["evaluations"] + 1,
    "slopes": state["slopes"] + minimal.slopes_of(of_goal),
  }
  return new, loss


def _search(config: Any, state: Any, loss: Array) -> Any:
  """Begins the next search step, with another weight, for the rows that ended theirs."""
  ended = state["step"] >= config.num_steps
  earlier = state["earlier_loss"]
  if config.abort_early:
    # Carlini looks at the steps 0, N / 10, 2 N / 10, ... of a batch; here each image for itself.
    between = max(config.num_steps // _LOOKS, _LEAST_BETWEEN_LOOKS)
    looks = (state["step"] - 1) % between == 0
    ended |= looks & (loss > _PROGRESS * earlier)
    earlier = jnp.where(looks, loss, earlier)
  reached, c = state["reached"], state["c"]
  upper = jnp.where(ended & reached, jnp.minimum(state["upper"], c), state["upper"])
  lower = jnp.where(ended & ~reached, jnp.maximum(state["lower"], c), state["lower"])
  next_c = jnp.where(upper < _NO_UPPER, (lower + upper) / 2, 10 * c)
  fresh = {"change": state["change"], "adam": state["adam"]}
  fresh = jax.tree.map(
    lambda leaf: jnp.where(minimal.per_row(ended, leaf), jnp.zeros_like(leaf), leaf), fresh
  )
  return (
    state
    | fresh
    | {
      "c": jnp.where(ended, next_c, c),
      "lower": lower,
      "upper": upper,
      "reached": reached & ~ended,
      "earlier_loss": jnp.where(ended, jnp.inf, earlier),
      "step": jnp.where(ended, 0, state["step"]),
      "search": state["search"] + ended.astype(jnp.int32),
    }
  )


def _resolved(config: CWConfig) -> CWConfig:
  """Returns the config with the budget's numbers filled in, checked."""
  config = minimal.with_budget(config, _BUDGETS)
  config = inputs.with_counts(config, search_steps=1, num_steps=0, micro_batch=1)
  for name in ("initial_c", "learning_rate"):
    if not getattr(config, name) > 0:
      raise ValueError(f"{name} must be > 0, got {getattr(config, name)!r}.")
  if not config.confidence >= 0:
    raise ValueError(f"confidence must be >= 0 logits, got {config.confidence!r}.")
  return config
