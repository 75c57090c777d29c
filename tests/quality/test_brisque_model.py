"""The files of BRISQUE's model: where they are looked for, and which are refused."""

import shutil

import numpy as np
import pytest

from rpfgsm_jax.quality.brisque import ModelNotFoundError, load_brisque_model


def test_a_path_comes_before_the_variable_and_the_variable_before_the_cache(
  toy, tmp_path, monkeypatch
):
  for place, rho in (("path", 1), ("variable", 2), ("cache/brisque", 3)):
    shutil.copytree(toy, tmp_path / place)
    file = tmp_path / place / "allmodel"
    file.write_text(file.read_text().replace("rho -2.5", f"rho {rho}"))
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("RPFGSM_BRISQUE", str(tmp_path / "variable"))
  assert load_brisque_model(tmp_path / "path").rho == 1
  assert load_brisque_model().rho == 2
  monkeypatch.delenv("RPFGSM_BRISQUE")
  assert load_brisque_model().rho == 3


@pytest.mark.parametrize("place", ["path", "variable", "cache"])
def test_a_missing_model_says_how_to_get_it(toy, tmp_path, monkeypatch, place):
  # A whole model elsewhere is not taken silently.
  monkeypatch.setenv("RPFGSM_BRISQUE", str(toy))
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  if place == "variable":
    monkeypatch.setenv("RPFGSM_BRISQUE", str(tmp_path / "variable"))
  elif place == "cache":
    monkeypatch.delenv("RPFGSM_BRISQUE")
  path = tmp_path / "path" if place == "path" else None
  with pytest.raises(ModelNotFoundError) as caught:
    load_brisque_model(path)
  folder = tmp_path / ("cache/brisque" if place == "cache" else place)
  message = str(caught.value)
  assert message.startswith(f"{folder} lacks allmodel and allrange; run 'rpfgsm weights fetch")
  assert "copy allmodel and allrange" in message
  assert "BRISQUE_release.zip there, or set RPFGSM_BRISQUE" in message
  assert "\n" not in message


def test_an_editors_byte_order_mark_changes_nothing(toy):
  before = load_brisque_model(toy)
  for name in ("allmodel", "allrange"):
    (toy / name).write_bytes(b"\xef\xbb\xbf" + (toy / name).read_bytes())
  np.testing.assert_array_equal(load_brisque_model(toy).feature_max, before.feature_max)
  assert load_brisque_model(toy).rho == before.rho


def test_half_a_model_is_missing_too(toy):
  (toy / "allrange").unlink()
  with pytest.raises(ModelNotFoundError, match=r"lacks allrange; run .*, or copy"):
    load_brisque_model(toy)


@pytest.mark.parametrize(
  ("name", "old", "new", "message"),
  [
    ("allmodel", "epsilon_svr", "c_svc", r"must say svm_type epsilon_svr, got c_svc"),
    ("allmodel", "total_sv 5", "total_sv 6", r"must say total_sv 5, got 6"),
    ("allmodel", "SV\n", "", r"must say total_sv -1, got 5"),
    ("allmodel", "gamma 0.3\n", "", r"allmodel, gamma is damaged at None"),
    ("allmodel", "rho -2.5", "rho x", r"allmodel, rho is damaged at 'x'"),
    ("allmodel", "\nSV\n", "\nSV\n?", r"allmodel, line 8 is damaged at '\?"),
    ("allmodel", " 36:", " 37:", r"allmodel, line \d+ is damaged at '37:"),
    ("allmodel", " 3:", " 2:", r"allmodel, line \d+ is damaged at '2:"),
    ("allmodel", " 4:", " 4:nan", r"allmodel, line \d+ is damaged at 'nan"),
    ("allmodel", " 4:", " 4", r"allmodel, line \d+ is damaged at '4"),
    ("allrange", "x\n", "y\n", r"must hold x, LOW HIGH, and INDEX MIN MAX for 1\.\.36"),
    ("allrange", "\n7 ", "\n8 ", r"must hold x, LOW HIGH"),
    ("allrange", "-1 1\n", "1 -1\n", r"MIN that is not below its MAX"),
    ("allrange", "\n9 -9 ", "\n9 99 ", r"MIN that is not below its MAX"),
    ("allrange", "\n9 -9 ", "\n9 inf ", r"allrange, line 11 is damaged at 'inf'"),
  ],
)
def test_a_damaged_file_is_refused_by_name_and_line(toy, name, old, new, message):
  text = (toy / name).read_text()
  assert old in text
  (toy / name).write_text(text.replace(old, new, 1))
  with pytest.raises(ValueError, match=message):
    load_brisque_model(toy)


@pytest.mark.parametrize("name", ["allmodel", "allrange"])
@pytest.mark.parametrize("kept", [0, 1, 30, -3])
def test_a_cut_off_file_is_refused(toy, name, kept):
  content = (toy / name).read_bytes()
  (toy / name).write_bytes(content[:kept])
  with pytest.raises(ValueError, match=f"{name} "):
    load_brisque_model(toy)


def test_both_kinds_of_line_ends_are_read(toy):
  expected = load_brisque_model(toy)
  for name in ("allmodel", "allrange"):
    content = (toy / name).read_bytes()
    (toy / name).write_bytes(content.replace(b"\n", b"\r\n"))
  found = load_brisque_model(toy)
  np.testing.assert_array_equal(found.support_vectors, expected.support_vectors)
  np.testing.assert_array_equal(found.feature_max, expected.feature_max)
