"""Repositories fetched by huggingface_hub itself, from a server of our own on this machine."""

import json
import shutil
import sys
import time

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from huggingface_hub import constants
from models import hub_server
from models.published_parity import change_json
from oracles import published_models as theirs

import rpfgsm_jax as rp
from rpfgsm_jax import cli
from rpfgsm_jax.models import hub, tensor_files
from rpfgsm_jax.models.fetch import DownloadError
from rpfgsm_jax.models.parameters import WeightsError

VIT = hub.parse_wanted("hf:them/vit")


@pytest.fixture
def server(monkeypatch, tmp_path):
  for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "theirs"))
  monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between its attempts
  with hub_server.running() as server:
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    server.repositories["them/vit"] = shutil.copytree(theirs.GOLDEN / "vit", tmp_path / "vit")
    yield server
  huggingface_hub.close_session()


def rpfgsm(*arguments):
  return CliRunner().invoke(cli.cli, arguments)


# ---- what is fetched ----


def test_a_fetched_network_has_a_name_and_its_commit(server):
  server.repositories[hub.SHORT_NAMES["dinov2-small"]] = theirs.GOLDEN / "dinov2"
  done = rpfgsm("weights", "fetch", "dinov2-small")
  assert (done.exit_code, done.stdout.split(":")[0]) == (0, "hf/facebook--dinov2-small")
  directory = rp.available_networks()["hf/facebook--dinov2-small"]
  record = json.loads((directory / hub.RECORD_FILE).read_bytes())
  assert (record["commit"], record["revision"]) == (hub_server.COMMIT, None)
  assert sorted(path.name for path in directory.iterdir()) == sorted(
    ["hub.json", "config.json", "model.safetensors", "preprocessor_config.json"]
  )
  listed = [line for line in rpfgsm("weights", "list").stdout.splitlines() if "hf/" in line]
  assert len(listed) == 1
  assert f"fetched, commit {hub_server.COMMIT}, in " in listed[0]
  image = theirs.pictures(*theirs.SIZES["dinov2"])[0]
  expected = rp.load_classifier(theirs.GOLDEN / "dinov2")(image)
  assert np.array_equal(rp.load_classifier("hf/facebook--dinov2-small")(image), expected)
  assert rp.load_embedder("hf/facebook--dinov2-small").features(image)[0].size


def test_what_is_there_needs_no_network_and_is_checked(server):
  directory = hub.fetch_from_hub(VIT)
  server.repositories.clear()
  assert hub.fetch_from_hub(VIT) == directory
  (directory / "model.safetensors").write_bytes(b"short")
  with pytest.raises(DownloadError, match=r"has 5 bytes, not \d+ as them/vit has; delete "):
    hub.fetch_from_hub(VIT)


def test_a_revision_is_a_network_of_its_own(server):
  hub.fetch_from_hub(VIT)
  directory = hub.fetch_from_hub(hub.parse_wanted("hf:them/vit@v1"))
  assert {"hf/them--vit", "hf/them--vit@v1"} <= set(rp.available_networks())
  assert json.loads((directory / hub.RECORD_FILE).read_bytes())["revision"] == "v1"


def test_a_download_goes_on_where_it_stopped(server, monkeypatch):
  monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
  server.cut = [1000]
  hub.fetch_from_hub(VIT)
  pieces = [wanted for name, wanted in server.sent if name == "model.safetensors"]
  assert pieces == ["", "bytes=1000-"]


def test_an_interrupted_download_keeps_whole_files_and_is_not_listed(server):
  server.cut = [0] * 20
  with pytest.raises(DownloadError, match=r"cannot download them/vit .* came whole are kept"):
    hub.fetch_from_hub(VIT)
  assert "hf/them--vit" not in rp.available_networks()
  server.cut.clear()
  server.sent.clear()
  hub.fetch_from_hub(VIT)
  assert server.sent == [("model.safetensors", "")]


def test_shards_and_pickles_come_only_without_one_safetensors_file(server):
  folder = server.repositories["them/vit"]
  (folder / "pytorch_model.bin").write_bytes(b"not wanted")
  (folder / "model.fp16.safetensors").write_bytes(b"not wanted")
  fetched = hub.fetch_from_hub(VIT)
  assert [path.name for path in tensor_files.tensor_files(fetched)] == ["model.safetensors"]
  assert not (fetched / "pytorch_model.bin").exists()
  (folder / "model.fp16.safetensors").unlink()
  tensors = safetensors.numpy.load_file(folder / "model.safetensors")
  (folder / "model.safetensors").unlink()
  shards = {name: f"model-0000{n % 2 + 1}-of-00002.safetensors" for n, name in enumerate(tensors)}
  for shard in set(shards.values()):
    some = {name: value for name, value in tensors.items() if shards[name] == shard}
    safetensors.numpy.save_file(some, folder / shard)
  (folder / tensor_files.INDEX).write_text(json.dumps({"weight_map": shards}))
  sharded = hub.fetch_from_hub(hub.parse_wanted("hf:them/vit@v1"))
  assert len(tensor_files.tensor_files(sharded)) == 2


def test_files_of_the_librarys_own_cache_are_taken_from_there(server):
  huggingface_hub.HfApi().snapshot_download("them/vit")
  server.sent.clear()
  hub.fetch_from_hub(VIT)
  assert server.sent == []


# ---- what is refused ----


def test_a_private_repository_needs_a_token(server, monkeypatch):
  server.private.add("them/vit")
  with pytest.raises(DownloadError, match=r"them/vit is unknown .* no token is set: .* HF_TOKEN"):
    hub.fetch_from_hub(VIT)
  monkeypatch.setenv("HF_TOKEN", "hf_wrong")
  with pytest.raises(DownloadError, match="the token in use may not see it"):
    hub.fetch_from_hub(VIT)
  monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
  assert hub.fetch_from_hub(VIT).is_dir()


@pytest.mark.parametrize(
  ("wanted", "message"),
  [
    ("hf:them/none", "them/none is unknown to .*check the spelling"),
    ("hf:them/vit@v2", "them/vit has no revision 'v2'; name a branch, tag or commit"),
    ("hf:them/a--b", "them/a--b is no repository's name"),
  ],
)
def test_unknown(server, wanted, message):
  with pytest.raises(DownloadError, match=message):
    hub.fetch_from_hub(hub.parse_wanted(wanted))


def test_terms_that_are_not_agreed_to(server):
  server.gated.add("them/vit")
  with pytest.raises(DownloadError, match="asks for consent: agree to its terms"):
    hub.fetch_from_hub(VIT)


def test_without_network_or_library(server, monkeypatch):
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set; unset it, or give a folder"):
    hub.fetch_from_hub(VIT)
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
  done = rpfgsm("weights", "fetch", "hf:them/vit")
  assert done.exit_code == 1
  assert "is there a network?" in done.stderr
  assert "give the folder instead" in done.stderr
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(DownloadError, match=r"pip install 'rpfgsm-jax\[hub\]'"):
    hub.fetch_from_hub(VIT)


def test_what_cannot_be_used_is_not_downloaded(server, monkeypatch):
  folder = server.repositories["them/vit"]
  monkeypatch.setattr(tensor_files, "available_memory", lambda: 1000)
  with pytest.raises(WeightsError, match=r"them/vit is too large for the memory: .* twice that"):
    hub.fetch_from_hub(VIT)
  change_json(folder / "config.json", model_type="bert")
  with pytest.raises(WeightsError, match=r"one of \['clip', .*'vit'\], got 'bert'"):
    hub.fetch_from_hub(hub.parse_wanted("hf:them/vit@v1"))
  assert {name for name, _ in server.sent} == {"config.json"}
  (folder / "model.safetensors").rename(folder / "tf_model.h5")
  with pytest.raises(WeightsError, match=r"got \[.*'tf_model.h5'\]; .*save_pretrained"):
    hub.fetch_from_hub(VIT)
  (folder / "config.json").unlink()
  with pytest.raises(WeightsError, match=r"them/vit has no config\.json"):
    hub.fetch_from_hub(VIT)


def test_what_does_not_load_is_removed(server, tmp_path):
  folder = server.repositories["them/vit"]
  (folder / "model.safetensors").unlink()
  (folder / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
  with pytest.raises(WeightsError, match=r"them/vit cannot be used and is removed: .*os\.system"):
    hub.fetch_from_hub(VIT)
  assert "hf/them--vit" not in rp.available_networks()
  assert list((tmp_path / "cache" / "downloads" / "hf").iterdir()) == []


def test_loading_asks_for_memory_as_well(monkeypatch):
  monkeypatch.setattr(tensor_files, "available_memory", lambda: 1000)
  with pytest.raises(WeightsError, match="is too large for the memory"):
    rp.load_classifier(theirs.GOLDEN / "vit")


@pytest.mark.parametrize(
  "text", ["vit", "hf:vit", "hf:../x", "hf:a/b@../../c", "hf:a/b/c", "hf:a/b@"]
)
def test_what_is_no_name(text):
  done = rpfgsm("weights", "fetch", text)
  assert done.exit_code == 2
  assert "dinov2-small" in done.stderr
