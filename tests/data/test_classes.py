"""Class names: how many, and in whose order."""

from rpfgsm_jax.data import places365_class_names, scenes25_class_names


def test_scenes25_has_25_names_in_order():
  names = scenes25_class_names()
  assert len(set(names)) == len(names) == 25
  assert list(names) == sorted(names)


def test_scenes25_names_are_the_folders(shared_data):
  for split in ("train", "val"):
    folders = sorted(path.name for path in (shared_data / "scenes25" / split).iterdir())
    assert list(scenes25_class_names()) == folders


def test_places365_has_365_names_without_letter_folders():
  names = places365_class_names()
  assert len(set(names)) == len(names) == 365
  assert names[0] == "airfield"
  assert names[364] == "zen_garden"
  assert "church/indoor" in names
  assert not [name for name in names if name.startswith("/") or name != name.strip()]


def test_places365_order_is_the_official_one(shared_data):
  lines = (shared_data / "places365" / "categories_places365.txt").read_text().splitlines()
  official = {}
  for line in lines:
    path, index = line.split()
    official[int(index)] = path[3:]  # without "/a/"
  assert list(places365_class_names()) == [official[index] for index in range(365)]
