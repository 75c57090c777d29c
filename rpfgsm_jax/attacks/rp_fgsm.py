"""RP-FGSM: one randomly drawn classifier and one randomly drawn defense a signed gradient step.

Sanchez-Matilla, Li, Shamsabadi, Mazzon, Cavallaro, "Exploiting vulnerabilities of deep neural
networks for privacy protection", IEEE Transactions on Multimedia, 2020.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.masking import TextureMasking
from rpfgsm_jax.attacks.schedule import Draw
from rpfgsm_jax.attacks.signed import SignedRecipe, run_signed
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import draw_target
from rpfgsm_jax.attacks.transfer import PLAIN, TransferOptions
from rpfgsm_jax.defenses.bank import DefenseBank, paper_bank
from rpfgsm_jax.models.embedder import Network
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import ArrayLike, Images, Key


@static_except("epsilon", "step_size", "gamma", "masking")
@dataclasses.dataclass(frozen=True, kw_only=True)
class RPFGSMConfig:
  """Settings of RP-FGSM; the defaults are the paper's (Sec. V-B).

  `epsilon`, `step_size` and `gamma` are data: they may be traced, swept and mapped without a new
  compilation, and may be one number or one an image; `epsilon` may also be one a pixel, of shape
  `(B, H, W, 1)` or `(B, H, W, 3)`. The numbers of `masking` are data too. The rest is static.
  """

  epsilon: ArrayLike = 16.0  # largest change, gray levels; a fraction is rounded down
  step_size: ArrayLike = 1.0  # change an iteration, whole gray levels >= 1
  gamma: ArrayLike = 0.99  # Eq. 17, in 0..1; larger: fewer candidate targets
  targeted: bool = False  # the untargeted variant is the stronger one in the paper
  num_steps: int | None = None  # N; None: K (ensemble: 1) times floor(min(1.25 eps, eps + 4))
  draw: Draw = "balanced"  # each classifier N / K times, shuffled; "iid": the text's plain draw
  classifier_choice: Literal["random", "ensemble"] = "random"  # ensemble: all K each iteration
  defenses: DefenseBank = dataclasses.field(default_factory=paper_bank)  # one drawn an iteration
  rounding: Rounding = "straight_through"  # backward rule of the defenses' roundings
  gray: bool = False  # one step for all channels of a pixel: brightness changes, color does not
  transfer: TransferOptions = PLAIN  # momentum and the like; all off
  masking: TextureMasking | None = None  # None: epsilon at every pixel; else less in smooth places
  random_start: bool = False  # begin anywhere in the ball, on whole gray levels, as PGD does
  micro_batch: int = 4  # images computed together; results are the same bits for the same value
  record_draws: bool = False  # put each iteration's draws into the result


def rp_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Network],
  config: RPFGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Protects images against the given classifiers, others, and the usual defenses.

  Sanchez-Matilla et al. (2020), Eq. 15-17. Untargeted, each iteration leaves the class that the
  drawn classifier itself predicts on the clean image; targeted, all approach one class drawn by
  Eq. 17 once per image. An `Embedder` leaves the features of the image, or approaches those of a
  target image.

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
    images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the networks' image_size.
    classifiers: K >= 1 networks of one image size; where a class is approached or given as label,
      of the same classes.
    config: settings; None: the paper's.
    image_ids: `(B,)` stable integers in 0..2^32-1; default 0..B-1.
    target: chosen classes, one or `(B,)`, instead of drawn ones, or an image `(H, W, 3)`, or one
      for each, whose class and features the networks are to see; only when targeted.
    label: classes to leave, one or `(B,)`, instead of the predicted ones; only when untargeted.

  Returns:
    The result; `adversarial` is integer-valued, in [0, 255], and within epsilon of `images`.

  Raises:
    ValueError: an argument breaks its rule; values are checked outside tracing.

  Note:
    Where Eq. 17 leaves no class, gamma is lowered for that image until one is left, and reported.
    The authors' release is targeted only, reuses one seed for all images and rounds to 8 bits by
    a different surrogate; this follows the paper.
  """
  config = inputs.config_or_default(config, RPFGSMConfig)
  _check_config(config)
  recipe = SignedRecipe(
    name="rp_fgsm",
    aim=draw_target if config.targeted else None,
    networks=config.classifier_choice,
    bank=config.defenses,
    draw=config.draw,
    rounding=config.rounding,
    gray=config.gray,
  )
  goal = {"image_ids": image_ids, "target": target, "label": label}
  return run_signed(recipe, key, images, classifiers, config, gamma=config.gamma, **goal)


def _check_config(config: RPFGSMConfig) -> None:
  if config.classifier_choice not in ("random", "ensemble"):
    raise ValueError(
      f"classifier_choice must be 'random' or 'ensemble', got {config.classifier_choice!r}."
    )
  inputs.check_bank("defenses", config.defenses, "no_defenses() has the identity alone")
