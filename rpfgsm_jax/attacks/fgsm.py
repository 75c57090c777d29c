"""The iterative FGSM family: U-, R-, L-, P- and E-FGSM; they differ in the class they speak of.

All take signed steps of `step_size` inside the eps-ball, Sanchez-Matilla et al. (2020), Eq. 9-11,
from the image itself (no random start), N = floor(min(1.25 eps, eps + 4)) of them: 20 for eps = 16.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax

from rpfgsm_jax.attacks.signed import Recipe, run_signed
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import draw_other, draw_target, least_likely
from rpfgsm_jax.attacks.transfer import PLAIN, TransferOptions
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import ArrayLike, Images, Key

_U = Recipe(name="u_fgsm")
_R = Recipe(name="r_fgsm", aim=draw_other)
_L = Recipe(name="l_fgsm", aim=least_likely)
_P = Recipe(name="p_fgsm", aim=draw_target)
_E = Recipe(name="e_fgsm", aim=draw_other, networks="ensemble")


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["epsilon", "step_size", "gamma"],
  meta_fields=["num_steps", "transfer", "micro_batch", "record_draws"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSMConfig:
  """Settings of the iterative FGSM family; the defaults are the paper's (Sec. V-B).

  `epsilon`, `step_size` and `gamma` are data, as in `RPFGSMConfig`; the rest is static.
  """

  epsilon: ArrayLike = 16.0  # largest change, gray levels; a fraction is rounded down
  step_size: ArrayLike = 1.0  # change an iteration, whole gray levels >= 1
  gamma: ArrayLike = 0.99  # Eq. 17, in 0..1; only P-FGSM draws by it
  num_steps: int | None = None  # N; None: floor(min(1.25 eps, eps + 4))
  transfer: TransferOptions = PLAIN  # momentum and the like; all off
  micro_batch: int = 4  # images computed together; results are the same bits for the same value
  record_draws: bool = False  # put each iteration's draws into the result


def u_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: FGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Leaves the predicted class of one network: the basic iterative method, untargeted.

  Kurakin et al. (2017), "Adversarial examples in the physical world"; U-FGSM in Sanchez-Matilla et
  al. (2020).

  Example:
    >>> result = rp.u_fgsm(jax.random.key(0), images, [rp.load_classifier("scenes25/resnet50")])
    >>> int(result.gradient_evaluations[0])
    20

  Args:
    key: root key; unused unless a transformation is drawn.
    images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the network's image_size.
    classifiers: one network.
    config: settings; None: the paper's.
    image_ids: `(B,)` stable integers in 0..2^32-1; default 0..B-1.
    target: not for this attack; must be None.
    label: classes to leave, one or `(B,)`, instead of the predicted ones. The loop also runs where
      the network predicts another class already.

  Returns:
    The result; `adversarial` is integer-valued, in [0, 255], and within epsilon of `images`.

  Raises:
    ValueError: an argument breaks its rule.
  """
  config = FGSMConfig() if config is None else config
  return run_signed(
    _U, key, images, classifiers, config, image_ids=image_ids, target=target, label=label
  )


def r_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: FGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Approaches a class drawn from all that the network does not predict, on one network.

  Kurakin et al. (2017), "Adversarial machine learning at scale"; R-FGSM in Sanchez-Matilla et al.
  (2020). The true class may be drawn where the network was wrong.

  Args:
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: see `u_fgsm`.
    classifiers: one network.
    config: settings; None: the paper's.
    image_ids: see `u_fgsm`.
    target: chosen classes, one or `(B,)`, instead of drawn ones.
    label: not for this attack; must be None.

  Returns:
    See `u_fgsm`.

  Raises:
    ValueError: an argument breaks its rule.
  """
  config = FGSMConfig() if config is None else config
  return run_signed(
    _R, key, images, classifiers, config, image_ids=image_ids, target=target, label=label
  )


def l_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: FGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Approaches the least likely class of one network.

  Kurakin et al. (2017), "Adversarial examples in the physical world"; L-FGSM in Sanchez-Matilla et
  al. (2020). Whoever knows the attack can guess the original class from the protected image's.

  Args:
    key: root key; unused.
    images: see `u_fgsm`.
    classifiers: one network.
    config: settings; None: the paper's.
    image_ids: see `u_fgsm`.
    target: chosen classes, one or `(B,)`, instead of the least likely ones.
    label: not for this attack; must be None.

  Returns:
    See `u_fgsm`.

  Raises:
    ValueError: an argument breaks its rule.
  """
  config = FGSMConfig() if config is None else config
  return run_signed(
    _L, key, images, classifiers, config, image_ids=image_ids, target=target, label=label
  )


def p_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: FGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Approaches a class drawn by Eq. 17 from the unlikely ones of one network.

  Li et al. (2019), "Scene privacy protection": the true class is rarely among the candidates.

  Args:
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: see `u_fgsm`.
    classifiers: one network.
    config: settings; None: the paper's, gamma = 0.99.
    image_ids: see `u_fgsm`.
    target: chosen classes, one or `(B,)`, instead of drawn ones.
    label: not for this attack; must be None.

  Returns:
    See `u_fgsm`; `gamma` is the one that left a candidate, see `rp_fgsm`.

  Raises:
    ValueError: an argument breaks its rule.

  Note:
    The authors' release overwrites its candidates, so that gamma has no effect there; here it has.
  """
  config = FGSMConfig() if config is None else config
  return run_signed(
    _P,
    key,
    images,
    classifiers,
    config,
    gamma=config.gamma,
    image_ids=image_ids,
    target=target,
    label=label,
  )


def e_fgsm(
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: FGSMConfig | None = None,
  *,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Approaches one random class on all K networks at each iteration, by their summed gradients.

  Tramer et al. (2018); E-FGSM, Eq. 13, in Sanchez-Matilla et al. (2020). K gradients an iteration.

  Args:
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: see `u_fgsm`.
    classifiers: K >= 1 networks with the same classes and image size.
    config: settings; None: the paper's.
    image_ids: see `u_fgsm`.
    target: chosen classes, one or `(B,)`, instead of ones drawn from all that no network predicts.
    label: not for this attack; must be None.

  Returns:
    See `u_fgsm`.

  Raises:
    ValueError: an argument breaks its rule.
  """
  config = FGSMConfig() if config is None else config
  return run_signed(
    _E, key, images, classifiers, config, image_ids=image_ids, target=target, label=label
  )
