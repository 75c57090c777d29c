"""CLIP with classes named in words: transformers' scores, texts, names, refusals, the commands."""

import json
import re
import sys

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from models.published_parity import call, change_json, change_tensors, golden
from models.small_clip import WORDS, write_clip, write_tokenizer
from models.small_networks import CLASS_NAMES, CONFIGS, parameters
from oracles import published_models as theirs
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import cli
from rpfgsm_jax.models import clip_words
from rpfgsm_jax.models.identity import identify_network
from rpfgsm_jax.models.parameters import Network, WeightsError
from rpfgsm_jax.models.weights import class_names_of, load_clip_towers, save_network

CLASSES = ("the of hospital", "photo bedroom a room church")
IMAGES = theirs.pictures(*theirs.SIZES["clip"])


@pytest.fixture
def folder(tmp_path):
  return write_clip(tmp_path / "clip")


def heads(folder, classes, *templates):
  """Returns the head's kernel, `(P, D)`, without the logit scale."""
  clip = load_clip_towers(folder)
  words = clip_words.read_words(classes, templates)
  network = clip_words.name_classes(clip, words, folder / "tokenizer.json")
  return network.parameters["head.dense.kernel"] / np.exp(clip.logit_scale)


# ---- numbers ----


def test_scores_are_those_of_transformers(folder):
  net = rp.load_clip(folder, classes=CLASSES, templates="{}")
  assert net.class_names == CLASSES
  np.testing.assert_allclose(call(net, IMAGES), golden("clip")["scores"], rtol=1e-4)
  name = f"clip:{folder}#{','.join(CLASSES)}#{{}}"
  assert class_names_of(name) == CLASSES
  named = rp.load_classifier(name)
  np.testing.assert_array_equal(call(named, IMAGES), call(net, IMAGES))


def test_templates_are_averaged_at_unit_length(folder):
  first, second = (heads(folder, CLASSES[:2], text) for text in ("a {}", "{} of the room"))
  assert np.abs(first - second).max() > 0.1
  mean = first + second
  found = heads(folder, CLASSES[:2], "a {}", "{} of the room")
  np.testing.assert_allclose(found, mean / np.linalg.norm(mean, axis=0), atol=1e-5)


def test_words_and_truncation(folder):
  # Underscores, slashes and letters' case; the end token stays behind what a text loses.
  exact = heads(folder, ("a photo of a church", "the bedroom"), "{}")
  whole = heads(folder, ("church a photo of bedroom", "a church"), "{}")
  assert np.abs(exact - whole).max() > 0.1
  np.testing.assert_allclose(
    heads(folder, ("A_photo of/a church room room room", "the/bedroom"), "{}"), exact, atol=1e-5
  )


def test_many_texts_are_read_in_parts(folder, monkeypatch):
  classes = [f"{a} {b}" for a in WORDS[2:10] for b in WORDS[2:10]]
  whole = heads(folder, classes, "{}")
  monkeypatch.setattr(clip_words, "_AT_ONCE", 7)
  np.testing.assert_allclose(heads(folder, classes, "{}"), whole, atol=1e-5)


def test_old_configs_end_at_the_highest_token(folder):
  expected = heads(folder, CLASSES, "{}")
  path = folder / "config.json"
  text = json.loads(path.read_bytes())["text_config"]
  change_json(path, text_config=text | {"eos_token_id": 2})
  np.testing.assert_allclose(heads(folder, CLASSES, "{}"), expected, atol=1e-6)


def test_the_label_to_leave_is_a_word(folder):
  net = rp.load_clip(folder, classes="church, hospital room, bedroom", templates="the {}")
  word = net.class_names.index("hospital room")
  config = rp.RPFGSMConfig(epsilon=8.0, defenses=rp.defenses.no_defenses())
  images = IMAGES.astype(np.float32)
  found = rp.rp_fgsm(jax.random.key(0), images, [net], config, label=word)
  before, after = (
    jax.nn.log_softmax(call(net, each)) for each in (images, np.asarray(found.adversarial))
  )
  assert (after[:, word] < before[:, word]).all()


# ---- words and names ----


def test_lists_of_the_package():
  assert clip_words.read_words("places365").classes == rp.data.places365_class_names()
  private = clip_words.read_words("mepp18-private", "the {}")
  assert private.classes == rp.data.mepp18_private_classes()
  index = private.classes.index("church/indoor")
  assert private.texts()[index] == "the church indoor"
  assert clip_words.read_words("a,b").texts() == ["a photo of a a.", "a photo of a b."]


def test_identity_knows_classes_templates_and_files(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  name = "clip:clip#church, hospital  room"
  first = identify_network(name)
  assert first.name == f"clip:{folder}#church,hospital room"
  assert identify_network(first.name) == first
  other = identify_network(f"{name}#the {{}}#a {{}}")
  assert other.name == f"{first.name}#the {{}}#a {{}}"
  found = {first, other, identify_network(name.replace("church", "bedroom"))}
  write_tokenizer(folder, more=("new",))
  found |= {identify_network(name), identify_network("clip")}
  assert len({each.sha256 for each in found}) == 5


def test_titles_are_short(folder):
  assert rp.load_clip(folder, classes="church,bedroom").name == f"clip:{folder}#church,bedroom"
  title = clip_words.read_words([f"class {n}" for n in range(40)]).title("f")
  assert (len(title) < 90, title[-14:]) == (True, "… (40 classes)")


# ---- refusals ----


@pytest.mark.parametrize(
  ("classes", "templates", "says"),
  [
    ("church", None, r"classes must be 2..4096 words, or one of .*mepp18-private, got 1: 'church'"),
    ("church,,bedroom", None, "got 3: 'church', '', 'bedroom'"),
    ([f"class {n}" for n in range(5000)], None, "got 5000: 'class 0'"),
    ("living_room,church,Living room", None, "must be different, got 'living room' again"),
    ("church,bedroom", "a photo", "must hold {} once, where the class stands, got 'a photo'"),
    ("church,bedroom", ["{}", "{} {}"], "must hold {} once, where the class stands, got '{} {}'"),
    ("church,bedroom,kitchen,garage", None, "reads 'kitchen' and 'garage' alike"),
    ("church,room,church organ,church hall", "of a {}", "reads 'church organ' and 'church hall'"),
  ],
  ids=lambda value: str(value)[:30],
)
def test_refuses_words(folder, classes, templates, says):
  with pytest.raises(WeightsError, match=re.escape(says) if "{" in says else says):
    rp.load_clip(folder, classes=classes, templates=templates)


def _without_text(folder):
  def drop(tensors):
    for name in [name for name in tensors if name.startswith("text_")]:
      del tensors[name]

  change_tensors(folder / "model.safetensors", drop)


@pytest.mark.parametrize(
  ("change", "says"),
  [
    (lambda folder: (folder / "tokenizer.json").unlink(), "lacks tokenizer.json"),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), "is no tokenizer"),
    (lambda folder: write_tokenizer(folder, end=0), "must end each text with token 11 .*got"),
    (lambda folder: write_tokenizer(folder, more=("kitchen",)), "and know 12 tokens"),
    (
      lambda folder: change_json(
        folder / "tokenizer.json", model={"type": "WordLevel", "vocab": {}, "unk_token": "?"}
      ),
      "no tokenizer that reads these words: .*UNK",
    ),
    (_without_text, "holds no text tower"),
    (lambda folder: change_json(folder / "config.json", model_type="vit"), "must hold a CLIP"),
  ],
  ids=["no tokenizer", "damaged", "end", "vocabulary", "no unknown word", "no text tower", "vit"],
)
def test_refuses_folders(folder, change, says):
  change(folder)
  with pytest.raises(WeightsError, match=says):
    rp.load_clip(folder, classes="kitchen,bedroom")


def test_a_missing_library_is_named(folder, monkeypatch):
  monkeypatch.setitem(sys.modules, "tokenizers", None)
  with pytest.raises(WeightsError, match=r"pip install 'rpfgsm-jax\[clip\]'"):
    rp.load_clip(folder, classes="church,bedroom")


# ---- commands ----


@pytest.fixture
def rpfgsm(tmp_path, folder, monkeypatch):
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  monkeypatch.chdir(tmp_path)
  small = Network(config=CONFIGS["basic"], parameters=parameters("basic"), class_names=CLASS_NAMES)
  save_network("small", small)
  (tmp_path / "photos").mkdir()
  photo = theirs.pictures(48, 40)[0].astype(np.uint8)
  Image.fromarray(photo).save("photos/photo.png")
  return lambda *words: CliRunner().invoke(cli.cli, words)


def test_protect_and_evaluate(rpfgsm, folder, tmp_path):
  command = ["protect", "photos", "--out", "out", "--network", "small", "--steps", "1"]
  judged = [*command, "--held-out", "clip:clip", "--classes", "church, bedroom"]
  result = rpfgsm(*judged)
  assert result.exit_code == 0, result.output
  record = json.loads((tmp_path / "out/.rpfgsm/job.json").read_text())
  name = f"clip:{folder}#church,bedroom"
  assert [each["name"] for each in record["settings"]["held_out"]] == [name]
  assert rpfgsm(*command).exit_code == 0  # goes on with the recorded judge
  judged[-1] = "church, hospital"
  assert rpfgsm(*judged).exit_code == 2
  judge = ["evaluate", "photos", "out", "--network", "clip:clip", "--classes", "church,bedroom"]
  result = rpfgsm(*judge)
  assert (result.exit_code, "clip:clip#church,bedroom" in result.stdout) == (0, True)


@pytest.mark.parametrize(
  ("words", "says"),
  [
    (("--network", "clip:clip"), "--network clip:clip must have classes in words"),
    (("--classes", "church,bedroom"), "--classes belongs to a network clip:FOLDER"),
    (("--held-out", "clip:clip", "--classes", "church"), "classes must be 2..4096 words"),
    (("--held-out", "clip:lost", "--classes", "church,room"), "--held-out must be a known network"),
    (
      ("--network", "clip:clip#church,room", "--held-out", "clip:clip#church,bedroom"),
      "--held-out must be a network that the attack does not use",
    ),
  ],
)
def test_commands_refuse(rpfgsm, words, says):
  result = rpfgsm("protect", "photos", "--out", "out", *words)
  assert (result.exit_code, says in " ".join(result.stderr.split())) == (2, True)


# ---- live ----


@pytest.mark.oracle
def test_zero_shot_of_transformers(folder):
  import torch
  import transformers

  classes = ("church", "hospital room", "bedroom", "room of the church")
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(folder / "tokenizer.json"), pad_token=">"
  )
  texts = [f"a photo of a {name}." for name in classes]
  read = fast(texts, padding=True, truncation=True, max_length=7, return_tensors="pt")
  model = theirs.build("clip")
  size = (1, 3, 1, 1)
  mean, deviation = (torch.tensor(each).reshape(size) for each in (theirs.MEAN, theirs.DEVIATION))
  pixels = torch.tensor(IMAGES.transpose(0, 3, 1, 2), dtype=torch.float32) / 255
  with torch.no_grad():
    expected = model(
      input_ids=read["input_ids"],
      pixel_values=(pixels - mean) / deviation,
      interpolate_pos_encoding=True,
    ).logits_per_image.numpy()
  found = call(rp.load_clip(folder, classes=classes), IMAGES)
  np.testing.assert_allclose(found, expected, rtol=1e-4)
