"""EOT: a signed step behind one random transformation, held near the original in CIELAB."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.lab import lab_distance
from rpfgsm_jax.attacks.masking import TextureMasking
from rpfgsm_jax.attacks.signed import SignedRecipe, run_signed
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import draw_other
from rpfgsm_jax.attacks.transfer import PLAIN, TransferOptions
from rpfgsm_jax.defenses.bank import DefenseBank
from rpfgsm_jax.defenses.transforms import eot_bank
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Key


@static_except("epsilon", "step_size", "masking")
@dataclasses.dataclass(frozen=True, kw_only=True)
class EOTConfig:
  """Settings of EOT; the defaults are the paper's (Sec. V-B).

  `epsilon` and `step_size` are data, as in `RPFGSMConfig`; the rest is static.
  """

  epsilon: ArrayLike = 16.0  # largest change, gray levels; a fraction is rounded down
  step_size: ArrayLike = 1.0  # change an iteration, whole gray levels >= 1
  visual_weight: float = 0.5  # lambda of Eq. 12 for L in 0..1, >= 0; larger stays nearer
  transforms: DefenseBank = dataclasses.field(default_factory=eot_bank)  # one drawn an iteration
  num_steps: int | None = None  # N; None: floor(min(1.25 eps, eps + 4))
  transfer: TransferOptions = PLAIN  # momentum and the like; all off
  masking: TextureMasking | None = None  # None: epsilon at every pixel; else less in smooth places
  random_start: bool = False  # begin anywhere in the ball, on whole gray levels, as PGD does
  micro_batch: int = 4  # images computed together; results are the same bits for the same value
  record_draws: bool = False  # put each iteration's draws into the result


# Black to white is one unit of L in Eq. 12: see the note of `eot`.
_RANGE_OF_L = 100.0


@dataclasses.dataclass(frozen=True)
class _LabPenalty:
  """The second term of Eq. 12; equal weights are equal penalties, so nothing compiles anew."""

  weight: float

  def __call__(self, transformed: Images, transformed_original: Images) -> Array:
    return self.weight / _RANGE_OF_L * lab_distance(transformed, transformed_original)


def eot(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: EOTConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Approaches a random class of one network through random transformations, near the original.

  Athalye et al. (2018), "Synthesizing robust adversarial examples"; EOT, Eq. 12, in Sanchez-Matilla
  et al. (2020). Each iteration draws one transformation, uniformly and independently, and takes it
  for both the current and the original image: same amount, same noise.

  Example:
    >>> result = rp.eot(jax.random.key(0), images, [rp.load_classifier("scenes25/resnet50")])
    >>> int(result.gradient_evaluations[0])
    20

  Args:
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: see `u_fgsm`; three channels, red green blue.
    classifiers: one network.
    config: settings; None: the paper's, lambda = 0.5.
    image_ids: see `u_fgsm`.
    target: chosen classes, one or `(B,)`, instead of ones drawn from all that the network does not
      predict.
    label: not for this attack; must be None.

  Returns:
    See `u_fgsm`; `success` is judged on the untransformed image.

  Raises:
    ValueError: an argument breaks its rule.

  Note:
    As printed, the distance of Eq. 12 is between two copies of one term, and so zero; the second is
    the transformed original, as in the sentence before it. That sentence cites Ruderman's
    l-alpha-beta for "Lab"; Athalye et al. have CIELAB, and so has this. The unit is not given: here
    L runs from 0 to 1, a and b in proportion, of a size with Ruderman's logarithms. On 50 photos
    and one bundled network lambda = 0.5 then changes 82% of the predictions (the paper: about 90%);
    with L from 0 to 100 it changes 8%. Signed steps inside the eps-ball are the paper's; Athalye et
    al. bound nothing but the distance.
  """
  config = inputs.config_or_default(config, EOTConfig)
  _check_config(config)
  recipe = SignedRecipe(
    name="eot",
    aim=draw_other,
    bank=config.transforms,
    penalty=_LabPenalty(float(config.visual_weight)) if config.visual_weight else None,
    draw="iid",
  )
  return run_signed(
    recipe, key, images, classifiers, config, image_ids=image_ids, target=target, label=label
  )


def _check_config(config: EOTConfig) -> None:
  weight = config.visual_weight
  number = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
  if not number or not 0 <= weight < math.inf:
    raise ValueError(
      f"visual_weight must be a finite number >= 0, got {weight!r}; it is static: no array."
    )
  inputs.check_bank("transforms", config.transforms, "eot_bank() has the paper's six")
