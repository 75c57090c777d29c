"""What the page asks of this machine: addresses, and who may ask.

Starlette on uvicorn: routes, checked parsing of requests and streams, and nothing that a page is
made of; the page itself is plain HTML, CSS and JavaScript, which asks how far the work is once a
second. So a server that was killed and started again, and one that ends, leave nothing hanging.

Only the loopback address is listened to. Every address begins with a token that is new with each
start, so that no other web page and no other user can ask anything; requests to another host's name
(DNS rebinding) or from another page's origin are refused besides.
"""

import dataclasses
import importlib.resources
import io
import pathlib
import secrets
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from PIL import ImageOps
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rpfgsm_jax.app.session import Session
from rpfgsm_jax.app.work import BusyError, Work
from rpfgsm_jax.atomic import strict_json
from rpfgsm_jax.data.images import open_image
from rpfgsm_jax.photos.page_pictures import comparison_of
from rpfgsm_jax.photos.strength import STRENGTHS, describe_strength
from rpfgsm_jax.report.page import build_section, style_and_script
from rpfgsm_jax.report.texts import printable

HOSTS = ("127.0.0.1", "localhost")
_LARGEST = 2**30  # bytes of a photo's file
_CHUNK = 2**20
_THUMBNAIL = 128  # pixels of the longer side
_HEADERS = {
  "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cache-control": "no-store",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
}


def make_app(session: Session, work: Work, token: str) -> Starlette:
  """Returns the application, whose page is at `/TOKEN/`."""
  page = _Page(session, work)
  routes = [
    Route("/", page.index),
    Route("/state", page.state),
    Route("/photos", page.add, methods=["PUT"]),
    Route("/photos", page.remove, methods=["DELETE"]),
    Route("/start", page.start, methods=["POST"]),
    Route("/stop", page.stop, methods=["POST"]),
    Route("/shown", page.shown),
    Route("/thumbnail", page.thumbnail),
    Route("/result", page.result),
    Route("/results.zip", page.results),
    Route("/{file}", page.file),
  ]
  return Starlette(
    routes=[Mount(f"/{token}", routes=routes)],
    middleware=[
      Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
      Middleware(_OwnPage),
    ],
    exception_handlers={
      BusyError: _refused(409),
      ClientDisconnect: _refused(400),
      KeyError: _refused(404),
      OSError: _refused(500),
      ValueError: _refused(422),
    },
  )


class _OwnPage:
  """Refuses what another web page asks, and gives every answer the headers that keep it apart."""

  def __init__(self, app: ASGIApp):
    self._app = app

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      return await self._app(scope, receive, send)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    own = headers.get("origin") in (None, f"http://{headers['host']}")
    own = own and headers.get("sec-fetch-site", "none") in ("none", "same-origin")

    async def send_apart(message: Message) -> None:
      if message["type"] == "http.response.start":
        added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
        message = {**message, "headers": [*message["headers"], *added]}
      await send(message)

    answer = self._app if own else Response("Asked by another page.", status_code=403)
    await answer(scope, receive, send_apart)


class _Page:
  """The answers; those that are no coroutines run in threads."""

  def __init__(self, session: Session, work: Work):
    self._session, self._work = session, work
    files = importlib.resources.files(__package__) / "static"
    self._files = {each.name: each.read_text("utf-8") for each in files.iterdir()}
    self._files["sections.css"], self._files["sections.js"] = style_and_script()

  def index(self, request: Request) -> Response:
    return HTMLResponse(self._files["index.html"])

  def file(self, request: Request) -> Response:
    name = request.path_params["file"]
    kinds = {".css": "text/css", ".js": "text/javascript"}
    if name not in self._files or pathlib.PurePath(name).suffix not in kinds:
      raise HTTPException(404)
    return Response(self._files[name], media_type=kinds[pathlib.PurePath(name).suffix])

  def state(self, request: Request) -> Response:
    work = self._work.describe()  # first: what it has done is in what follows
    return _json({"work": work, **self._session.describe()})

  async def add(self, request: Request) -> Response:
    """Takes a photo as the body of a request, and answers with the name that it got."""
    name = request.query_params["name"]
    upload = self._session.originals / f".{secrets.token_hex(8)}.partial.jpg"
    try:
      received = 0
      with open(upload, "xb") as file:
        async for chunk in request.stream():
          received += len(chunk)
          if received > _LARGEST:
            raise ValueError(f"{name}: larger than {_LARGEST} bytes; save a smaller copy.")
          file.write(chunk)
      return _json({"name": await run_in_threadpool(self._session.keep, upload, name)})
    finally:
      upload.unlink(missing_ok=True)

  def remove(self, request: Request) -> Response:
    """Removes one photo, or of all "originals", or "everything"."""
    with self._work.paused():
      if "name" in request.query_params:
        self._session.remove(request.query_params["name"])
      elif request.query_params["what"] == "originals":
        self._session.remove_originals()
      elif request.query_params["what"] == "everything":
        self._session.remove_all()
    return Response(status_code=204)

  def start(self, request: Request) -> Response:
    """Begins to protect one photo, or all, at one strength, or all three."""
    strengths, names = request.query_params.getlist("strength"), self._session.names()
    wanted = request.query_params.getlist("name") or names
    unknown = [each for each in strengths if each not in STRENGTHS]
    if not strengths or unknown or not wanted or not set(wanted) <= set(names):
      raise ValueError("There is no such photo or strength; look at the list again.")
    self._work.start(strengths, wanted)
    return Response(status_code=204)

  def stop(self, request: Request) -> Response:
    self._work.stop()
    return Response(status_code=204)

  def shown(self, request: Request) -> Response:
    """Returns one result beside its original: pictures, what each judge sees, the verdict."""
    entry, strength = self._entry(request)
    title = describe_strength(entry.record["epsilon"], entry.record.get("masked"))
    comparison = dataclasses.replace(comparison_of(entry), title=title)
    return HTMLResponse(build_section(comparison, f"shown-{strength}", level=3))

  def thumbnail(self, request: Request) -> Response:
    """Returns the original, small and roughly: its colors as the file's numbers say."""
    content = io.BytesIO()
    picture = open_image(self._session.original(request.query_params["name"])).picture
    picture.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))  # a JPEG is decoded small at once
    small = ImageOps.exif_transpose(picture).convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(content, "JPEG")
    return Response(content.getvalue(), media_type="image/jpeg")

  def result(self, request: Request) -> Response:
    entry, _ = self._entry(request)
    return FileResponse(entry.output, filename=printable(entry.output.name))

  def results(self, request: Request) -> Response:
    strength = request.query_params["strength"]
    outputs = self._session.outputs(strength)
    headers = {"content-disposition": f'attachment; filename="protected-{strength}.zip"'}
    return StreamingResponse(_zipped(outputs), media_type="application/zip", headers=headers)

  def _entry(self, request: Request) -> tuple[Any, str]:
    name, strength = request.query_params["name"], request.query_params["strength"]
    return self._session.entry(name, strength), strength


class _Pipe:
  """What a zip is written to: keeps what has not been sent yet."""

  def __init__(self) -> None:
    self._content = bytearray()

  def write(self, content: bytes) -> int:
    self._content += content
    return len(content)

  def flush(self) -> None:
    pass

  def take(self) -> bytes:
    content, self._content = bytes(self._content), bytearray()
    return content


def _zipped(files: list[tuple[str, pathlib.Path]]) -> Iterator[bytes]:
  """Yields a zip of files under their names, piece by piece; those that are gone are left out."""
  pipe = _Pipe()
  with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
    for name, path in files:
      if not path.is_file():
        continue
      entry = zipfile.ZipInfo.from_file(path, printable(name))
      with open(path, "rb") as file, archive.open(entry, "w") as member:
        while chunk := file.read(_CHUNK):
          member.write(chunk)
          yield pipe.take()
  yield pipe.take()


def _json(values: Any) -> Response:
  return Response(strict_json(values), media_type="application/json")


def _refused(status: int) -> Callable[[Request, Exception], Response]:
  def answer(request: Request, error: Exception) -> Response:
    return Response(
      printable(str(error)) or "not found", status_code=status, media_type="text/plain"
    )

  return answer
