"""A small server of our own on this machine that speaks what huggingface_hub asks of its hub."""

import contextlib
import hashlib
import http.server
import json
import pathlib
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


class Hub(http.server.ThreadingHTTPServer):
  """Serves folders as repositories: name -> folder; those in `private` only to the token."""

  daemon_threads = True

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.repositories: dict[str, pathlib.Path] = {}
    self.private: set[str] = set()
    self.gated: set[str] = set()
    self.cut: list[int] = []  # bytes after which the next answers with a file's bytes end
    self.sent: list[tuple[str, str]] = []  # (path, Range) of every file whose bytes were asked for

  @property
  def address(self) -> str:
    return f"http://127.0.0.1:{self.server_address[1]}"

  def handle_error(self, request, client_address):
    """A client that hangs up is part of the tests."""


@contextlib.contextmanager
def running():
  server = Hub()
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
  server: Hub
  protocol_version = "HTTP/1.1"

  def log_message(self, *arguments):
    pass

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
    api = parts[0] == "api"
    owner, name, verb, revision, *rest = (parts[2:] if api else parts) + ["revision", "main"]
    repository = f"{owner}/{name}"
    folder = self.server.repositories.get(repository)
    hidden = repository in self.server.private
    if folder is None or (hidden and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
      return self._refuse(401, "RepoNotFound")
    if revision not in ("main", "v1", COMMIT):
      return self._refuse(404, "RevisionNotFound")
    if not api and repository in self.server.gated:
      return self._refuse(403, "GatedRepo")
    if api and verb == "revision":
      files = [{"rfilename": file.name, "size": file.stat().st_size} for file in folder.iterdir()]
      return self._json({"id": repository, "sha": COMMIT, "siblings": files})
    if api and verb == "tree":
      return self._json(
        [
          {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _tag(file)}
          for file in folder.iterdir()
        ]
      )
    self._file(folder / rest[0])

  def _file(self, path: pathlib.Path):
    if not path.is_file():
      return self._refuse(404, "EntryNotFound")
    content, start = path.read_bytes(), 0
    wanted = self.headers.get("Range", "")
    if wanted:
      start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    self.send_response(206 if wanted else 200)
    if wanted:
      self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    body = content[start:]
    self.send_header("Content-Length", str(len(body)))
    self.send_header("ETag", f'"{_tag(path)}"')
    self.send_header("X-Repo-Commit", COMMIT)
    self.end_headers()
    if self.command == "GET":
      self.server.sent.append((path.name, wanted))
      cut = path.name.endswith((".safetensors", ".bin")) and self.server.cut
      if cut:
        body, self.close_connection = body[: self.server.cut.pop(0)], True
      self.wfile.write(body)

  def _json(self, value):
    body = json.dumps(value).encode()
    self.send_response(200)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def _refuse(self, status: int, code: str):
    self.send_response(status)
    self.send_header("X-Error-Code", code)
    self.send_header("Content-Length", "0")
    self.end_headers()


def _tag(path: pathlib.Path) -> str:
  return hashlib.sha1(path.read_bytes()).hexdigest()
