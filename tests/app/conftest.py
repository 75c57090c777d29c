"""The page's server with an attack that computes nothing; headless Chromium."""

import dataclasses
import io

import numpy as np
import pytest
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector
from PIL import Image
from report.browser import chromium as chromium
from report.browser import watched

from rpfgsm_jax.app import server
from rpfgsm_jax.app.session import Session
from rpfgsm_jax.app.work import Work
from rpfgsm_jax.cli_protect_options import DEFAULT_HELD_OUT, DEFAULT_NETWORKS
from rpfgsm_jax.jobs import engines
from rpfgsm_jax.jobs.spec import Job
from rpfgsm_jax.photos.config import PhotoConfig, photo_attack

TOKEN = "a-token"


@pytest.fixture(autouse=True)
def no_attack(monkeypatch, tmp_path):
  """Photos become negatives at once; the file of known results is the test's own."""
  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", lambda name: toys.linear(1, name=name))
  monkeypatch.setenv("RPFGSM_STATE", str(tmp_path / "state"))


@dataclasses.dataclass
class Served:
  """What the server is made of."""

  folder: object
  session: Session
  work: Work

  def app(self):
    return server.make_app(self.session, self.work, TOKEN)


@pytest.fixture
def serve(tmp_path):
  """Starts in a folder, or again in the same; nothing is left running."""
  started = []

  def _serve(folder=tmp_path / "work") -> Served:
    def job_for(strength, names):
      return Job(
        sources=[folder / "originals"],
        out=folder / strength,
        networks=DEFAULT_NETWORKS,
        held_out=DEFAULT_HELD_OUT,
        photos=PhotoConfig(attack=photo_attack(strength)),
        devices=1,
        only=frozenset(names),
      )

    session = Session(folder, job_for("medium", ()))
    started.append(Work(session, job_for))
    return Served(folder, session, started[-1])

  yield _serve
  for work in started:
    work.end(60)


def picture(seed: int = 0, size: tuple[int, int] = (48, 40), kind: str = "PNG") -> bytes:
  """The bytes of a colored picture of (width, height) pixels."""
  blocks = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3))
  content = io.BytesIO()
  Image.fromarray(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)).save(content, kind)
  return content.getvalue()


@pytest.fixture
def visit(chromium):
  """Opens the page; afterwards nothing else was asked for, and no script has failed."""
  with watched(chromium, 20_000) as pages:
    yield pages
  known = (*pages.addresses, "data:")
  assert [url for url in pages.asked if not url.startswith(known)] == []
  # The browser's own words about answers that refuse, and about a server that is gone.
  assert [text for text in pages.said if not text.startswith("Failed to load resource")] == []
