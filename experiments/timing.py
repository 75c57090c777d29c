"""Seconds of one photograph alone, as in Fig. 6: each attack, and RP-FGSM on one to all networks.

One photograph at a time, after one that is not counted since it compiles; so these are seconds a
user waits for a single photo, not the throughput of batches. Run it when nothing else runs.
"""

import time
from collections.abc import Iterator

from tqdm import tqdm

from experiments import lineup, photos, study, variants
from experiments.journal import Journal, Say
from experiments.lineup import Contender
from experiments.study_plan import StudyPlan
from experiments.variants import Setup

_SLOW_SHARE = 4  # the slow attacks are timed on a quarter of the photographs


def timed_contenders(setup: Setup) -> tuple[tuple[Contender, ...], tuple[Contender, ...]]:
  """Returns the attacks of Fig. 6 (a) and the choices of networks of Fig. 6 (b)."""
  return variants.paper_attacks(setup), variants.network_counts(setup)


def run(plan: StudyPlan, say: Say = print) -> None:
  """Times what the folder does not have yet."""
  journal = study.open_journal(plan, say)
  missing = list(_missing(plan, journal))
  if not missing:
    return
  say(f"{len(missing)} photographs to time, one at a time")
  last = None
  with tqdm(missing, unit="photo", mininterval=0.5) as bar:
    for contender, batch, place in bar:
      bar.set_description(contender.name)
      image, photo = batch.images[place : place + 1], batch.photos[place]
      if contender is not last:
        journal.introduce(contender)
        lineup.protect(contender, image, [photo.image_id], plan.seed, 1)
        last = contender
      began = time.perf_counter()
      lineup.protect(contender, image, [photo.image_id], plan.seed, 1)
      seconds = round(time.perf_counter() - began, 5)
      row = {"kind": "timing", "attack": contender.name, "photo": photo.name, "seconds": seconds}
      journal.append([row])


def _missing(plan: StudyPlan, journal: Journal) -> Iterator[tuple[Contender, photos.Batch, int]]:
  """Yields (attack, photographs, place) of what is not timed yet, attack by attack."""
  count = plan.config.timed
  batch = next(plan.source.batches(min(count, len(plan.source.photos))))
  groups = timed_contenders(plan.setup)
  contenders = {each.name: each for group in groups for each in group}.values()
  for contender in contenders:
    limit = max(count // _SLOW_SHARE, 1) if contender.slow else count
    for place, photo in enumerate(batch.photos[:limit]):
      if (contender.name, photo.name) not in journal.timed:
        yield contender, batch, place
