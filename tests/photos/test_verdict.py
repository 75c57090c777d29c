"""The verdict's words against a table, its laws over all small cases, and its JSON."""

import dataclasses
import itertools
import json

import pytest

from rpfgsm_jax.photos.verdict import (
  AS_WRITTEN,
  CONFIDENT,
  STATUSES,
  NetworkVerdict,
  Verdict,
  judge,
  judged_by,
)

CONDITIONS = (AS_WRITTEN, "JPEG 75", "JPEG 50")
NONE, SOME, ALL = (False, False, False), (False, True, False), (True, True, True)


def _network(misled, *, held_out=False, probability=0.9, kind="small"):
  return NetworkVerdict(
    name=f"network {misled}",
    held_out=held_out,
    before=(("kitchen", probability), ("bar", 0.1)),
    after=(("bar", 0.6), ("kitchen", 0.4)),
    misled=dict(zip(CONDITIONS, misled, strict=True)),
    kind=kind,
  )


def _seen(misled):
  return _network(misled)


def _unseen(misled):
  return _network(misled, held_out=True)


def _modern(misled, *, held_out=True, **options):
  return _network(misled, held_out=held_out, kind="modern", **options)


def _unsure(misled, **options):
  return _network(misled, probability=0.49, **options)


@pytest.mark.parametrize(
  ("networks", "status"),
  [
    # Nobody was sure: nothing to hide, whatever happened to the predictions.
    ([_unsure(NONE)], "no scene"),
    ([_unsure(ALL), _unsure(SOME, held_out=True)], "no scene"),
    ([], "no scene"),
    # Everybody who was sure is misled everywhere.
    ([_seen(ALL), _unseen(ALL)], "protected"),
    ([_seen(ALL), _seen(ALL), _unseen(ALL), _unseen(ALL)], "protected"),
    ([_seen(ALL), _unsure(NONE), _unsure(NONE, held_out=True)], "protected"),
    ([_unsure(NONE), _unseen(ALL)], "protected"),
    # Strangers recognize it still.
    ([_seen(ALL), _unseen(NONE)], "not"),
    ([_seen(NONE), _unseen(NONE)], "not"),
    ([_seen(SOME), _unseen(NONE), _unseen(NONE)], "not"),
    ([_unsure(ALL), _unseen(NONE)], "not"),
    # Something between.
    ([_seen(ALL), _unseen(SOME)], "partly"),
    ([_seen(SOME), _unseen(ALL)], "partly"),
    ([_seen(NONE), _unseen(ALL)], "partly"),
    ([_seen(ALL), _unseen(NONE), _unseen(SOME)], "partly"),
    ([_seen(ALL), _unseen(NONE), _unseen(ALL)], "partly"),
    # A modern stranger decides, where it was sure; one that was attacked is none.
    ([_seen(ALL), _unseen(ALL), _modern(NONE)], "not"),
    ([_seen(ALL), _unseen(NONE), _modern(SOME)], "partly"),
    ([_seen(ALL), _unseen(NONE), _modern(ALL)], "partly"),
    ([_seen(ALL), _unseen(ALL), _modern(ALL)], "protected"),
    ([_seen(ALL), _unseen(SOME), _modern(NONE, probability=0.49)], "partly"),
    ([_modern(NONE, held_out=False), _unseen(ALL)], "partly"),
    # Without strangers, or where they were not sure, those of the attack decide.
    ([_seen(ALL)], "protected"),
    ([_seen(SOME)], "partly"),
    ([_seen(NONE), _seen(ALL)], "partly"),
    ([_seen(NONE)], "not"),
    ([_seen(NONE), _seen(NONE), _unsure(ALL, held_out=True)], "not"),
    ([_seen(SOME), _seen(NONE), _unsure(NONE, held_out=True)], "partly"),
  ],
)
def test_the_words(networks, status):
  for order in itertools.permutations(networks):
    assert judge(tuple(order)) == status


def test_misleading_more_never_makes_the_word_worse():
  words = ("not", "partly", "protected")
  misled = list(itertools.product([False, True], repeat=4))  # two networks, two conditions
  for held_out, sure in itertools.product(itertools.product([False, True], repeat=2), repeat=2):
    ranks = {}
    for case in misled:
      networks = tuple(
        dataclasses.replace(
          _network(NONE, held_out=held_out[place], probability=0.9 if sure[place] else 0.4),
          misled=dict(zip(CONDITIONS, case[2 * place : 2 * place + 2], strict=False)),
        )
        for place in range(2)
      )
      status = judge(networks)
      assert (status == "no scene") == (not any(sure))
      ranks[case] = words.index(status) if any(sure) else 0
    for less, more in itertools.product(misled, repeat=2):
      if all(a <= b for a, b in zip(less, more, strict=True)):
        assert ranks[less] <= ranks[more]


@pytest.mark.parametrize(
  ("probability", "recognized"),
  [(CONFIDENT, True), (0.4999, False), (1.0, True), (0.0, False)],
)
def test_a_scene_is_recognized_from_one_half_on(probability, recognized):
  assert CONFIDENT == 0.5
  network = _network(NONE, probability=probability)
  assert network.recognized is recognized
  assert judge((network,)) == ("not" if recognized else "no scene")


def test_of_a_named_scene_only_that_one_is_recognized():
  networks = tuple(dataclasses.replace(_network(NONE), scene=each) for each in ("kitchen", "bar"))
  assert [network.recognized for network in networks] == [True, False]
  verdict = Verdict(status="not", networks=networks, psnr=30.0, ssim=0.9, largest_change=9)
  assert Verdict.from_json(verdict.to_json()) == verdict


# Who judged


@pytest.mark.parametrize(
  ("kinds", "said"),
  [
    ([], "nobody"),
    (["small"], "1 small network, none like those in use; not judged by a modern network"),
    (
      ["small"] * 4,
      "4 small networks, none like those in use; not judged by a modern network",
    ),
    (
      ["small", "other", "small"],
      "2 small networks, 1 other network; not judged by a modern network",
    ),
    (["modern", "small", "small", "modern"], "2 small networks, 2 modern networks"),
    ([None, None], "2 networks of unknown kind"),
    (["small", None], "1 small network, 1 network of unknown kind"),
  ],
)
def test_a_verdict_says_who_judged(kinds, said):
  networks = tuple(_network(ALL, kind=kind) for kind in kinds)
  assert judged_by(kinds) == _verdict(networks=networks).judged_by == said


# JSON


def _verdict(**changes):
  values = {
    "status": "partly",
    "networks": (_seen(ALL), _unseen(SOME), _unsure(NONE)),
    "psnr": 34.123456789,
    "ssim": 0.951234567,
    "largest_change": 16,
  }
  return Verdict(**values | changes)


def _through_json(verdict):
  return json.loads(json.dumps(verdict.to_json(), allow_nan=False))


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"psnr": float("inf"), "largest_change": 0},
    {"ssim": None},
    {"networks": ()},
    *({"status": status} for status in STATUSES),
  ],
  ids=str,
)
def test_json_gives_the_same_verdict_back(changes):
  verdict = _verdict(**changes)
  assert Verdict.from_json(_through_json(verdict)) == verdict


def test_what_json_says():
  told = _through_json(_verdict(psnr=float("inf"), networks=(_unseen(SOME), _unsure(ALL))))
  assert told["psnr"] is None
  assert told["networks"] == [
    {
      "name": "network (False, True, False)",
      "held_out": True,
      "before": [["kitchen", 0.9], ["bar", 0.1]],
      "after": [["bar", 0.6], ["kitchen", 0.4]],
      "misled": {"as written": False, "JPEG 75": True, "JPEG 50": False},
      "kind": "small",
      "recognized": True,
    },
    {
      "name": "network (True, True, True)",
      "held_out": False,
      "before": [["kitchen", 0.49], ["bar", 0.1]],
      "after": [["bar", 0.6], ["kitchen", 0.4]],
      "misled": {"as written": True, "JPEG 75": True, "JPEG 50": True},
      "kind": "small",
      "recognized": False,
    },
  ]


def test_a_record_of_before_does_not_say_the_kind():
  told = _through_json(_verdict())
  for network in told["networks"]:
    del network["kind"]
  read = Verdict.from_json(told)
  assert [network.kind for network in read.networks] == [None] * 3
  assert read.judged_by == "3 networks of unknown kind"


@pytest.mark.parametrize("key", ["status", "networks", "psnr", "ssim", "largest_change"])
def test_a_verdict_with_something_missing_is_refused(key):
  told = _through_json(_verdict())
  del told[key]
  with pytest.raises(KeyError, match=key):
    Verdict.from_json(told)


@pytest.mark.parametrize("key", ["name", "held_out", "before", "after", "misled"])
def test_a_network_with_something_missing_is_refused(key):
  told = _through_json(_verdict())
  del told["networks"][1][key]
  with pytest.raises(KeyError, match=key):
    Verdict.from_json(told)


@pytest.mark.parametrize(
  "changes",
  [
    {"status": "perfect"},
    {"status": None},
    {"networks": 3},
    {"networks": [3]},
    {"psnr": "much"},
    {"ssim": [1]},
    {"largest_change": None},
  ],
  ids=str,
)
def test_other_values_are_refused(changes):
  with pytest.raises((TypeError, ValueError)):
    Verdict.from_json(_through_json(_verdict()) | changes)


def test_an_unknown_word_is_named():
  with pytest.raises(ValueError, match=r"status must be one of \('protected', .*, got 'perfect'"):
    Verdict.from_json(_through_json(_verdict()) | {"status": "perfect"})


@pytest.mark.parametrize("told", [[], "verdict", 5], ids=str)
def test_something_else_than_a_mapping_is_refused(told):
  with pytest.raises(TypeError):
    Verdict.from_json(told)
