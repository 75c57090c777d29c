"""What a comparison found, as tables and as a few lines for a terminal."""

from collections.abc import Sequence

from rpfgsm_jax.comparison.outcome import ORIGINAL, PROTECTED, FolderComparison
from rpfgsm_jax.report import Cell, Table, plain, printable
from rpfgsm_jax.report.cells import number_cell, rate_cell

_TOPS = (1, 5)
_INTERVAL = "In brackets: 95 % Wilson interval over photos, a photo's defenses averaged first."
NO_BRISQUE = (
  "BRISQUE is n/a: LIVE's model is not here; run 'rpfgsm weights fetch brisque', or name the "
  "folder of its files allmodel and allrange in RPFGSM_BRISQUE."
)
_MEASURES = (
  ("psnr", "PSNR, dB (higher is better)", 1, 1),
  ("ssim", "SSIM (higher is better)", 1, 3),
  ("mad", "MAD (lower is better)", 1, 1),
  ("scielab", "S-CIELAB, Delta E (lower is better)", 1, 2),
  ("brisque", "BRISQUE (lower is better)", 1, 1),
  ("brisque_original", "BRISQUE of the originals", 1, 1),
  ("changed", "values changed, %", 100, 1),
  ("l0", "L0: values changed", 1, 0),
  ("l2", "L2, gray levels", 1, 0),
  ("linf", "L-inf: largest change, gray levels", 1, 1),
)
_OF_PHOTOS = {"psnr": 1, "ssim": 3, "mad": 1, "scielab": 2, "brisque": 1, "linf": 0}


def tables(comparison: FolderComparison) -> list[Table]:
  """Returns all tables of a report."""
  groups = {
    "no defense": (0,),
    **comparison.families,
    f"mean of {len(comparison.defended)} defenses": comparison.defended,
  }
  return _tables(comparison, groups)


def summary(comparison: FolderComparison) -> str:
  """Returns the lines that a user reads in the terminal.

  Args:
    comparison: from `compare_folders`.

  Returns:
    Several lines without a line feed at the end.
  """
  found = _tables(comparison, {"no defense": (0,), "defended": comparison.defended})
  lines = [
    about(comparison),
    *(plain(table) for table in found),
    f"In brackets: 95 % intervals. Defended: mean of {len(comparison.defended)} defenses.",
    *left_out(comparison, most=3),
  ]
  if not comparison.has_brisque:
    lines.append(NO_BRISQUE)
  return "\n\n".join(lines)


def _tables(comparison: FolderComparison, groups: dict[str, Sequence[int]]) -> list[Table]:
  found = [misled_table(comparison, groups, true_class=False)]
  if comparison.labeled:
    found.append(misled_table(comparison, groups, true_class=True))
  if comparison.training is not None:
    found.append(detection_table(comparison))
  if any(photo.same_size for photo in comparison.photos):
    found.append(quality_table(comparison))
  return found


def about(comparison: FolderComparison) -> str:
  """Returns one sentence: what was compared."""
  count = len(comparison.photos)
  return printable(
    f"{count:,} {'pair' if count == 1 else 'pairs'}: {comparison.original} and what was made of it "
    f"in {comparison.protected}."
  )


def left_out(comparison: FolderComparison, *, most: int) -> list[str]:
  """Returns a sentence for each reason why something was left out; at most so many names each."""
  different = [photo.name for photo in comparison.photos if not photo.same_size]
  unchanged = [photo.name for photo in comparison.photos if photo.same_size and photo.unchanged]
  kinds = (
    ("left out because of errors in reading", comparison.failures),
    ("without a partner among the protected photos", comparison.only_original),
    ("without a partner among the originals", comparison.only_protected),
    ("left out because of several possible partners", comparison.ambiguous),
    ("of another size than the original, so that only networks judge them", different),
    ("without any change, left out of PSNR", unchanged),
    ("with losses in reading", comparison.notes),
  )
  sentences = []
  for what, names in kinds:
    if names:
      more = f"; and {len(names) - most:,} more" if len(names) > most else ""
      files = "file" if len(names) == 1 else "files"
      listed = "; ".join(names[:most])
      sentences.append(printable(f"{len(names):,} {files} {what}: {listed}{more}"))
  return sentences


def misled_table(
  comparison: FolderComparison, groups: dict[str, Sequence[int]], *, true_class: bool
) -> Table:
  """Returns misleading rates of each network, of the originals and of the protected photographs."""
  lines = []
  for network in comparison.networks:
    count = int((network.labels >= 0).sum()) if true_class else len(comparison.photos)
    for version, title in ((ORIGINAL, "original"), (PROTECTED, "protected")):
      cells = [
        rate_cell(network.rate(version, settings, top=top, true_class=true_class))
        for settings in groups.values()
        for top in _TOPS
      ]
      lines.append([network.name, title, Cell(f"{count:,}", count), *cells])
  columns = [f"{name}, top-{top}" for name in groups for top in _TOPS]
  about_class = "the true class" if true_class else "the network's own answer on the original"
  note = (
    f"Photos in % where {about_class} is no longer among the first one or five. Lines 'original': "
    "the same of the original photos, what the defenses alone do"
    + (" and what the network gets wrong" if true_class else "")
    + f". Each family of defenses averaged over its parameters. {_INTERVAL}"
  )
  return Table(f"Misled about {about_class}, %", ("network", "", "photos", *columns), lines, note)


def detection_table(comparison: FolderComparison) -> Table:
  """Returns how many photographs detectors flag as adversarial."""
  families = list(comparison.families.values())
  lines = []
  for network in comparison.networks:
    for version, title in ((ORIGINAL, "original"), (PROTECTED, "protected")):
      cells = [rate_cell(network.detection(version, [group])) for group in families]
      cells.append(rate_cell(network.detection(version, families)))
      lines.append([network.name, title, *cells])
  count = len(comparison.networks[0].training)
  note = (
    "Photos flagged as adversarial, in %, Eq. 4; lower is better. A detector is a network and a "
    "family of defenses, joined by the largest distance; its threshold passes 95 % of "
    f"{count:,} clean training photos. Lines 'original' are the rate of false alarms. In "
    "brackets: 95 % Wilson interval over photos, a photo's detectors averaged first."
  )
  return Table(
    f"Detected, %, thresholds from {count:,} clean photos",
    ("network", "", *comparison.families, "mean"),
    lines,
    note,
  )


def quality_table(comparison: FolderComparison) -> Table:
  """Returns the size of the change and the quality of the protected photographs."""
  lines = []
  for name, title, factor, digits in _MEASURES:
    values = factor * comparison.values(name)
    numbers = [values.mean(), values.min(), values.max()] if values.size else [None] * 3
    cells = [number_cell(each, digits) for each in numbers]
    lines.append([title, *cells, Cell(f"{values.size:,}", values.size)])
  note = (
    "At the size of the files, of pairs whose two files have one size. L0, L2 and L-inf are of the "
    "difference, all pixels and colors."
  )
  if not comparison.has_brisque:
    note += f" {NO_BRISQUE}"
  return Table("Image quality", ("measure", "mean", "least", "largest", "photos"), lines, note)


def photo_table(comparison: FolderComparison, most: int) -> Table:
  """Returns one line a photograph, of the first `most`."""
  protected = comparison.photos[:most]
  lines = []
  for place, photo in enumerate(protected):
    ranks = [network.ranks[PROTECTED][place] for network in comparison.networks]
    undefended = sum(int(each[0] >= 1) for each in ranks)
    defended = sum(int((each[1:] >= 1).sum()) for each in ranks)
    shares = defended / (len(ranks) * len(comparison.defended))
    cells = [number_cell(photo.measures[name], digits) for name, digits in _OF_PHOTOS.items()]
    misled = Cell(f"{undefended} of {len(ranks)}", undefended)
    lines.append([photo.name, misled, Cell(f"{100 * shares:.0f} %", shares), *cells])
  note = "Networks whose own answer on the original is no longer their first one."
  if len(comparison.photos) > most:
    note += f" The first {most:,} of {len(comparison.photos):,} photos; rows.jsonl has all."
  columns = ("photo", "misled", "misled, defended", "PSNR", "SSIM", "MAD", "S-CIELAB")
  columns += ("BRISQUE", "L-inf")
  return Table("Photos", columns, lines, note)
