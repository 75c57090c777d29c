"""What the page asks of the server, and what nobody else may ask."""

import io
import json
import os
import stat
import time
import zipfile

import numpy as np
import pytest
from app.conftest import TOKEN, picture
from jobs.fake_protector import FakePhotoProtector
from PIL import Image
from starlette.testclient import TestClient

from rpfgsm_jax.jobs import photo_records
from rpfgsm_jax.jobs.messages import IN_WORDS

ORIGIN = "http://127.0.0.1:8377"


class Client:
  """A page's requests; `state` is what the server says of everything."""

  def __init__(self, served):
    self.served, self.http = served, TestClient(served.app(), base_url=f"{ORIGIN}/{TOKEN}/")

  def add(self, name, content=None):
    return self.http.put("photos", params={"name": name}, content=content or picture())

  @property
  def state(self):
    return self.http.get("state").json()

  def photo(self, name):
    (found,) = [each for each in self.state["photos"] if each["name"] == name]
    return found

  def protect(self, strength="medium", **params):
    answer = self.http.post("start", params={"strength": strength, **params})
    assert answer.status_code == 204, answer.text
    self.wait()

  def wait(self, until=lambda state: not state["work"]["running"]):
    ends = time.monotonic() + 60
    while not until(state := self.state):
      assert time.monotonic() < ends, state
      time.sleep(0.01)


@pytest.fixture
def client(serve):
  return Client(serve())


def test_from_photo_to_download(client):
  assert client.add("a.png").json() == {"name": "a.png"}
  client.add("trip/b.jpg", picture(1, kind="JPEG"))
  assert [each["name"] for each in client.state["photos"]] == ["a.png", "trip/b.jpg"]
  client.protect()
  work, (medium, judged) = client.state["work"], client.state["summaries"]["medium"]
  assert work["message"].startswith("2 done (2 protected), 0 failed, 0 skipped; ")
  assert "judged by 3 small networks, none like those in use" in work["message"]
  assert medium.startswith("2 photos: 2 protected, 0 partly protected")
  assert judged.startswith("Judged by 3 small networks, none like those in use; not judged by")
  assert client.photo("a.png")["results"] == {"medium": {"word": "protected", "tone": "good"}}
  one = client.http.get("result", params={"name": "trip/b.jpg", "strength": "medium"})
  assert one.headers["content-disposition"] == 'attachment; filename="b.png"'
  everything = client.http.get("results.zip", params={"strength": "medium"})
  with zipfile.ZipFile(io.BytesIO(everything.content)) as archive:
    assert archive.namelist() == ["a.png", "trip/b.png"]
    assert archive.testzip() is None
    assert archive.read("trip/b.png") == one.content
  assert Image.open(io.BytesIO(one.content)).size == (48, 40)


def test_one_photo_at_three_strengths_is_done_already_when_all_are(client):
  for number in range(3):
    client.add(f"{number}.png", picture(number))
  client.protect(strength=["gentle", "medium", "strong"], name="1.png")
  assert set(client.photo("1.png")["results"]) == {"gentle", "medium", "strong"}
  assert not client.photo("0.png")["results"]
  shown = client.http.get("shown", params={"name": "1.png", "strength": "strong"})
  assert "strong, at most 16 gray levels of 255" in shown.text
  assert shown.text.count("<img") == 3  # before, after, difference
  assert shown.text.count('class="bars"') == 3
  client.protect()
  assert client.state["work"]["message"].startswith("2 done (2 protected), 0 failed, 1 skipped")


def test_verdicts_are_said_in_the_words_of_the_command(client):
  gray = io.BytesIO()
  Image.fromarray(np.full((40, 48), 90, np.uint8)).save(gray, "PNG")
  client.add("gray.png", gray.getvalue())
  client.protect()
  assert client.photo("gray.png")["results"]["medium"]["word"] == IN_WORDS["partly"]


@pytest.mark.parametrize(
  "name",
  ["../a.png", "..", "/etc/a.png", ".a.png", "x/../../a.png", "x//a.png", "a\0.png", "", "a.txt",
   "@eaDir/a.png", "x/.hidden/a.png"],
)  # fmt: skip
def test_names_that_lead_elsewhere_or_are_no_photos_are_refused(client, name):
  answer = client.add(name)
  assert (answer.status_code, answer.text.partition(":")[0]) == (422, name.replace("\0", "\\x00"))
  left = [path for path in client.served.folder.rglob("*") if path.is_file()]
  assert left == []
  assert not list(client.served.folder.parent.glob("*.png"))


@pytest.mark.parametrize(
  "name",
  ["<img src=x onerror=alert(1)>.png", "a'\"&;$(id).png", "a%2F..%2Fb.png", "new\nline.png",
   "\N{RIGHT-TO-LEFT OVERRIDE}gnp.png", "é" * 100 + ".png", "--out.png", "*.png"],
)  # fmt: skip
def test_hostile_names_are_names(client, name):
  assert client.add(name).json() == {"name": name}
  client.protect()
  asked = {"name": name, "strength": "medium"}
  assert client.http.get("result", params=asked).status_code == 200
  assert "<img src=x" not in client.http.get("shown", params=asked).text
  with zipfile.ZipFile(io.BytesIO(client.http.get("results.zip", params=asked).content)) as archive:
    assert len(archive.namelist()) == 1


def test_a_name_too_long_for_the_disk_is_one_message(client):
  answer = client.add("x" * 300 + ".png")
  assert answer.status_code == 500
  assert "too long" in answer.text
  assert client.add("a.png").status_code == 200


@pytest.mark.parametrize("content", [b"junk", picture()[:30], b"<html></html>"])
def test_a_file_that_is_no_photo_is_refused_at_once(client, content):
  answer = client.add("broken.png", content)
  assert answer.status_code == 422
  assert answer.text.startswith("broken.png: the photo must be")
  assert client.state["photos"] == []
  assert list(client.served.session.originals.iterdir()) == []


def test_a_photo_that_turns_out_damaged_is_named_and_the_rest_is_done(client):
  whole = picture(kind="JPEG", size=(256, 256))
  client.add("damaged.jpg", whole[: len(whole) // 2])
  client.add("fine.jpg", picture(3))
  client.protect()
  assert "medium" in client.photo("fine.jpg")["results"]
  (failure,) = client.photo("damaged.jpg")["failures"].values()
  assert failure.startswith("damaged.jpg must be ")
  assert "failed: damaged.jpg must be" in client.state["work"]["message"]


def test_two_photos_of_one_name_are_kept_and_the_same_photo_is_kept_once(client):
  names = [client.add("a.png", picture(seed)).json()["name"] for seed in (0, 1, 0, 1, 2)]
  assert names == ["a.png", "a (2).png", "a.png", "a (2).png", "a (3).png"]
  assert len(client.served.session.names()) == 3


def test_stopped_and_gone_on_with_also_by_a_server_that_starts_again(client, serve, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.2)
  for number in range(6):
    client.add(f"{number}.png", picture(number))
  client.http.post("start", params={"strength": "medium"})
  assert client.http.post("start", params={"strength": "medium"}).status_code == 409
  for params in ({"name": "0.png"}, {"what": "originals"}, {"what": "everything"}):
    assert client.http.delete("photos", params=params).status_code == 409
  client.wait(lambda state: state["work"]["done"] >= 1)
  client.http.post("stop")
  client.wait()
  done = {each["name"] for each in client.state["photos"] if each["results"]}
  assert 1 <= len(done) < 6
  assert f"{6 - len(done)} left" in client.state["work"]["message"]
  kept = {path: path.read_bytes() for path in (client.served.folder / "medium").glob("*.png")}
  (client.served.session.originals / ".0123456789abcdef.partial.jpg").touch()  # of a kill
  again = Client(serve())
  assert {each["name"] for each in again.state["photos"] if each["results"]} == done
  assert not list(again.served.session.originals.glob(".*"))
  again.protect()
  assert f"{len(done)} skipped" in again.state["work"]["message"]
  assert all(each["results"] for each in again.state["photos"])
  assert all(path.read_bytes() == content for path, content in kept.items())


def test_an_end_while_it_works_is_told_from_one_while_it_does_not(client, monkeypatch):
  assert not client.served.work.end(1)
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.2)
  client.add("a.png")
  client.http.post("start", params={"strength": "medium"})
  assert client.served.work.end(60)
  assert not client.served.work.running


def test_what_fails_as_a_whole_is_said(client, monkeypatch):
  client.add("a.png")
  (client.served.folder / "medium" / ".rpfgsm").mkdir()
  (client.served.folder / "medium" / ".rpfgsm" / "job.json").write_text("{")
  client.protect()
  assert "must be the record of a job, but it is damaged" in client.state["work"]["message"]


def test_originals_go_and_results_stay_until_they_go_too(client):
  client.add("trip/a.png")
  client.add("b.png", picture(1))
  client.protect()
  assert client.http.delete("photos", params={"what": "originals"}).status_code == 204
  assert list(client.served.session.originals.iterdir()) == []
  assert not client.photo("trip/a.png")["there"]
  asked = {"name": "trip/a.png", "strength": "medium"}
  assert client.http.get("result", params=asked).status_code == 200
  assert "the original is not there any more" in client.http.get("shown", params=asked).text
  # Another photo of that name is not taken for it; the same one is.
  assert client.add("trip/a.png", picture(9)).json() == {"name": "trip/a (2).png"}
  assert client.add("trip/a.png").json() == {"name": "trip/a.png"}
  client.http.delete("photos", params={"name": "trip/a.png"})
  assert client.http.get("result", params=asked).status_code == 404
  assert not (client.served.folder / "medium" / "trip" / "a.png").exists()
  assert len(list(photo_records.read_all(client.served.folder / "medium"))) == 1
  client.http.delete("photos", params={"what": "everything"})
  assert client.state["photos"] == []
  assert not [path for path in client.served.folder.rglob("*") if path.is_file()]
  client.add("b.png")
  client.protect()
  assert client.photo("b.png")["results"]


def test_the_folder_is_for_its_user_alone(client):
  client.add("trip/a.png")
  client.protect()
  for path in (client.served.folder, *client.served.folder.iterdir()):
    assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


@pytest.mark.parametrize(
  ("headers", "status"),
  [
    ({}, 200),
    ({"origin": ORIGIN, "sec-fetch-site": "same-origin"}, 200),
    ({"origin": "http://evil.test"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://127.0.0.1:1"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"host": "evil.test"}, 400),
    ({"host": "127.0.0.1.evil.test:8377"}, 400),
    ({"host": "localhost:8377"}, 200),
  ],
)
@pytest.mark.parametrize("address", ["", "state"])
def test_other_pages_and_other_hosts_names_are_refused(client, address, headers, status):
  assert client.http.get(address, headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/", "/state", "/wrong/", "/wrong/state", f"/{TOKEN}x/state"])
def test_without_the_token_there_is_nothing(client, path):
  assert client.http.get(f"{ORIGIN}{path}").status_code == 404


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_thumbnails_are_small_and_upright(client, kind):
  content = io.BytesIO()
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned right
  Image.new("RGB", (400, 200), (200, 30, 30)).save(
    content, kind, **{"exif": exif} if kind != "GIF" else {}
  )
  client.add("a.png", content.getvalue())
  answer = client.http.get("thumbnail", params={"name": "a.png"})
  with Image.open(io.BytesIO(answer.content)) as small:
    assert small.size == ((128, 64) if kind == "GIF" else (64, 128))
  for name, status in (("b.png", 422), ("../a.png", 422)):
    assert client.http.get("thumbnail", params={"name": name}).status_code == status


def test_what_does_not_exist_is_not_served(client):
  client.add("a.png")
  for path in ("index.html", "nothing", "../session.py", "%2e%2e/session.py"):
    assert client.http.get(path).status_code == 404
  for params in ({}, {"name": "a.png"}, {"name": "a.png", "strength": "medium"}):
    assert client.http.get("result", params=params).status_code == 404
  for params in ({}, {"strength": "huge"}, {"strength": "medium", "name": "b.png"}):
    assert client.http.post("start", params=params).status_code == 422


def test_every_answer_keeps_the_page_apart(client):
  for path in ("", "app.js", "sections.css", "state", "result"):
    headers = client.http.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


def test_two_hundred_photos(client):
  for number in range(200):
    client.add(f"{number:03}.png", picture(number))
  client.protect()
  state = client.http.get("state")
  assert client.state["work"]["message"].startswith("200 done (200 protected)")
  assert len(json.dumps(state.json())) < 50_000
  with client.http.stream("GET", "results.zip", params={"strength": "medium"}) as answer:
    pieces = list(answer.iter_raw())
  assert len(zipfile.ZipFile(io.BytesIO(b"".join(pieces))).namelist()) == 200
  assert len(pieces) >= 200  # never the whole in memory


def test_where_results_get_other_names_none_is_left_behind(client):
  client.add("a.png")
  client.protect()
  client.add("a.jpg", picture(1, kind="JPEG"))
  client.protect()
  names = sorted(path.name for path in (client.served.folder / "medium").glob("*.png"))
  assert names == ["a.jpg.png", "a.png.png"]
  assert len(list(photo_records.read_all(client.served.folder / "medium"))) == 2


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_among_the_originals_is_not_followed_out_when_removed(client, tmp_path):
  outside = tmp_path / "outside.png"
  outside.write_bytes(picture())
  (client.served.session.originals / "link.png").symlink_to(outside)
  client.http.delete("photos", params={"name": "link.png"})
  assert outside.exists()
  assert client.state["photos"] == []
