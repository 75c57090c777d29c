"""Every statement of the paper's Sec. V that names an effect, in its order."""

import functools
import itertools
from collections.abc import Iterator, Sequence

from experiments import variants
from experiments.claims import Claim, detected, measured, misled
from experiments.lineup import Contender
from experiments.variants import Setup, rp_variant

_MINIMAL = "jsma cw deepfool sparsefool"
_DETECTABLE = "r-fgsm l-fgsm p-fgsm e-fgsm eot"
_FGSM = "u-fgsm r-fgsm l-fgsm p-fgsm di-fgsm-targeted di-fgsm e-fgsm"
_MEASURES = {
  "seen, top-5": misled(seen=True, defended=False, top=5),
  "seen, defended, top-5": misled(seen=True, defended=True, top=5),
  "unseen, top-1": misled(seen=False, defended=False, top=1),
  "unseen, top-5": misled(seen=False, defended=False, top=5),
  "unseen, defended, top-1": misled(seen=False, defended=True, top=1),
  "unseen, defended, top-5": misled(seen=False, defended=True, top=5),
  "detected": detected,
  "PSNR": measured("psnr"),
  "MAD": measured("mad"),
  "BRISQUE": measured("brisque"),
}
_UNITS = {"PSNR": "dB", "MAD": "MAD", "BRISQUE": "BRISQUE"}

# (measure, statement, the paper's size, its sign, attacks, attacks that are subtracted, and their
# measure if it is another)
# fmt: off
_SECTION_D = (
  ("seen, top-5", "FGSM on one network minus JSMA, CW, DeepFool, SparseFool",
   "> 83.4 (U), > 95 (L, P) against < 32.1", 1, "u-fgsm r-fgsm l-fgsm p-fgsm", _MINIMAL),
  ("seen, top-5", "L- and P-FGSM minus EOT",
   "> 95 against 67.4 to 72.7", 1, "l-fgsm p-fgsm", "eot"),
  ("seen, top-5", "RP-FGSM targeted minus untargeted",
   "> 97.8 against 91.0", 1, "rp-fgsm-targeted", "rp-fgsm"),
  ("unseen, top-5", "RP-FGSM targeted minus DI-FGSM targeted: comparable",
   "64.6 - 65.0 = -0.4", 0, "rp-fgsm-targeted", "di-fgsm-targeted"),
  ("unseen, top-5", "RP-FGSM minus DI-FGSM", "82.6 - 76.0 = +6.6", 1, "rp-fgsm", "di-fgsm"),
  ("unseen, top-5", "RP-FGSM untargeted minus targeted",
   "82.6 - 64.6 = +18.0", 1, "rp-fgsm", "rp-fgsm-targeted"),
  ("seen, defended, top-5", "RP-FGSM minus E-FGSM", "87.7 - 35.2 = +52.5", 1, "rp-fgsm", "e-fgsm"),
  ("seen, defended, top-5", "RP-FGSM minus DI-FGSM",
   "87.7 against > 59.3", 1, "rp-fgsm", "di-fgsm"),
  ("unseen, defended, top-5", "RP-FGSM minus DI-FGSM",
   "77.0 - 53.7 = +23.3", 1, "rp-fgsm", "di-fgsm"),
  ("unseen, defended, top-5", "RP-FGSM targeted minus DI-FGSM targeted",
   "55.1 - 40.1 = +15.0", 1, "rp-fgsm-targeted", "di-fgsm-targeted"),
  ("unseen, defended, top-5", "RP-FGSM minus R-, L-, P-, E-FGSM and EOT",
   "77.0 against < 27.1", 1, "rp-fgsm", _DETECTABLE),
  ("unseen, defended, top-5", "RP-FGSM minus JSMA, CW, DeepFool, SparseFool",
   "77.0 against < 21.2", 1, "rp-fgsm", _MINIMAL),
  ("seen, top-5", "What defenses take from E-FGSM: without minus with",
   "96.8 - 35.2 = +61.6", 1, "e-fgsm", "e-fgsm", "seen, defended, top-5"),
  ("seen, top-5", "What defenses take from RP-FGSM: without minus with",
   "91.0 - 87.7 = +3.3", 1, "rp-fgsm", "rp-fgsm", "seen, defended, top-5"),
  ("detected", "R-, L-, P-, E-FGSM and EOT minus U-FGSM",
   "> 93.2 against < 58.1", 1, _DETECTABLE, "u-fgsm"),
  ("detected", "DI-FGSM targeted minus untargeted",
   "82.8 to 92.2 against 41.0 to 53.2", 1, "di-fgsm-targeted", "di-fgsm"),
  ("detected", "RP-FGSM targeted minus untargeted",
   "55.9 to 79.0 against 41.7 to 57.6", 1, "rp-fgsm-targeted", "rp-fgsm"),
  ("detected", "RP-FGSM targeted minus DI-FGSM targeted",
   "55.9 to 79.0 against 82.8 to 92.2", -1, "rp-fgsm-targeted", "di-fgsm-targeted"),
  ("detected", "RP-FGSM minus DI-FGSM",
   "41.7 to 57.6 against 41.0 to 53.2", 1, "rp-fgsm", "di-fgsm"),
  ("detected", "JSMA and SparseFool minus U-FGSM",
   "< 42.1 against < 58.1", -1, "jsma sparsefool", "u-fgsm"),
  ("PSNR", "JSMA and SparseFool minus U-FGSM",
   "> 38.4 against less", 1, "jsma sparsefool", "u-fgsm"),
  ("PSNR", "EOT minus U-FGSM", "> 42.3 against less", 1, "eot", "u-fgsm"),
  ("PSNR", "RP-FGSM minus E-FGSM", "29.6 - 33.8 = -4.2", -1, "rp-fgsm", "e-fgsm"),
  ("MAD", "RP-FGSM minus E-FGSM", "40.5 - 19.8 = +20.7", 1, "rp-fgsm", "e-fgsm"),
  ("MAD", "EOT minus U-FGSM", "< 3.6 against more", -1, "eot", "u-fgsm"),
  ("BRISQUE", "FGSM minus JSMA, CW, DeepFool, SparseFool",
   "about 44 - 49 = -5", -1, _FGSM, _MINIMAL),
  ("BRISQUE", "EOT minus U-FGSM", "more", 1, "eot", "u-fgsm"),
  ("BRISQUE", "RP-FGSM minus E-FGSM", "33.4 - 41.8 = -8.4", -1, "rp-fgsm", "e-fgsm"),
)
# (which networks, variant, measure, the paper's size, its sign)
_TRANSFORMED = (
  ("one", "targeted", "detected", "-19.4", -1),
  ("one", "untargeted", "detected", "-5.5", -1),
  ("ensemble", "targeted", "detected", "-15.7 in the table, +15.7 in the text", -1),
  ("ensemble", "untargeted", "detected", "+9.5", 1),
  ("random", "targeted", "detected", "-6.9", -1),
  ("random", "untargeted", "detected", "-2.9 printed, -4.7 over its lines", -1),
  ("one", "untargeted", "unseen, defended, top-1", "+8.9", 1),
  ("random", "targeted", "unseen, defended, top-1", "+3.9", 1),
  ("random", "untargeted", "unseen, defended, top-1", "+9.3 printed, +10.0 over its lines", 1),
)
_CHOSEN = (
  ("targeted", "unseen, top-1", "+9.0 in the table, at most +4.2 in the text", 1),
  ("untargeted", "unseen, top-1", "+0.7", 1),
  ("targeted", "detected", "-12.5", -1),
  ("untargeted", "detected", "-5.2", -1),
)
_ITERATED = (
  ("passes", "unseen, top-5", "+16.4", 1),
  ("passes", "detected", "-28.7", -1),
  ("iterations", "unseen, defended, top-1", "+13.1", 1),
  ("iterations", "detected", "-28.9", -1),
)
# fmt: on


def claims_of(setup: Setup) -> Iterator[Claim]:
  """Yields every statement; attacks are named by the setup."""
  yield from _section_d(setup)
  yield from _section_e(setup)


def _section_d(setup: Setup) -> Iterator[Claim]:
  attacks = variants.by_plain_name(setup)
  for measure, text, paper, sign, first, second, *other in _SECTION_D:
    names = (tuple(attacks[name].name for name in some.split()) for some in (first, second))
    yield _claim("V-D", measure, text, paper, sign, *names, *other)
  if len(setup.seen) > 1:
    one = rp_variant(setup, networks=(setup.reference,))
    text = "RP-FGSM on all networks minus on one"
    yield _claim("V-D", "PSNR", text, "-3 to -4", -1, (attacks["rp-fgsm"].name,), (one.name,))


def _section_e(setup: Setup) -> Iterator[Claim]:
  if len(setup.seen) == 1:  # all of it compares networks
    return
  transformed = list(variants.transformation_pairs(setup))
  titles = {"one": "one network", "ensemble": "all networks", "random": "random network"}
  for choice, kind, measure, paper, sign in _TRANSFORMED:
    kept = [
      pair for pair in transformed if _is(pair[0], kind) and choice == variants.choice_of(pair[0])
    ]
    text = f"Random transformation minus none, {titles[choice]}, {kind}: {measure}"
    yield _claim("V-E, Table V", measure, text, paper, sign, *_sides(kept))
  chosen = [pair for pair in variants.choice_pairs(setup) if pair[0].transforms]
  for kind, measure, paper, sign in _CHOSEN:
    text = f"Random network minus all networks, {kind}: {measure}"
    names = _sides([pair for pair in chosen if _is(pair[0], kind)])
    yield _claim("V-E, Table VI", measure, text, paper, sign, *names)
  random = rp_variant(setup, targeted=True)
  for equal, measure, paper, sign in _ITERATED:
    num_steps = random.passes if equal == "iterations" else None
    other = rp_variant(setup, targeted=True, choice="ensemble", num_steps=num_steps)
    text = f"RP-FGSM targeted minus all networks, as many {equal}: {measure}"
    yield _claim("V-E, Table VII", measure, text, paper, sign, *_sides([(random, other)]))
  yield from _figure_5(setup)


def _figure_5(setup: Setup) -> Iterator[Claim]:
  *alone, together = variants.epsilon_sweep(setup).values()
  usual = variants.SWEEP.index(variants.PAPER_EPSILON)
  name, singles = (together[usual].name,), tuple(members[usual].name for members in alone)
  claim = functools.partial(_claim, "V-E, Fig. 5")
  text = "RP-FGSM targeted on all networks minus on one: unseen, top-1"
  yield claim("unseen, top-1", text, "increases", 1, name, singles)
  text = "RP-FGSM targeted, unseen, top-1, with minus without defenses: similar"
  yield claim("unseen, defended, top-1", text, "similar", 0, name, name, "unseen, top-1")
  one = alone[setup.seen.index(setup.reference)]
  for (low, less), (high, more) in itertools.pairwise(zip(variants.SWEEP, one, strict=True)):
    text = f"PSNR on one network falls with epsilon: {high:g} minus {low:g}"
    yield claim("PSNR", text, "falls", -1, (more.name,), (less.name,))


def _is(contender: Contender, kind: str) -> bool:
  return contender.config.targeted == (kind == "targeted")


def _sides(pairs: Sequence[tuple[Contender, Contender]]) -> tuple[tuple[str, ...], ...]:
  return tuple(tuple(pair[side].name for pair in pairs) for side in (0, 1))


def _claim(
  where: str,
  measure: str,
  text: str,
  paper: str,
  sign: int,
  first: tuple[str, ...],
  second: tuple[str, ...],
  other: str | None = None,
) -> Claim:
  """The statement of a measure by its name; `other` is the measure of what is subtracted."""
  return Claim(
    where=f"{where}, {measure}" if where == "V-D" else where,
    text=text,
    paper=paper,
    sign=sign,
    first=first,
    second=second,
    value=_MEASURES[measure],
    second_value=_MEASURES.get(other),
    unit=_UNITS.get(measure, "pp"),
  )
