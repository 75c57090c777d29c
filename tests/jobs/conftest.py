"""One small real job for all tests that start processes, and its undisturbed result."""

import pytest
from jobs import small_job


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> small_job.SmallJob:
  """Many photos; `whole` is what one undisturbed run with seed 7 makes of them."""
  made = small_job.make(tmp_path_factory.mktemp("small job"), count=small_job.PHOTOS)
  assert made.run("whole", "--seed", 7).startswith(f"{small_job.PHOTOS} done, 0 failed, 0 skipped")
  return made
