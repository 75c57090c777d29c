"""A command line's options as a study's config."""

import pytest

from experiments import options


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ({"changes": ("epsilon=8",)}, {"epsilon": 8.0}),
    ({"changes": ("limit=none", "mepp18=true")}, {"limit": None, "mepp18": True}),
    ({"changes": ("seen=x/a,x/b", "unseen=x/c")}, {"seen": ("x/a", "x/b"), "unseen": ("x/c",)}),
    ({"unseen": ("a", "./a", "../a/b")}, {"unseen": ("scenes25/a", "./a", "../a/b")}),
    ({"unseen": ("clip:a#b,c",)}, {"unseen": ("clip:a#b,c",)}),
    ({"limit": None, "seen": ()}, {"limit": 100}),
    (
      {"classifiers": "places365"},
      {
        "seen": ("places365/resnet18", "places365/resnet50", "places365/alexnet"),
        "unseen": ("places365/densenet161",),
      },
    ),
    ({"classifiers": "nets", "unseen": ("mine",)}, {"unseen": ("nets/mine",)}),
  ],
  ids=["float", "words", "tuples", "bare words", "clip", "defaults", "collection", "override"],
)
def test_options_become_a_config(given, expected):
  made = options.study_config(given)
  assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ("epsilon", "must be FIELD=VALUE"),
    ("eps=8", "must name one of data, labels, .*; got 'eps'"),
    ("limit=many", "--set limit must be int"),
    ("mepp18=maybe", "--set mepp18 must be true or false"),
    ("out=", "--set out must be Path, got ''"),
  ],
  ids=["form", "name", "number", "word", "empty"],
)
def test_a_wrong_set_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    options.study_config({"changes": (change,)})
