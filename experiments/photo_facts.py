"""What a study's row says of one photograph behind one attack."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import rpfgsm_jax as rp
from experiments import photos, rows
from experiments.lineup import ORIGINAL, Contender
from experiments.study_plan import Clean, StudyPlan
from rpfgsm_jax import quality
from rpfgsm_jax.attacks.targets import candidate_mass
from rpfgsm_jax.evaluation import measure

GAMMAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""Of Fig. 3."""


def distances_of(images: np.ndarray, plan: StudyPlan) -> list[list[list[float]]]:
  """Returns how far the defenses move what the networks answer on N images, as rows keep it."""
  asked = np.zeros((len(images), len(plan.setup.networks)), np.int32)
  return [_rounded(each) for each in plan.evaluate(images, asked, asked[:, 0]).distances]


def _rounded(distances: np.ndarray) -> list[list[float]]:
  """`(networks, defenses)` of one image, to the third decimal."""
  return np.round(distances[:, 1:].astype(np.float64), 3).tolist()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """A batch of N photographs behind one attack, about to be measured."""

  contender: Contender
  batch: photos.Batch
  images: np.ndarray  # (N, H, W, 3) uint8, after the attack
  result: rp.AttackResult | None
  kept: Sequence[bool]  # N, whether it is an example and gets its most likely classes

  def evaluate(self, plan: StudyPlan, clean: Clean) -> measure.Predictions:
    """Returns what the networks make of the images behind every defense."""
    return plan.evaluate(self.images, clean[0][..., 0], plan.labels_of(self.batch.photos))


def common_facts(
  plan: StudyPlan, photo: photos.StudyPhoto, found: measure.Predictions, place: int
) -> rows.Row:
  """Returns what the rows of every kind of study say of a photograph."""
  known = plan.labels_of([photo])[0] >= 0
  label_ranks = np.where(known[:, None], found.label_ranks[place], -1)
  return {
    "image_id": photo.image_id,
    "label": photo.label if photo.label >= 0 else None,
    "ranks": found.ranks[place].tolist(),
    "label_ranks": label_ranks.tolist() if photo.label >= 0 else None,
  }


def class_facts(found: measure.Predictions, place: int) -> rows.Row:
  """Returns the networks' most likely classes of an image without a defense, as rows keep them."""
  probabilities = np.round(found.probabilities[place].astype(float), 4).tolist()
  return {"classes": found.classes[place].tolist(), "probabilities": probabilities}


def study_facts(plan: StudyPlan, measured: Measured, clean: Clean) -> list[rows.Row]:
  """Returns what a study's row says of each photograph of a batch; `study.py` lists the fields."""
  found, contender, originals = (
    measured.evaluate(plan, clean),
    measured.contender,
    measured.batch.images,
  )
  sizes = _sizes(measured.images, originals, plan.brisque_model)
  candidates = _candidates(plan, originals) if contender.name == ORIGINAL else None
  attacked = [plan.setup.networks.index(network) for network in contender.networks]
  facts = []
  for place, photo in enumerate(measured.batch.photos):
    fact = common_facts(plan, photo, found, place)
    fact["distances"] = _rounded(found.distances[place])
    fact |= {name: values[place] for name, values in sizes.items()}
    if measured.kept[place]:
      fact |= {"png": photo.png, **class_facts(found, place)}
    if candidates is not None:
      fact["candidates"] = candidates[place].tolist()
    if measured.result is not None:
      answers = (classes[place, attacked, 0] for classes in (clean[0], found.classes))
      fact |= _goal(measured.result, place, *answers)
    facts.append(fact)
  return facts


def _goal(
  result: rp.AttackResult, place: int, clean: np.ndarray, predicted: np.ndarray
) -> rows.Row:
  """Returns what the attack reached, as found and in the 8-bit image, on the K networks it used."""
  target = int(result.target[place])
  reached = predicted != clean if target < 0 else (predicted == target) & (clean != target)
  return {
    "target": target if target >= 0 else None,
    "success": bool(result.success[place]),
    "written_success": bool(reached.all()),
    "reached": reached.tolist(),
    "evaluations": int(result.gradient_evaluations[place]),
  }


def _sizes(
  images: np.ndarray, originals: np.ndarray, model: quality.BrisqueModel | None
) -> dict[str, list[float | int | None]]:
  """Returns the size of the change and the quality of N images; None where there is no number."""
  norms, smallest = quality.perturbation_norms(images, originals), min(images.shape[1:3])
  measures = {
    "psnr": quality.psnr(images, originals),
    "ssim": quality.ssim(images, originals) if smallest >= 11 else None,
    "mad": quality.mad(images, originals) if smallest >= 34 else None,
    "scielab": np.asarray(quality.scielab(images, originals)),
    "brisque": quality.brisque(images, model) if model and smallest >= 34 else None,
  }
  absent = np.full(len(images), np.nan)
  return {
    "l0": norms.l0.tolist(),
    "l2": np.round(norms.l2.astype(float), 3).tolist(),
    "linf": norms.linf.tolist(),
    **{
      name: [_finite(value) for value in (absent if values is None else values)]
      for name, values in measures.items()
    },
  }


def _finite(value: float) -> float | None:
  return round(float(value), 4) if np.isfinite(value) else None


def _candidates(plan: StudyPlan, images: np.ndarray) -> np.ndarray:
  """Returns `(N, gammas)`: how many classes Eq. 17 leaves as targets, over all seen networks."""
  batch = jnp.asarray(measure.pad(images, plan.size), jnp.float32)
  seen = [network.classifier for network in plan.setup.seen]
  logits = jnp.stack([measure.network_logits(network, batch) for network in seen], axis=1)
  mass = np.asarray(_candidate_mass(logits))[: len(images)]
  return np.stack([(mass > np.float32(gamma)).sum(axis=1) for gamma in GAMMAS], axis=1)


_candidate_mass = jax.jit(jax.vmap(candidate_mass))
