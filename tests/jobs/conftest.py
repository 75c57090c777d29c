"""One small real job for all tests that start processes, its undisturbed result; a state apart."""

import pytest
from jobs import small_job


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> small_job.SmallJob:
  """Many photos; `whole` is what one undisturbed run with seed 7 makes of them."""
  made = small_job.make(tmp_path_factory.mktemp("small job"), count=small_job.PHOTOS)
  assert made.run("whole", "--seed", 7).startswith(f"{small_job.PHOTOS} done, 0 failed, 0 skipped")
  return made


@pytest.fixture(scope="session")
def photos_job(tmp_path_factory) -> small_job.SmallJob:
  """The same photos, each at its own size."""
  folder = tmp_path_factory.mktemp("small job of photos")
  made = small_job.make(folder, count=small_job.PHOTOS, options=("--size", "photo"))
  assert made.run("whole", "--seed", 7).startswith(f"{small_job.PHOTOS} done (")
  return made


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
  """The file of known results: a test's own, not the user's."""
  monkeypatch.setenv("RPFGSM_STATE", str(tmp_path / "state"))
