"""Folders in which photo servers and systems keep copies: thumbnails, deleted files, snapshots.

Their names tell; those that begin with a dot are hidden and left out anyway.
"""

_NAMES = {
  # Synology and QNAP: thumbnails, deleted files, snapshots, what is being copied.
  "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharesnap", "@tmp",
  "@sharebin", "@__thumb", "@upload_cache",
  # macOS beside what it writes to other systems' disks and archives.
  "__macosx", "network trash folder", "temporary items",
  # Windows, and the repair of Linux' and DOS' file systems.
  "$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "found.000",
  # Apple's iPods, and NAS systems of others.
  "ipod photo cache", "lost.dir", "~snapshot",
}  # fmt: skip
_ENDINGS = (".lrdata",)  # Lightroom's previews


def holds_copies(name: str) -> bool:
  """Says of a folder's name whether what it holds is no photo of its owner."""
  name = name.casefold()
  return name in _NAMES or name.endswith(_ENDINGS)
