"""Fig. 1 and Table IV from a folder of kept images: what is drawn is read back."""

import math

import numpy as np
import pytest
import synthetic_rows as synthetic
from matplotlib.text import Text

from experiments import plots, show_pictures
from rpfgsm_jax import data

NETWORKS = synthetic.networks(("res_$18",), ("dense161",))
SETUP = synthetic.paper_setup(networks=NETWORKS, reference=NETWORKS[0])
PHOTOS = synthetic.names(2)
SHAPE = (11, 17, 3)
IMAGES = {
  (attack, photo): image
  for (attack, photo), image in zip(
    [(a, p) for a in ("original", "cw", "rp-fgsm") for p in PHOTOS],
    np.random.default_rng(20).integers(0, 256, (6, *SHAPE), np.uint8),
    strict=True,
  )
}
CLASSES = {
  "original": [([0, 1, 2], [0.7, 0.2, 0.1]), ([3, 4], [0.9996, 4e-4])],
  "cw": [([3, 0], [0.6, 0.4]), ([3], [0.5])],
  "rp-fgsm": [([4], [1.0]), ([0], [0.25])],
}
NAMES = [
  "$jacuzzi",
  "archaeological_excavation_site",
  "hot_spring",
  "bar",
  "sky",
  *(f"scene {n}" for n in range(5, 12)),
]


@pytest.fixture
def make(tmp_path):
  """Makes results and a folder of their images."""

  def read(*, images=IMAGES, labeled=True):
    attacks = {}
    for place, (attack, networks) in enumerate(CLASSES.items()):
      generator = np.random.default_rng(place)
      facts = attacks[attack] = synthetic.random_facts(generator, PHOTOS, 2)
      for surer, photo in enumerate(PHOTOS):  # the second photograph is the better known one
        facts.extra[photo] = {
          "png": f"{photo}.png",
          "classes": [classes for classes, _ in networks],
          "probabilities": [[each if surer else each / 2 for each in p] for _, p in networks],
        }
    for (attack, photo), image in images.items():
      data.write_png(tmp_path / "images" / attack / f"{photo}.png", image)
    results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks, labeled=labeled)
    results.header["class_names"] = NAMES
    return results

  return read


def no_formulas(figure):
  return not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


# Fig. 1


def test_maps_are_the_absolute_change_summed_over_channels_on_one_scale(make, tmp_path):
  figure = show_pictures.figure1(make())
  grid = np.reshape(figure.axes[:6], (2, 3))
  assert [axes.get_title() for axes in grid[0]] == ["original", "CW", "RP-FGSM"]
  for row, photo in zip(grid, PHOTOS[::-1], strict=True):  # the best known scene first
    original = IMAGES["original", photo]
    np.testing.assert_array_equal(row[0].images[0].get_array(), original)
    for axes, attack in zip(row[1:], ("cw", "rp-fgsm"), strict=True):
      (shown,) = axes.images
      changed = IMAGES[attack, photo].astype(float)
      expected = sum(abs(changed[..., channel] - original[..., channel]) for channel in range(3))
      np.testing.assert_array_equal(shown.get_array(), expected)
      assert shown.get_clim() == (0, 48)  # three channels of eps 16
  assert figure.axes[6].get_ylim()[0] == 0
  assert figure.axes[6].get_ylabel() == "gray levels"


def test_photographs_of_common_sizes_keep_their_pixels(make, tmp_path):
  generator = np.random.default_rng(3)
  images = {key: generator.integers(0, 256, (150, 224, 3), np.uint8) for key in IMAGES}
  figure = show_pictures.figure1(make(images=images))
  for axes in figure.axes[:6]:
    width, height = axes.get_position().size * figure.bbox_inches.size * plots.DPI
    assert (width, height) == pytest.approx((224, 150))


def test_kept_images_of_another_shape_are_refused(make, tmp_path):
  results = make(images=IMAGES | {("cw", PHOTOS[0]): IMAGES["cw", PHOTOS[0]][1:]})
  with pytest.raises(ValueError, match=r"original's shape \(11, 17, 3\), got \(10, 17, 3\)"):
    show_pictures.figure1(results)


@pytest.mark.parametrize("draw", [show_pictures.figure1, show_pictures.table4])
def test_without_kept_images_there_is_no_figure(make, tmp_path, draw):
  assert draw(make(images={})) is None


# Table IV


@pytest.mark.parametrize(
  ("probability", "text"),
  [
    (1.0, "△ 100.0"),
    (math.nextafter(0.9995, 1), "△ 100.0"),
    (0.9995, "100.0"),  # exactly 99.95 %
    (0.9994, "99.9"),
    (0.5, "50.0"),
    (0.0006, "0.1"),
    (0.0005, "0.1"),  # exactly 0.05 %
    (math.nextafter(0.0005, 0), "▽ 0.0"),
    (0.0, "▽ 0.0"),
  ],
)
def test_triangles_stand_strictly_beyond_the_captions_bounds(probability, text):
  assert show_pictures._percent(probability) == text


def written(axes):
  """The texts of the table in reading order, line by line."""
  lines = {}
  for text in axes.texts:
    lines.setdefault(round(text.get_position()[1], 3), []).append(text)
  return [
    [text.get_text() for text in sorted(lines[y], key=lambda text: text.get_position()[0])]
    for y in sorted(lines)
  ]


def shaded(axes):
  """The class names on blue."""
  return [
    text.get_text()
    for patch in axes.patches
    for text in axes.texts
    if patch.get_bbox().contains(*text.get_position()) and text.get_ha() == "left"
  ]


def test_classes_are_written_beside_their_probability_in_the_network_s_column(make, tmp_path):
  figure = show_pictures.table4(make())
  (axes,) = figure.axes
  lines = written(axes)
  assert "Blue: the true class;" in lines[0][0]
  assert lines[1:] == [
    ["res_$18", "dense161"],
    ["$jacuzzi", "70.0", "bar", "△ 100.0"],
    ["archaeological excavatio…", "20.0", "sky", "▽ 0.0"],
    ["hot spring", "10.0"],
    ["original"],
    ["bar", "60.0", "bar", "50.0"],
    ["$jacuzzi", "40.0"],
    ["CW"],
    ["sky", "△ 100.0", "$jacuzzi", "25.0"],
    ["RP-FGSM"],
  ]
  assert no_formulas(figure)
  figure.canvas.draw()
  long, number = (next(t for t in axes.texts if t.get_text() == text)
                  for text in ("archaeological excavatio…", "20.0"))  # fmt: skip
  assert long.get_window_extent().x1 < number.get_window_extent().x0


@pytest.mark.parametrize(
  ("labeled", "marked"),
  [(True, []), (False, ["$jacuzzi", "bar", "$jacuzzi", "bar"])],
  ids=["true class", "own answer"],
)
def test_the_scene_is_blue(make, tmp_path, labeled, marked):
  """The second photograph's class is 5, which no network names; else each network's first."""
  assert synthetic.label_of(PHOTOS[1]) == 5
  figure = show_pictures.table4(make(labeled=labeled))
  assert shaded(figure.axes[0]) == marked


def test_photographs_are_undistorted_and_from_the_top(make, tmp_path):
  tall = {key: np.swapaxes(image, 0, 1) for key, image in IMAGES.items()}
  for images, ratio, photo in ((IMAGES, 17 / 11, PHOTOS[1]), (tall, 11 / 17, PHOTOS[1])):
    figure = show_pictures.table4(make(images=images))
    figure.canvas.draw()
    shown = figure.axes[0].images
    for each, attack in zip(shown, CLASSES, strict=True):
      np.testing.assert_array_equal(each.get_array(), images[attack, photo])
      extent = each.get_window_extent()
      assert extent.width / extent.height == pytest.approx(ratio)
    above, below = shown[0].get_window_extent(), shown[1].get_window_extent()
    assert above.y0 > below.y1
    left, right, bottom, top = shown[0].get_extent()
    assert left < right
    assert top < bottom  # the axis runs down
    (tmp_path / "rows.jsonl").unlink()
