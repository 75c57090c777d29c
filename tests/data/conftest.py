"""Places365's validation images as a folder, an archive and a TFDS data set."""

import pytest
from PIL import ExifTags, Image
from places365_files import LABELS, Sources, jpeg, no_network

from rpfgsm_jax.data import sample_photos


@pytest.fixture(scope="module")
def offline():
  """Nothing in a file of tests asks for the network."""
  with no_network():
    yield


@pytest.fixture(scope="session")
def encoded_photos():
  """Encoded photographs of 256 x 256; one lies on its side, the last is 256 high and 341 wide."""
  views = [pixels for _, pixels in sample_photos((256, 256), ("whole",))[:5]]
  _, wide = sample_photos((256, 341), ("center",))[2]
  turned = Image.Exif()
  turned[ExifTags.Base.Orientation] = 6
  return [jpeg(views[0], exif=turned), *map(jpeg, [*views[1:], wide])]


@pytest.fixture(scope="session")
def sources(tmp_path_factory, encoded_photos):
  """The same six images three times."""
  contents = dict(zip(LABELS, encoded_photos, strict=True))
  with no_network():
    return Sources(tmp_path_factory.mktemp("places365"), contents, LABELS)
