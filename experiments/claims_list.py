"""Every statement of the paper's Sec. V that names an effect, in its order."""

import functools
import itertools
from collections.abc import Iterator

from experiments import variants
from experiments.claims import Claim, Measure, detected, measured, misled
from experiments.variants import Setup, rp_variant

_MINIMAL = "jsma cw deepfool sparsefool"
_DETECTABLE = "r-fgsm l-fgsm p-fgsm e-fgsm eot"
_FGSM = "u-fgsm r-fgsm l-fgsm p-fgsm di-fgsm-targeted di-fgsm e-fgsm"
_SEEN = misled(seen=True, defended=False, top=5)
_SEEN_DEFENDED = misled(seen=True, defended=True, top=5)
_UNSEEN = misled(seen=False, defended=False, top=5)
_UNSEEN_DEFENDED = misled(seen=False, defended=True, top=5)
_UNSEEN_TOP1 = misled(seen=False, defended=False, top=1)
_UNSEEN_DEFENDED_TOP1 = misled(seen=False, defended=True, top=1)

# (measure, statement, the paper's size, its sign, attacks, attacks that are subtracted)
# fmt: off
_MISLED = (
  (_SEEN, "FGSM on one network minus JSMA, CW, DeepFool, SparseFool",
   "> 83.4 (U), > 95 (L, P) against < 32.1", 1, "u-fgsm r-fgsm l-fgsm p-fgsm", _MINIMAL),
  (_SEEN, "L- and P-FGSM minus EOT", "> 95 against 67.4 to 72.7", 1, "l-fgsm p-fgsm", "eot"),
  (_SEEN, "RP-FGSM targeted minus untargeted",
   "> 97.8 against 91.0", 1, "rp-fgsm-targeted", "rp-fgsm"),
  (_UNSEEN, "RP-FGSM targeted minus DI-FGSM targeted: comparable",
   "64.6 - 65.0 = -0.4", 0, "rp-fgsm-targeted", "di-fgsm-targeted"),
  (_UNSEEN, "RP-FGSM minus DI-FGSM", "82.6 - 76.0 = +6.6", 1, "rp-fgsm", "di-fgsm"),
  (_UNSEEN, "RP-FGSM untargeted minus targeted",
   "82.6 - 64.6 = +18.0", 1, "rp-fgsm", "rp-fgsm-targeted"),
  (_SEEN_DEFENDED, "RP-FGSM minus E-FGSM", "87.7 - 35.2 = +52.5", 1, "rp-fgsm", "e-fgsm"),
  (_SEEN_DEFENDED, "RP-FGSM minus DI-FGSM", "87.7 against > 59.3", 1, "rp-fgsm", "di-fgsm"),
  (_UNSEEN_DEFENDED, "RP-FGSM minus DI-FGSM", "77.0 - 53.7 = +23.3", 1, "rp-fgsm", "di-fgsm"),
  (_UNSEEN_DEFENDED, "RP-FGSM targeted minus DI-FGSM targeted",
   "55.1 - 40.1 = +15.0", 1, "rp-fgsm-targeted", "di-fgsm-targeted"),
  (_UNSEEN_DEFENDED, "RP-FGSM minus R-, L-, P-, E-FGSM and EOT",
   "77.0 against < 27.1", 1, "rp-fgsm", _DETECTABLE),
  (_UNSEEN_DEFENDED, "RP-FGSM minus JSMA, CW, DeepFool, SparseFool",
   "77.0 against < 21.2", 1, "rp-fgsm", _MINIMAL),
)
_DETECTED = (
  ("R-, L-, P-, E-FGSM and EOT minus U-FGSM", "> 93.2 against < 58.1", 1, _DETECTABLE, "u-fgsm"),
  ("DI-FGSM targeted minus untargeted",
   "82.8 to 92.2 against 41.0 to 53.2", 1, "di-fgsm-targeted", "di-fgsm"),
  ("RP-FGSM targeted minus untargeted",
   "55.9 to 79.0 against 41.7 to 57.6", 1, "rp-fgsm-targeted", "rp-fgsm"),
  ("RP-FGSM targeted minus DI-FGSM targeted",
   "55.9 to 79.0 against 82.8 to 92.2", -1, "rp-fgsm-targeted", "di-fgsm-targeted"),
  ("RP-FGSM minus DI-FGSM", "41.7 to 57.6 against 41.0 to 53.2", 1, "rp-fgsm", "di-fgsm"),
  ("JSMA and SparseFool minus U-FGSM", "< 42.1 against < 58.1", -1, "jsma sparsefool", "u-fgsm"),
)
_QUALITY = (
  ("psnr", "JSMA and SparseFool minus U-FGSM",
   "> 38.4 against less", 1, "jsma sparsefool", "u-fgsm"),
  ("psnr", "EOT minus U-FGSM", "> 42.3 against less", 1, "eot", "u-fgsm"),
  ("psnr", "RP-FGSM minus E-FGSM", "29.6 - 33.8 = -4.2", -1, "rp-fgsm", "e-fgsm"),
  ("mad", "RP-FGSM minus E-FGSM", "40.5 - 19.8 = +20.7", 1, "rp-fgsm", "e-fgsm"),
  ("mad", "EOT minus U-FGSM", "< 3.6 against more", -1, "eot", "u-fgsm"),
  ("brisque", "FGSM minus JSMA, CW, DeepFool, SparseFool",
   "about 44 - 49 = -5", -1, _FGSM, _MINIMAL),
  ("brisque", "EOT minus U-FGSM", "more", 1, "eot", "u-fgsm"),
  ("brisque", "RP-FGSM minus E-FGSM", "33.4 - 41.8 = -8.4", -1, "rp-fgsm", "e-fgsm"),
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
_PLACES = {
  _SEEN: "seen, top-5",
  _SEEN_DEFENDED: "seen, defended, top-5",
  _UNSEEN: "unseen, top-5",
  _UNSEEN_DEFENDED: "unseen, defended, top-5",
}
_MEASURES: dict[str, Measure] = {
  "detected": detected,
  "unseen, top-1": _UNSEEN_TOP1,
  "unseen, top-5": _UNSEEN,
  "unseen, defended, top-1": _UNSEEN_DEFENDED_TOP1,
}
_UNITS = {"psnr": "dB", "mad": "MAD", "brisque": "BRISQUE"}


def claims_of(setup: Setup) -> Iterator[Claim]:
  """Yields every statement; attacks are named by the setup."""
  yield from _section_d(setup)
  yield from _section_e(setup)


def _section_d(setup: Setup) -> Iterator[Claim]:
  for value, text, paper, sign, first, second in _MISLED:
    names = _named(setup, first), _named(setup, second)
    yield Claim(f"V-D, {_PLACES[value]}", text, paper, sign, *names, value)
  for name, title, paper in (
    ("e-fgsm", "E-FGSM", "96.8 - 35.2 = +61.6"),
    ("rp-fgsm", "RP-FGSM", "91.0 - 87.7 = +3.3"),
  ):
    text = f"What defenses take from {title}: without minus with"
    names = _named(setup, name)
    claim = functools.partial(Claim, "V-D, seen, top-5", text, paper, 1, names, names)
    yield claim(_SEEN, second_value=_SEEN_DEFENDED)
  for text, paper, sign, first, second in _DETECTED:
    names = _named(setup, first), _named(setup, second)
    yield Claim("V-D, detected", text, paper, sign, *names, detected)
  for column, text, paper, sign, first, second in _QUALITY:
    names = _named(setup, first), _named(setup, second)
    where, value, unit = f"V-D, {column.upper()}", measured(column), _UNITS[column]
    yield Claim(where, text, paper, sign, *names, value, unit=unit)
  if len(setup.seen) == 1:
    return
  one = (rp_variant(setup, networks=(setup.reference,)).name,)
  text, value = "RP-FGSM on all networks minus on one", measured("psnr")
  yield Claim("V-D, PSNR", text, "-3 to -4", -1, _named(setup, "rp-fgsm"), one, value, unit="dB")


def _section_e(setup: Setup) -> Iterator[Claim]:
  if len(setup.seen) == 1:  # all of it compares networks
    return
  pairs = list(variants.transformation_pairs(setup))
  for choice, kind, measure, paper, sign in _TRANSFORMED:
    kept = [
      pair
      for pair in pairs
      if pair[0].config.targeted == (kind == "targeted")
      and choice == ("one" if len(pair[0].networks) == 1 else pair[0].config.classifier_choice)
    ]
    first, second = (tuple(pair[side].name for pair in kept) for side in (0, 1))
    networks = {"one": "one network", "ensemble": "all networks", "random": "random network"}
    text = f"Random transformation minus none, {networks[choice]}, {kind}: {measure}"
    yield Claim("V-E, Table V", text, paper, sign, first, second, _MEASURES[measure])
  for kind, measure, paper, sign in _CHOSEN:
    kept = [
      pair
      for pair in variants.choice_pairs(setup)
      if pair[0].config.targeted == (kind == "targeted")
      and len(pair[0].config.defenses.families) > 1
    ]
    first, second = (tuple(pair[side].name for pair in kept) for side in (0, 1))
    text = f"Random network minus all networks, {kind}: {measure}"
    yield Claim("V-E, Table VI", text, paper, sign, first, second, _MEASURES[measure])
  random = rp_variant(setup, targeted=True)
  for equal, measure, paper, sign in _ITERATED:
    num_steps = random.passes if equal == "iterations" else None
    other = rp_variant(setup, targeted=True, choice="ensemble", num_steps=num_steps).name
    text = f"RP-FGSM targeted minus all networks, as many {equal}: {measure}"
    names = (random.name,), (other,)
    yield Claim("V-E, Table VII", text, paper, sign, *names, _MEASURES[measure])
  yield from _figure_5(setup)


def _figure_5(setup: Setup) -> Iterator[Claim]:
  *alone, together = variants.epsilon_sweep(setup).values()
  usual = variants.SWEEP.index(variants.PAPER_EPSILON)
  name, singles = (together[usual].name,), tuple(members[usual].name for members in alone)
  where = "V-E, Fig. 5"
  text = "RP-FGSM targeted on all networks minus on one: unseen, top-1"
  yield Claim(where, text, "increases", 1, name, singles, _UNSEEN_TOP1)
  text = "RP-FGSM targeted, unseen, top-1, with minus without defenses: similar"
  claim = functools.partial(Claim, where, text, "similar", 0, name, name)
  yield claim(_UNSEEN_DEFENDED_TOP1, second_value=_UNSEEN_TOP1)
  one = alone[setup.seen.index(setup.reference)]
  for (low, less), (high, more) in itertools.pairwise(zip(variants.SWEEP, one, strict=True)):
    text = f"PSNR on one network falls with epsilon: {high:g} minus {low:g}"
    names, value = ((more.name,), (less.name,)), measured("psnr")
    yield Claim(where, text, "falls", -1, *names, value, unit="dB")


def _named(setup: Setup, names: str) -> tuple[str, ...]:
  """The names of attacks at the run's epsilon."""
  attacks = variants.by_plain_name(setup)
  return tuple(attacks[name].name for name in names.split())
