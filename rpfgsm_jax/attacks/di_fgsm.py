"""DI-FGSM: all networks at each iteration, every other time through a resized and padded image."""

import dataclasses
from collections.abc import Sequence

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.masking import TextureMasking
from rpfgsm_jax.attacks.signed import SignedRecipe, run_signed
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import draw_other
from rpfgsm_jax.attacks.transfer import PLAIN, TransferOptions
from rpfgsm_jax.defenses.bank import IDENTITY, DefenseBank
from rpfgsm_jax.defenses.transforms import INPUT_DIVERSITY
from rpfgsm_jax.models.embedder import Network
from rpfgsm_jax.typing import ArrayLike, Images, Key

# Two families drawn independently each iteration: a probability of one half.
_BANK = DefenseBank((IDENTITY, INPUT_DIVERSITY))
_UNTARGETED = SignedRecipe(name="di_fgsm", networks="ensemble", bank=_BANK, draw="iid")
_TARGETED = dataclasses.replace(_UNTARGETED, aim=draw_other)


@static_except("epsilon", "step_size", "masking")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DIFGSMConfig:
  """Settings of DI-FGSM; the defaults are the paper's (Sec. V-B), untargeted.

  `epsilon` and `step_size` are data, as in `RPFGSMConfig`; the rest is static.
  """

  epsilon: ArrayLike = 16.0  # largest change, gray levels; a fraction is rounded down
  step_size: ArrayLike = 1.0  # change an iteration, whole gray levels >= 1
  targeted: bool = False  # the paper has both
  num_steps: int | None = None  # N; None: floor(min(1.25 eps, eps + 4))
  transfer: TransferOptions = PLAIN  # momentum and the like; all off
  masking: TextureMasking | None = None  # None: epsilon at every pixel; else less in smooth places
  random_start: bool = False  # begin anywhere in the ball, on whole gray levels, as PGD does
  micro_batch: int = 4  # images computed together; results are the same bits for the same value
  record_draws: bool = False  # put each iteration's draws into the result


def di_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Network],
  config: DIFGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Attacks K networks at each iteration, with probability one half through input diversity.

  Xie et al. (2019), "Improving transferability of adversarial examples with input diversity";
  DI-FGSM in Sanchez-Matilla et al. (2020). Each iteration draws whether the image is resized (to
  200..224 of 224 pixels) and padded with black at a random place, once for all networks, whose
  gradients are summed: K gradients an iteration. Untargeted, each network leaves the class that it
  predicts itself; targeted, all approach one random class.

  Example:
    >>> nets = [rp.load_classifier(f"scenes25/{n}") for n in ("resnet18", "resnet50", "alexnet")]
    >>> result = rp.di_fgsm(jax.random.key(0), images, nets, rp.DIFGSMConfig(targeted=True))
    >>> int(result.gradient_evaluations[0])
    60

  Args:
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: see `u_fgsm`.
    classifiers: see `rp_fgsm`.
    config: settings; None: the paper's, untargeted.
    image_ids: see `u_fgsm`.
    target: chosen classes, one or `(B,)`, instead of ones drawn from all that no network predicts;
      only when targeted.
    label: classes to leave, one or `(B,)`, instead of the predicted ones; only when untargeted.

  Returns:
    See `u_fgsm`.

  Raises:
    ValueError: an argument breaks its rule.

  Note:
    Xie et al. enlarge 299 pixels to up to 330; Sanchez-Matilla et al. shrink, so that each network
    gets the size it was made for, and this follows them. What they leave open is chosen here: one
    draw serves all networks, networks add gradients (Eq. 13; Xie et al.: logits), interpolation is
    bilinear (their release takes the nearest pixel), and padding is black (theirs is mid-gray).
    Momentum, as in their M-DI-FGSM, is an option of `transfer`.
  """
  config = inputs.config_or_default(config, DIFGSMConfig)
  recipe = _TARGETED if config.targeted else _UNTARGETED
  goal = {"image_ids": image_ids, "target": target, "label": label}
  return run_signed(recipe, key, images, classifiers, config, **goal)
