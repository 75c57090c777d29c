"""DeepFool, CW, L- and E-FGSM against other people's attacks on the same networks and photographs.

Fifty photographs, two of each class of scenes25, and scenes25/resnet50. Torch's libraries see the
network through `oracles.jax_in_torch`, so whatever differs is the attack.

- DeepFool: Foolbox, in a box too wide to clip, as the authors' release clips nothing. It takes that
  release's ten most likely classes and its 1e-4.
  adv_lib looks at all classes and clips each step; so does torchattacks, without the 1e-4.
- CW: Foolbox, without early abort, which it decides for a whole batch.
  torchattacks does not search for the weight; adv_lib asks for torchvision and visdom to import.
- L-FGSM: torchattacks' BIM, since it finds the least likely class itself.
  Foolbox and adv_lib must be told the class.
- E-FGSM: no library sums the gradients of several networks (Eq. 13); a loop of ten lines in torch.

Only distances and success are compared. One signed step gives equal pixels, but after twenty half
of them differ: a gradient near zero changes sign with the last bit of the network's input. The
median alone is a weak test (DeepFool with a fifth of its classes passes), so shares are asked too.
"""

import dataclasses

import jax
import numpy as np
import pytest

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.cw import CWConfig, cw
from rpfgsm_jax.attacks.deepfool import DeepFoolConfig, deepfool
from rpfgsm_jax.data import list_images, load_folder

pytestmark = [
  pytest.mark.oracle,
  pytest.mark.shared_data,
  # Foolbox 3.3.4 imports a name that SciPy has moved.
  pytest.mark.filterwarnings("ignore:Please import .gaussian_filter.:DeprecationWarning"),
]

PHOTOS_A_CLASS = 2
CHUNK = 10  # photographs that the other side attacks together: each chunk lasts as its slowest
FAR = (-100.0, 101.0)
SEARCH_STEPS, NUM_STEPS, INITIAL_C = 4, 30, 0.01  # CW: some weights fail, some succeed

MEDIAN_BAR = 0.05
SUCCESS_BAR = 0.02  # one photograph of fifty
# Which share of photographs must agree, and how well. DeepFool: all do; with two classes 86 %.
# CW, whose steps scatter around the hinge: 82 % do; with twice the first weight 50 %, with one
# search step less 65 %.
SHARES = {"deepfools": (0.95, 0.001), "cws": (0.7, 0.01)}


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What an attack made of the photographs; one number each."""

  distance: np.ndarray  # L2, gray levels
  success: np.ndarray
  target: np.ndarray


@pytest.fixture(scope="module")
def network():
  return rp.load_classifier("scenes25/resnet50")


@pytest.fixture(scope="module")
def photos(network, shared_data):
  """`(50, 128, 128, 3)` uint8: of each class the first by name and the one in the middle."""
  records = list_images(shared_data / "scenes25" / "val", class_names=network.class_names)
  chosen = []
  for name in network.class_names:
    of_class = [record for record in records if record.label_name == name]
    chosen += of_class[:: len(of_class) // PHOTOS_A_CLASS][:PHOTOS_A_CLASS]
  images, _, failures = load_folder(chosen, network.image_size)
  assert not failures
  assert len(images) == PHOTOS_A_CLASS * len(network.class_names) == 50
  return images


@pytest.fixture(scope="module")
def one_torch_thread():
  """Torch's waiting threads would take the processors from JAX: twice the time."""
  import torch

  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(network, one_torch_thread):
  from oracles.jax_in_torch import JaxInTorch

  return JaxInTorch(network, CHUNK).eval()


@pytest.fixture(scope="module")
def pixels(photos):
  import torch

  return torch.from_numpy(np.ascontiguousarray(np.moveaxis(photos, -1, 1))).float() / 255.0


@pytest.fixture(scope="module")
def logits(model, pixels):
  import torch

  with torch.no_grad():
    return model(pixels)


def of_ours(result, photos) -> Outcome:
  moved = np.asarray(result.adversarial, np.float64) - photos
  distance = np.sqrt(np.sum(moved**2, axis=(1, 2, 3)))
  return Outcome(distance, np.asarray(result.success), np.asarray(result.target))


def of_theirs(attack, pixels, classes, target) -> Outcome:
  """Runs `attack(pixels, classes) -> (adversarial, success)` on one chunk after another."""
  distance, success = [], []
  for some, of_some in zip(pixels.split(CHUNK), classes.split(CHUNK), strict=True):
    adversarial, reached = attack(some, of_some)
    moved = 255.0 * (adversarial.detach().double() - some.double())
    distance.append(moved.flatten(1).norm(dim=1).numpy())
    success.append(reached.numpy())
  return Outcome(np.concatenate(distance), np.concatenate(success), target.numpy())


@pytest.fixture(scope="module")
def deepfools(network, photos, model, pixels, logits):
  """DeepFool: (ours, theirs)."""
  import foolbox
  import torch

  attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)
  partner = foolbox.PyTorchModel(model, bounds=FAR, device="cpu")

  def attacked(pixels, label):
    adversarial, _, success = attack(partner, pixels, label, epsilons=None)
    return adversarial, success

  label = logits.argmax(dim=1)
  theirs = of_theirs(attacked, pixels, label, target=torch.full_like(label, -1))
  result = deepfool(jax.random.key(0), photos, [network], DeepFoolConfig(quantize=False))
  return of_ours(result, photos), theirs


@pytest.fixture(scope="module")
def cws(network, photos, model, pixels, logits):
  """CW towards the second most likely class: (ours, theirs)."""
  import foolbox

  attack = foolbox.attacks.L2CarliniWagnerAttack(
    binary_search_steps=SEARCH_STEPS,
    steps=NUM_STEPS,
    stepsize=0.01,
    confidence=0.0,
    initial_const=INITIAL_C,
    abort_early=False,
  )
  partner = foolbox.PyTorchModel(model, bounds=(0.0, 1.0), device="cpu")

  def attacked(pixels, target):
    goal = foolbox.criteria.TargetedMisclassification(target)
    adversarial, _, success = attack(partner, pixels, goal, epsilons=None)
    return adversarial, success

  second = logits.topk(2).indices[:, 1]
  config = CWConfig(
    search_steps=SEARCH_STEPS,
    num_steps=NUM_STEPS,
    initial_c=INITIAL_C,
    learning_rate=0.01,
    confidence=0.0,
    abort_early=False,
    quantize=False,
  )
  result = cw(jax.random.key(0), photos, [network], config)
  return of_ours(result, photos), of_theirs(attacked, pixels, second, target=second)


@pytest.fixture(scope="module")
def l_fgsms(network, photos, model, pixels, logits):
  """Twenty steps of 1 within 16 towards the least likely class: (ours, theirs)."""
  import torch
  import torchattacks

  attack = torchattacks.BIM(model, eps=16 / 255, alpha=1 / 255, steps=20)
  attack.set_mode_targeted_least_likely(quiet=True)
  target = attack.get_target_label(pixels, logits.argmax(dim=1))

  def attacked(pixels, label):
    adversarial = attack(pixels, label)
    with torch.no_grad():
      reached = model(adversarial).argmax(dim=1)
    return adversarial, reached == attack.get_target_label(pixels, label)

  theirs = of_theirs(attacked, pixels, logits.argmax(dim=1), target)
  return of_ours(rp.l_fgsm(jax.random.key(0), photos, [network]), photos), theirs


@pytest.fixture(scope="module")
def e_fgsms(photos, pixels, one_torch_thread):
  """Twenty steps towards our targets by the summed gradients of three networks: (ours, theirs)."""
  import torch
  from oracles.jax_in_torch import JaxInTorch

  networks = [
    rp.load_classifier(f"scenes25/{name}") for name in ("resnet18", "resnet50", "alexnet")
  ]
  models = [JaxInTorch(network, CHUNK).eval() for network in networks]
  result = rp.e_fgsm(jax.random.key(0), photos, networks)

  def attacked(pixels, target):
    adversarial = pixels.clone()
    for _ in range(20):
      adversarial.requires_grad_()
      losses = [
        torch.nn.functional.cross_entropy(model(adversarial), target, reduction="sum")
        for model in models
      ]
      (gradient,) = torch.autograd.grad(sum(losses), adversarial)
      moved = adversarial.detach() - gradient.sign() / 255
      change = torch.clamp(moved - pixels, -16 / 255, 16 / 255)
      adversarial = torch.clamp(pixels + change, 0, 1)
    with torch.no_grad():
      reached = torch.stack([model(adversarial).argmax(dim=1) == target for model in models])
    return adversarial, reached.all(dim=0)

  target = torch.tensor(np.asarray(result.target)).long()
  return of_ours(result, photos), of_theirs(attacked, pixels, target, target)


def ratios(ours: Outcome, theirs: Outcome) -> np.ndarray:
  both = ours.success & theirs.success
  assert both.sum() >= 40, "too few photographs to compare"
  return ours.distance[both] / theirs.distance[both]


def success_gap(ours: Outcome, theirs: Outcome) -> float:
  return abs(float(np.mean(ours.success)) - float(np.mean(theirs.success)))


@pytest.fixture(scope="module")
def derivatives(network, photos, model, pixels):
  """Logits and two pull-backs of 13 photographs, no multiple of the chunk: (torch's, JAX's)."""
  import torch

  some = pixels[:13].clone().requires_grad_()
  cotangents = np.random.default_rng(1).normal(size=(2, 13, 25)).astype(np.float32)
  logits = model(some)
  gradients = [
    torch.autograd.grad(logits, some, torch.from_numpy(each), retain_graph=True)[0]
    for each in cotangents
  ]
  logits.backward(torch.from_numpy(cotangents[0]))
  torchs = [logits.detach().numpy(), *(each.numpy() for each in gradients), some.grad.numpy()]

  # The very bits that the network saw: k / 255 * 255 is not always k.
  seen = np.moveaxis(some.detach().numpy(), 1, -1) * np.float32(255.0)
  reference, pull_back = jax.vjp(network, seen)
  first, second = (np.moveaxis(255.0 * pull_back(each)[0], -1, 1) for each in cotangents)
  return torchs, [np.asarray(reference), first, second, first]


@pytest.mark.parametrize("which", range(4), ids=["logits", "gradient", "again", "backward"])
def test_torch_sees_what_jax_computes(derivatives, which):
  torchs, reference = (each[which] for each in derivatives)
  assert torchs.shape == reference.shape
  # Another batch size than JAX's: rounding.
  assert np.linalg.norm(torchs - reference) <= 1e-4 * np.linalg.norm(reference)


@pytest.mark.parametrize("attack", ["cws", "l_fgsms"])
def test_targets(attack, request):
  ours, theirs = request.getfixturevalue(attack)
  np.testing.assert_array_equal(ours.target, theirs.target)


@pytest.mark.parametrize("attack", ["deepfools", "cws", "l_fgsms", "e_fgsms"])
def test_success(attack, request):
  assert success_gap(*request.getfixturevalue(attack)) <= SUCCESS_BAR + 1e-9


@pytest.mark.parametrize("attack", ["deepfools", "cws", "l_fgsms"])
def test_median_distance(attack, request):
  median = np.median(ratios(*request.getfixturevalue(attack)))
  assert median == pytest.approx(1.0, abs=MEDIAN_BAR)


@pytest.mark.parametrize("attack", SHARES)
def test_distance_of_each_photograph(attack, request):
  share, bar = SHARES[attack]
  assert np.mean(np.abs(ratios(*request.getfixturevalue(attack)) - 1.0) <= bar) >= share
