"""The public surface: every name is documented, annotated, and ordered as the style demands."""

import dataclasses
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

import rpfgsm_jax as rp
from rpfgsm_jax import comparison, photos, report

SURFACES = {
  "rpfgsm_jax": rp,
  "rpfgsm_jax.data": rp.data,
  "rpfgsm_jax.defenses": rp.defenses,
  "rpfgsm_jax.quality": rp.quality,
  "rpfgsm_jax.evaluation": rp.evaluation,
  "rpfgsm_jax.photos": photos,
  "rpfgsm_jax.report": report,
  "rpfgsm_jax.comparison": comparison,
}
NAMES = [(surface, name) for surface, module in SURFACES.items() for name in module.__all__]


def public_functions() -> dict[str, Callable]:
  """Returns every public function, and the public methods of every public class."""
  found = {}
  for surface, name in NAMES:
    value = getattr(SURFACES[surface], name)
    label = f"{surface}.{name}"
    if inspect.isclass(value):
      for attribute, member in vars(value).items():
        if attribute == "__call__" or not attribute.startswith("_"):
          inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
          if inspect.isfunction(inner):
            found[f"{label}.{attribute}"] = inner
    elif callable(value) and not dataclasses.is_dataclass(value):
      found[label] = value
  return found


def public_classes() -> dict[str, type]:
  return {
    f"{surface}.{name}": getattr(SURFACES[surface], name)
    for surface, name in NAMES
    if inspect.isclass(getattr(SURFACES[surface], name))
  }


FUNCTIONS, CLASSES = public_functions(), public_classes()


def parameters(function: Callable) -> list[inspect.Parameter]:
  listed = inspect.signature(function).parameters.values()
  return [parameter for parameter in listed if parameter.name not in ("self", "cls")]


def faults(function: Callable) -> list[str]:
  """Returns what one function's signature and docstring lack."""
  found, doc = [], inspect.getdoc(function) or ""
  given = parameters(function)
  for parameter in given:
    if parameter.annotation is inspect.Parameter.empty:
      found.append(f"{parameter.name} has no annotation")
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
      found.append("passes **kwargs through")
  if inspect.signature(function).return_annotation is inspect.Signature.empty:
    found.append("has no annotation of what it returns")
  first, _, rest = doc.partition("\n")
  if not first.endswith((".", ":")):
    found.append("its docstring's first line is no sentence")
  if rest.strip() and not rest.startswith("\n"):
    found.append("no empty line follows the docstring's first line")
  returns = inspect.signature(function).return_annotation is not None
  if given and returns and not re.search(r"^(Returns|Yields):$", doc, re.MULTILINE):
    found.append("says neither Returns: nor Yields:")
  # A sibling with the same arguments may be named instead of repeating them.
  if given and not re.search(r"See `\w+` for the\s+arguments", doc):
    arguments = doc.partition("Args:")[2].partition("\n\n")[0]
    named = re.findall(r"^  (\w+):", arguments, re.MULTILINE)
    found += [f"{each.name} is not documented" for each in given if each.name not in named]
    found += [f"{each} is no argument" for each in named if each not in [p.name for p in given]]
  names = [parameter.name for parameter in given]
  if "key" in names and names[0] != "key":
    found.append("key is not first")
  return found


@pytest.mark.parametrize("surface", SURFACES)
def test_all_names_exist_once(surface):
  module = SURFACES[surface]
  names = module.__all__
  assert len(names) == len(set(names))
  assert [name for name in names if not hasattr(module, name)] == []
  assert (module.__doc__ or "").partition("\n")[0].endswith(".")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
  assert faults(FUNCTIONS[name]) == []


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name):
  doc = inspect.getdoc(CLASSES[name]) or ""
  assert doc.partition("\n")[0].endswith(".")
  if dataclasses.is_dataclass(CLASSES[name]):
    assert undocumented(CLASSES[name]) == []
    assert CLASSES[name].__dataclass_params__.frozen


def undocumented(kind: type) -> list[str]:
  """Returns the fields that neither `Attributes:` nor a comment on or above their line explains."""
  attributes = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
  listed = re.findall(r"^  (\w+): \S", attributes, re.MULTILINE)
  source = textwrap.dedent(inspect.getsource(kind))
  commented = re.findall(r"^  (\w+):.*  # \S", source, re.MULTILINE)
  commented += re.findall(r"^  # \S.*\n  (\w+):", source, re.MULTILINE)
  fields = [field.name for field in dataclasses.fields(kind)]
  return [name for name in fields if name not in {*listed, *commented}]


ATTACKS = (
  "cw",
  "deepfool",
  "di_fgsm",
  "e_fgsm",
  "eot",
  "jsma",
  "l_fgsm",
  "p_fgsm",
  "r_fgsm",
  "rp_fgsm",
  "sparsefool",
  "u_fgsm",
)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_the_same_form(name):
  form = ["key", "images", "classifiers", "config", "image_ids", "target", "label"]
  signature = inspect.signature(getattr(rp, name))
  assert list(signature.parameters) == form
  kinds = [parameter.kind for parameter in signature.parameters.values()]
  assert kinds[4:] == [inspect.Parameter.KEYWORD_ONLY] * 3
  assert signature.parameters["config"].default is None
  assert signature.return_annotation is rp.AttackResult


def test_pinned_names_are_there():
  pinned = {"AttackResult", "Classifier", "RPFGSMConfig", "load_classifier", "protect", "rp_fgsm"}
  assert pinned <= set(rp.__all__)
  assert {"jpeg", "median", "requantize", "paper_bank"} <= set(rp.defenses.__all__)
  assert any(name.endswith("Classifier.from_function") for name in FUNCTIONS)
  assert {"PhotoConfig", "PhotoProtector", "ProtectedPhoto", "protect_photo"} <= set(rp.__all__)
  assert {"Encoding", "STRENGTHS", "Verdict", "read_photo"} <= set(photos.__all__)


@pytest.mark.parametrize("module", [rp, photos], ids=lambda module: module.__name__)
def test_names_that_are_loaded_late_look_like_others(module):
  assert set(module.__all__) <= set(dir(module))
  assert rp.protect_photo is photos.protect_photo
  assert not hasattr(module, "nothing")


def test_importing_the_package_loads_nothing_that_only_files_need():
  """Photos, tables and data sets would make every program wait, also one that only attacks."""
  late = ["PIL", "scipy", "skimage", "safetensors", "matplotlib", "tensorflow_datasets"]
  late += [f"rpfgsm_jax.{name}" for name in ("data", "evaluation", "photos", "quality")]
  code = f"import sys, rpfgsm_jax; print([name for name in {late} if name in sys.modules])"
  code += "; rpfgsm_jax.data.resize, rpfgsm_jax.evaluation.Rate, rpfgsm_jax.quality.psnr"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "[]"


def test_the_rules_catch_what_they_should():
  def bad(images, key, **options):
    "no sentence"

  assert len(faults(bad)) >= 6
  assert "key is not first" in faults(bad)

  @dataclasses.dataclass(frozen=True)
  class Bad:
    """Fields named in passing, as first and second are, do not count.

    Attributes:
      third: explained.
      fourth:
    """

    first: int
    second: int = 0  #
    third: int = 0
    fourth: int = 0
    fifth: int = 0  # explained
    # Explained too.
    sixth: int = 0

  assert undocumented(Bad) == ["first", "second", "fourth"]
