"""How much of their time the devices had work."""

import threading


class DeviceClock:
  """How long the devices had nothing to do between the first start and the last result."""

  def __init__(self, devices: int = 1) -> None:
    self.busy = 0.0  # seconds in which a device had at least one started batch that was not ready
    self._first: float | None = None
    self._until = [0.0] * devices
    self._lock = threading.Lock()

  def add(self, started: float, ready: float, device: int = 0) -> None:
    """Counts one batch; those of one device in the order in which they were started."""
    with self._lock:
      self._first = started if self._first is None else min(started, self._first)
      self.busy += max(ready - max(started, self._until[device]), 0.0)
      self._until[device] = max(ready, self._until[device])

  @property
  def idle_share(self) -> float | None:
    """The idle part of the time between, 0..1; None before the first result."""
    if self._first is None or max(self._until) == self._first:
      return None
    return 1.0 - self.busy / (len(self._until) * (max(self._until) - self._first))
