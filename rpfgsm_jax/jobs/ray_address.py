"""Whether a Ray cluster is where a user says."""

import os
import socket

from rpfgsm_jax.jobs.spec import JobError, SettingsError

ANSWER_WITHIN = 10.0  # seconds for a cluster to answer
# HTTP/2's opening: the preface and an empty SETTINGS frame. A gRPC server answers with its own.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
_SETTINGS_FRAME = b"\x04"


def check_answers(address: str) -> None:
  """Asks a cluster for a sign of life; Ray would wait two minutes and then end the process."""
  host, _, port = address.rpartition(":")
  if not host or not port.isdecimal():
    raise SettingsError(f"--address must be HOST:PORT, got {address!r}.")
  try:
    with socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN) as connection:
      if os.environ.get("RAY_USE_TLS") == "1":
        return
      connection.sendall(_GREETING)
      answer = connection.recv(4)
  except (OSError, OverflowError) as error:
    why = f"no answer within {ANSWER_WITHIN:.0f} s" if isinstance(error, TimeoutError) else error
    raise JobError(
      f"no Ray cluster at {address} ({why}); start one, or leave --address out."
    ) from error
  if answer[3:] != _SETTINGS_FRAME:
    raise JobError(
      f"no Ray cluster at {address}, but something else; check the port (6379 is usual)."
    )
