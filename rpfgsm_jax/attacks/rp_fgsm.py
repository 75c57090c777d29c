"""RP-FGSM: one randomly drawn classifier and one randomly drawn defense a signed gradient step.

Sanchez-Matilla, Li, Shamsabadi, Mazzon, Cavallaro, "Exploiting vulnerabilities of deep neural
networks for privacy protection", IEEE Transactions on Multimedia, 2020.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.schedule import Draw, Draws, draw_schedule
from rpfgsm_jax.attacks.steps import (
  AttackResult,
  clean_logits,
  iterations_for,
  signed_gradient_attack,
)
from rpfgsm_jax.attacks.targets import draw_target
from rpfgsm_jax.defenses.bank import DefenseBank, paper_bank
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.rounding import Rounding, check_rounding
from rpfgsm_jax.typing import Array, ArrayLike, Images, Key


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["epsilon", "step_size", "gamma"],
  meta_fields=[
    "targeted",
    "num_steps",
    "draw",
    "classifier_choice",
    "defenses",
    "rounding",
    "micro_batch",
    "record_draws",
  ],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class RPFGSMConfig:
  """Settings of RP-FGSM; the defaults are the paper's (Sec. V-B).

  `epsilon`, `step_size` and `gamma` are data: they may be traced, swept and mapped without a new
  compilation, and may be one number or one an image. The rest is static.
  """

  epsilon: ArrayLike = 16.0  # largest change, grey levels; a fraction is rounded down
  step_size: ArrayLike = 1.0  # change an iteration, whole grey levels >= 1
  gamma: ArrayLike = 0.99  # Eq. 17, in 0..1; larger: fewer candidate targets
  targeted: bool = False  # the untargeted variant is the stronger one in the paper
  num_steps: int | None = None  # N; None: K (ensemble: 1) times floor(min(1.25 eps, eps + 4))
  draw: Draw = "balanced"  # each classifier N / K times, shuffled; "iid": the text's plain draw
  classifier_choice: Literal["random", "ensemble"] = "random"  # ensemble: all K each iteration
  defenses: DefenseBank = dataclasses.field(default_factory=paper_bank)
  rounding: Rounding = "straight_through"  # backward rule of the defenses' roundings
  micro_batch: int = 4  # images computed together; results are the same bits for the same value
  record_draws: bool = False  # put each iteration's draws into the result


def rp_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: RPFGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Protects images against the given classifiers, others, and the usual defenses.

  Sanchez-Matilla et al. (2020), Eq. 15-17. Untargeted, each iteration leaves the class that the
  drawn classifier itself predicts on the clean image; targeted, all approach one class drawn by
  Eq. 17 once per image.

  An image's result depends on the key, its id, the image, the classifiers, the config and the
  device, never on batch mates or its place. It costs one gradient pass of one network per image
  and iteration. Jitted; also works under `jax.jit`, `jax.vmap` (over key, images, image_ids and the
  config's data, at the price of one larger batch) and `jax.shard_map` (pass `image_ids` there).

  Example:
    >>> nets = [rp.load_classifier(f"scenes25/{n}") for n in ("resnet18", "resnet50", "alexnet")]
    >>> result = rp.rp_fgsm(jax.random.key(0), images, nets, rp.RPFGSMConfig(epsilon=16.0))
    >>> float(abs(result.adversarial - images).max())
    16.0

  Args:
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: `(B, H, W, 3)`, whole grey levels 0..255, any real dtype, of the networks' image_size.
    classifiers: K >= 1 networks with the same classes and image size.
    config: settings; None: the paper's.
    image_ids: `(B,)` stable integers in 0..2^32-1; default 0..B-1.
    target: chosen classes, one or `(B,)`, instead of drawn ones; only when targeted.
    label: classes to leave, one or `(B,)`, instead of the predicted ones; only when untargeted.

  Returns:
    The result; `adversarial` is integer-valued, in [0, 255], and within epsilon of `images`.

  Raises:
    ValueError: an argument breaks its rule; values are checked where they are known (outside
      tracing).

  Note:
    Where Eq. 17 leaves no class, gamma is lowered for that image until one is left, and reported.
    The authors' release is targeted only, reuses one seed for all images and rounds to 8 bits by
    a different surrogate; this follows the paper.
  """
  config = RPFGSMConfig() if config is None else config
  classifiers = inputs.check_classifiers(classifiers)
  images = inputs.check_images(images, classifiers)
  _check_config(config)
  _check_choice(config, target, label, classifiers)
  batch, num_classes = images.shape[0], len(classifiers[0].class_names)
  config = dataclasses.replace(
    config,
    epsilon=inputs.per_image("epsilon", config.epsilon, batch),
    step_size=inputs.per_image("step_size", config.step_size, batch),
    gamma=inputs.per_image("gamma", config.gamma, batch),
    num_steps=_resolve_num_steps(config, len(classifiers)),
  )
  image_ids = inputs.check_image_ids(image_ids, batch)
  chosen = target if config.targeted else label
  if chosen is not None:
    name = "target" if config.targeted else "label"
    chosen = inputs.check_labels(name, chosen, batch, num_classes)
  return _rp_fgsm(key, images, classifiers, config, image_ids, chosen)


@jax.jit
def _rp_fgsm(
  key: Key,
  images: Images,
  classifiers: tuple[Classifier, ...],
  config: RPFGSMConfig,
  image_ids: Array,
  chosen: Array | None,
) -> AttackResult:
  def draw_image(image_id: Array) -> tuple[Key, Draws]:
    key_target, key_schedule = jax.random.split(jax.random.fold_in(key, image_id))
    return key_target, draw_schedule(
      key_schedule, config.num_steps, len(classifiers), config.defenses, config.draw
    )

  key_target, draws = jax.vmap(draw_image)(image_ids)
  target, gamma = jnp.full(images.shape[:1], -1, jnp.int32), None
  if chosen is not None:
    labels = jnp.broadcast_to(chosen[:, None], (images.shape[0], len(classifiers)))
    target = chosen if config.targeted else target
  else:
    logits = clean_logits(classifiers, images, config.micro_batch)
    if config.targeted:
      target, gamma = jax.vmap(draw_target)(key_target, logits, config.gamma)
      labels = jnp.broadcast_to(target[:, None], logits.shape[:2])
    else:
      labels = jnp.argmax(logits, axis=-1).astype(jnp.int32)

  adversarial = signed_gradient_attack(
    classifiers,
    images,
    labels,
    draws,
    direction=-1.0 if config.targeted else 1.0,
    epsilon=jnp.floor(config.epsilon),  # the whole grey levels inside the ball
    step_size=config.step_size,
    bank=config.defenses,
    rounding=config.rounding,
    ensemble=config.classifier_choice == "ensemble",
    micro_batch=config.micro_batch,
  )
  return AttackResult(
    adversarial=adversarial,
    target=target,
    gamma=gamma,
    draws=draws if config.record_draws else None,
  )


def _resolve_num_steps(config: RPFGSMConfig, num_classifiers: int) -> int:
  if config.num_steps is not None:
    return config.num_steps
  epsilon = inputs.known(config.epsilon)
  if epsilon is None:
    raise ValueError(
      "num_steps must be given when epsilon is traced (N is a shape); for eps = 16 and three "
      "classifiers the paper's is num_steps=60."
    )
  passes = iterations_for(float(np.max(epsilon, initial=0.0)))
  return passes * (1 if config.classifier_choice == "ensemble" else num_classifiers)


def _check_config(config: RPFGSMConfig) -> None:
  check_rounding(config.rounding)
  if config.draw not in ("balanced", "iid"):
    raise ValueError(f"draw must be 'balanced' or 'iid', got {config.draw!r}.")
  if config.classifier_choice not in ("random", "ensemble"):
    raise ValueError(
      f"classifier_choice must be 'random' or 'ensemble', got {config.classifier_choice!r}."
    )
  for name, least in (("num_steps", 0), ("micro_batch", 1)):
    value = getattr(config, name)
    optional = name == "num_steps" and value is None
    if not optional and (isinstance(value, bool) or not isinstance(value, int) or value < least):
      raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")
  if not isinstance(config.defenses, DefenseBank) or not config.defenses.families:
    raise ValueError(
      f"defenses must be a DefenseBank with at least one family, got {config.defenses!r}; "
      "no_defenses() has the identity alone."
    )
  epsilon, step_size, gamma = map(inputs.known, (config.epsilon, config.step_size, config.gamma))
  if epsilon is not None and not np.all((epsilon >= 0) & np.isfinite(epsilon)):
    raise ValueError(f"epsilon must be >= 0 grey levels and finite, got {epsilon}.")
  if step_size is not None and not np.all((step_size >= 1) & (step_size == np.rint(step_size))):
    raise ValueError(
      f"step_size must be whole grey levels >= 1, got {step_size}; "
      "a fraction would leave the 8-bit grid."
    )
  if gamma is not None and not np.all((gamma >= 0) & (gamma <= 1)):
    raise ValueError(f"gamma must be a probability in 0..1, got {gamma}.")


def _check_choice(
  config: RPFGSMConfig,
  target: ArrayLike | None,
  label: ArrayLike | None,
  classifiers: tuple[Classifier, ...],
) -> None:
  if config.targeted and label is not None:
    raise ValueError(
      "label is for the untargeted attack; with targeted=True give a target, or none."
    )
  if not config.targeted and target is not None:
    raise ValueError(
      "target needs targeted=True in the config; the untargeted attack takes a label."
    )
  num_classes = len(classifiers[0].class_names)
  if config.targeted and target is None and num_classes <= len(classifiers):
    raise ValueError(
      f"a target can only be drawn from more classes than networks, got {num_classes} classes and "
      f"{len(classifiers)} networks: every class may be some network's prediction; give a target."
    )
