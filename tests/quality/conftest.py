"""A model of BRISQUE that nobody trained."""

import pathlib

import numpy as np
import pytest


@pytest.fixture
def toy(tmp_path) -> pathlib.Path:
  """Two files of LIVE's form that a seeded generator filled; zero features are left out."""
  generator, folder = np.random.default_rng(3), tmp_path / "toy"
  folder.mkdir()
  header = ["svm_type epsilon_svr", "kernel_type rbf", "gamma 0.3", "nr_class 2", "total_sv 5"]
  rows = [
    f"{generator.normal():.6g} "
    + "".join(f"{k}:{v:.6g} " for k, v in enumerate(generator.normal(size=36), 1) if v > -1)
    for _ in range(5)
  ]
  (folder / "allmodel").write_text("\n".join([*header, "rho -2.5", "SV", *rows]) + "\n")
  ranges = [f"{k} {-k} {generator.uniform(0.1, 9):.6g}" for k in range(1, 37)]
  (folder / "allrange").write_text("\n".join(["x", "-1 1", *ranges]) + "\n")
  return folder
