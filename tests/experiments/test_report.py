"""The report: numbers counted by hand from rows made by hand, and what surrounds them."""

import pytest

from experiments import report, rows

SETTINGS = [
  {"name": "none", "family": "none"},
  {"name": "requantize 1", "family": "requantize"},
  {"name": "requantize 2", "family": "requantize"},
  {"name": "jpeg 75", "family": "jpeg"},
]
HEADER = {
  "kind": "run",
  "experiment": "demo",
  "command": "python experiments/run.py --data 'a|b'",
  "source": "all images of the folder my_photos",
  "groups": 3,
  "seed_given": None,
  "epsilon": 16.0,
  "confident": 0.5,
  "image_size": [12, 10],
  "class_names": [f"scene_{index}" for index in range(9)],
  "networks": [
    {"name": "x/one", "title": "one", "seen": True},
    {"name": "x/two", "title": "two", "seen": False},
  ],
  "settings": SETTINGS,
  "attacks": [
    {"name": "original", "title": "original", "note": "untouched", "passes": 0},
    {"name": "rp-fgsm", "title": "RP-FGSM", "note": "the attack", "passes": 60},
  ],
  "device": "cpu",
  "versions": {"jax": "0"},
}
END = {
  "kind": "end",
  "photos": 3,
  "verified_files": 6,
  "seconds": 12.5,
  "first_result_seconds": 4.5,
  "attacks": {"rp-fgsm": {"first_batch_seconds": 1.0, "photos_per_second": 2.5}},
}


def photo(name, attack, ranks, *, label_ranks=None, confident=True, psnr=None):
  return {
    "kind": "photo",
    "photo": name,
    "attack": attack,
    "label": None if label_ranks is None else 3,
    "psnr": psnr,
    "largest_change": 0 if psnr is None else 16,
    "ranks": ranks,
    "label_ranks": label_ranks,
    "confident": confident,
  }


CLEAN = [[0, 0, 0, 0], [0, 1, 0, 0]]
PHOTOS = [
  photo("a", "original", CLEAN, label_ranks=[[0] * 4, [2] * 4]),
  photo("a", "rp-fgsm", [[8] * 4, [8, 8, 0, 1]], label_ranks=[[8] * 4, [6] * 4], psnr=26.0),
  photo("b", "original", CLEAN, label_ranks=[[0] * 4, [0] * 4]),
  photo("b", "rp-fgsm", [[8] * 4, [4, 5, 5, 5]], label_ranks=[[8] * 4, [1] * 4], psnr=28.0),
  photo("c", "original", CLEAN, confident=False),
  photo("c", "rp-fgsm", [[8] * 4, [0, 0, 0, 0]], confident=False, psnr=30.0),
]


def make(folder, lines):
  rows.append_rows(folder / "rows.jsonl", lines)
  text = report.report_from_rows(folder)
  assert (folder / "report.md").read_text(encoding="utf-8") == text
  return text


def cells(text, heading, *names):
  """The numbers of the one table row under a heading that starts with these cells."""
  part = text.split(heading, 1)[1].split("\n\n", 2)[1]  # the table is the next paragraph
  start = f"| {' | '.join(names)} |"
  (line,) = [line for line in part.splitlines() if line.startswith(start)]
  return [cell.split(" [")[0].strip() for cell in line[len(start) :].strip(" |").split("|")]


@pytest.fixture
def text(tmp_path):
  return make(tmp_path, [HEADER, *PHOTOS, END])


UNSEEN = "two (**unseen**)"


def test_rates_are_those_counted_by_hand(text):
  top_1 = "### Top-1 misleading rate, all photos (3)"
  assert cells(text, top_1, UNSEEN, "RP-FGSM") == ["67 %", "50 %", "67 %", "56 %"]
  assert cells(text, top_1, UNSEEN, "original") == ["0 %", "50 %", "0 %", "33 %"]
  assert cells(text, top_1, "one (seen)", "RP-FGSM") == ["100 %"] * 4
  top_5 = "### Top-5 misleading rate, all photos (3)"
  assert cells(text, top_5, UNSEEN, "RP-FGSM") == ["33 %", "50 %", "33 %", "44 %"]


def test_the_interval_stands_beside_the_rate(text):
  assert "67 % [21, 94]" in text  # Wilson, 2 of 3


def test_confident_photos_have_rates_of_their_own(text):
  assert "Of 1 of the 3 photos no network was sure" in text
  heading = "### Top-1 misleading rate, photos with a confident scene (2)"
  assert cells(text, heading, UNSEEN, "RP-FGSM") == ["100 %", "75 %", "100 %", "83 %"]


def test_true_classes_have_a_section_where_the_original_shows_the_clean_error(text):
  part = text.split("## The true scene", 1)[1]
  assert "2 of 3 photos lie in a folder named after a class" in part
  heading = "### Top-1 misleading rate, all photos (2)"
  assert cells(part, heading, UNSEEN, "original") == ["50 %"] * 4
  assert cells(part, heading, UNSEEN, "RP-FGSM") == ["100 %"] * 4


def test_without_true_classes_there_is_no_such_section(tmp_path):
  lines = [row | {"label": None, "label_ranks": None} for row in PHOTOS]
  assert "The true scene" not in make(tmp_path, [HEADER, *lines, END])


def test_summary_is_about_the_unseen_network(text):
  heading = "two, held out; all photos (3):"
  assert cells(text, heading, "RP-FGSM") == ["28.0 dB", "67 %", "33 %", "56 %", "44 %"]


def test_facts(text):
  assert "`python experiments/run.py --data 'a\\|b'`" in text  # a bar would end the cell
  assert "my\\_photos" in text
  assert "drawn from the system's entropy" in text
  assert "12.5 in all, 4.5 from the start" in text
  assert "6 files were read back" in text
  assert "| RP-FGSM | the attack | 60 | 16 | 28.0 dB | 2.5 |" in text


def test_a_seed_that_was_given_is_named(tmp_path):
  assert "| seed | 5, given" in make(tmp_path, [HEADER | {"seed_given": 5}, *PHOTOS, END])


def test_an_unfinished_run_says_so_and_leaves_out_photographs_without_all_rows(tmp_path):
  text = make(tmp_path, [HEADER, *PHOTOS[:5]])
  assert "did not come to its end" in text
  assert "| photographs | 2 done" in text


def test_a_run_without_any_photograph_still_has_a_report(tmp_path):
  assert "| photographs | 0 done" in make(tmp_path, [HEADER])


def test_what_could_not_be_read_is_listed_and_cannot_break_the_page(tmp_path):
  failure = {"kind": "failure", "photo": "x", "message": "a|b\n# <c>_\udcff.jpg is broken"}
  note = {"kind": "note", "message": "d.png: transparent"}
  text = make(tmp_path, [HEADER, failure, note, *PHOTOS, END])
  assert "1 could not be read" in text
  assert "- a\\|b # \\<c>\\_\\\\xff.jpg is broken" in text
  assert "- d.png: transparent" in text


def test_views_of_few_pictures_come_with_a_warning(tmp_path):
  text = make(tmp_path, [HEADER | {"groups": 1}, *PHOTOS, END])
  assert "the true intervals are wider" in text


def test_another_file_is_refused(tmp_path):
  rows.append_rows(tmp_path / "rows.jsonl", PHOTOS)
  with pytest.raises(rows.RowsError, match="must begin with a row of kind 'run'"):
    report.report_from_rows(tmp_path)
