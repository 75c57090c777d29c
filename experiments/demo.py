"""The default experiment: photographs, protected, and what seen and unseen networks make of them.

A study of five contenders that keeps every image, reads all back to verify it, and replaces its
folder as a whole: `rows.jsonl` (the numbers), `report.md` and `figure.png` (made from the rows),
`original/` and `protected/ATTACK/` (PNGs at the networks' size) and `run.json` (private).

24 views of a scene, which `sample_views.py` chooses, take under 3 minutes on two cores. Expected:
random noise misleads few networks, U-FGSM mostly the one it saw, RP-FGSM nearly always all of them,
the unseen one and behind every defense too.

Rows are those of a study (see `study.py`), with other facts of a photograph (its files, the digest
of its pixels, whether a network was sure of its scene), and one `end`.
"""

import collections
import dataclasses
import pathlib
import secrets
import shutil
import time
from collections.abc import Callable

import numpy as np

import rpfgsm_jax as rp
from experiments import figures, report, rows, study, study_plan, variants, verify
from experiments.journal import RECORD, ROWS, Say
from experiments.lineup import ORIGINAL, Contender
from experiments.options import DEMO as DEMO_OPTIONS
from experiments.options import StudyConfig
from experiments.photo_facts import Measured, class_facts, common_facts
from experiments.sample_views import CONFIDENT, choose_views
from experiments.study_plan import Clean, Kind, StudyPlan
from experiments.variants import Setup
from rpfgsm_jax import atomic
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.process import CompileCache
from rpfgsm_jax.quality import perturbation_norms, psnr

_NOTES = {
  "u-fgsm": "plain iterative untargeted FGSM against one network, no defense in the loop",
  "rp-fgsm": "a random network and a random defense each iteration, away from the predicted class",
  "rp-fgsm-targeted": "the same, towards one unlikely class drawn for each photograph",
}


def config_of(**options: object) -> StudyConfig:
  """Returns a study's config with the demo's defaults."""
  return StudyConfig(**DEMO_OPTIONS | options)


def contenders_of(setup: Setup) -> tuple[Contender, ...]:
  """Returns what the demo compares, the unchanged photographs first, at any epsilon."""
  attacks, (original, noise) = variants.by_plain_name(setup), variants.baselines(setup)
  titles = {
    "u-fgsm": f"U-FGSM on {setup.reference.title}",
    "rp-fgsm": "RP-FGSM",
    "rp-fgsm-targeted": "RP-FGSM targeted",
  }
  return (
    original,
    dataclasses.replace(noise, name="sign-noise", title="random noise"),
    *(
      dataclasses.replace(attacks[name], name=name, title=titles[name], note=note)
      for name, note in _NOTES.items()
    ),
  )


def prepare(
  config: StudyConfig, *, load: Callable[[str], Classifier] = rp.load_classifier
) -> StudyPlan:
  """Checks the config, loads the networks and lists the photographs; writes nothing."""
  plan = study_plan.prepare(config, DEMO, load)
  return choose_views(plan) if config.data is None else plan


def run(plan: StudyPlan, *, cache: CompileCache | None = None, say: Say = print) -> pathlib.Path:
  """Runs the experiment and puts its results in place once they are complete and verified."""
  started = time.perf_counter()
  temporary = plan.place.with_name(f"partial-{secrets.token_hex(4)}")
  try:
    here = dataclasses.replace(plan, place=temporary)
    say(f"{len(plan.source.photos)} photographs: {plan.source.description}")
    # RP-FGSM comes first: it is what one waits for.
    first = sorted(contenders_of(plan.setup), key=lambda each: not each.name.startswith("rp"))
    first_result = study.run(here, first, cache=cache, say=say)
    say("reading everything back to verify it")
    files = verify.verify(temporary, plan.classifiers, plan.size)
    end = {
      "kind": "end",
      "photos": files // len(first),
      "verified_files": files,
      "seconds": round(time.perf_counter() - started, 1),
      "first_result_seconds": first_result,
      "attacks": _speeds(temporary / ROWS),
    }
    rows.append_rows(temporary / ROWS, [end])
    figures.draw_figure(temporary)
    report.report_from_rows(temporary)
  except BaseException:
    if (temporary / "protected").exists():
      say(f"not finished; what was done is in {temporary}")
    else:
      shutil.rmtree(temporary, ignore_errors=True)
    raise
  atomic.replace_folder(temporary, plan.place)
  return plan.place


def _facts(plan: StudyPlan, measured: Measured, clean: Clean) -> list[rows.Row]:
  """What a row says of each photograph: its files, their pixels and what networks make of them."""
  found, result = measured.evaluate(plan, clean), measured.result
  confident = clean[1][..., 0].max(axis=1) >= CONFIDENT
  facts = []
  for place, photo in enumerate(measured.batch.photos):
    image, original = measured.images[place], measured.batch.images[place]
    decibels = float(psnr(image, original))
    fact = {
      "group": photo.group,
      **common_facts(plan, photo, found, place),
      "original": f"{_folder(ORIGINAL)}/{photo.png}",
      "png": f"{_folder(measured.contender.name)}/{photo.png}",
      "sha256": verify.pixel_digest(image),
      "psnr": round(decibels, 3) if np.isfinite(decibels) else None,  # None: infinite
      "largest_change": int(perturbation_norms(image, original).linf),
      **class_facts(found, place),
      "confident": bool(confident[place]),
    }
    if result is not None and result.gamma is not None:
      fact |= {"target": int(result.target[place]), "gamma": round(float(result.gamma[place]), 6)}
    facts.append(fact)
  return facts


def _folder(attack: str) -> str:
  return attack if attack == ORIGINAL else f"protected/{attack}"


def _header(plan: StudyPlan) -> rows.Row:
  """What the report needs to know."""
  settings = study_plan.describe_defenses(plan.config.bank)
  return {
    "command": plan.config.command,
    "source": plan.source.description,
    "groups": len({photo.group for photo in plan.source.photos}),
    "confident": CONFIDENT,
    "settings": [each | {"family": each["family"] or "none"} for each in settings],
    "attacks": [contender.describe() for contender in contenders_of(plan.setup)],
  }


def _speeds(path: pathlib.Path) -> dict[str, rows.Row]:
  """Photographs a second behind each attack; the first batch apart, since it compiles."""
  spent = collections.defaultdict(lambda: ([], []))
  for row in rows.read_rows(path):
    if row["kind"] == "photo":
      spent[row["attack"]][0 if row["compiled"] else 1].append(row["seconds"])
  return {
    name: {
      "first_batch_seconds": round(sum(first), 2),
      "photos_per_second": round(len(rest) / sum(rest), 3) if sum(rest) else None,
    }
    for name, (first, rest) in spent.items()
  }


DEMO = Kind(
  name="demo",
  header=_header,
  facts=_facts,
  folder_of=_folder,
  entries=(ROWS, "report.md", "figure.png", RECORD, "original", "protected"),
)
