"""Installs the wheel of `dist/` into an empty environment and uses it from another folder."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parents[1]
LARGEST = 25e6  # bytes of the wheel
_PHOTO = """
import pathlib
import rpfgsm_jax as rp
name, pixels = rp.data.sample_photos((512, 768), views=("whole",))[2]
pathlib.Path("photos").mkdir()
rp.data.write_png(f"photos/{name}.png", pixels)
"""


def main() -> int:
  """Returns the exit code: 0 where everything works."""
  (wheel,) = (ROOT / "dist").glob("*.whl")
  if wheel.stat().st_size > LARGEST:
    sys.exit(f"{wheel.name} has {wheel.stat().st_size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}")
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    install(python, str(wheel))
    run(home, python, "-m", "rpfgsm_jax", "doctor")
    asking = "import rpfgsm_jax as rp; rp.data.sample_photos((8, 8))"
    refusal = run(home, python, "-c", asking, ok=1)
    assert "pip install 'rpfgsm-jax[samples]'" in refusal, refusal
    install(python, f"{wheel}[samples]")
    run(home, python, "-c", _PHOTO)
    command = home / "venv" / "bin" / "rpfgsm"
    print(run(home, command, "protect", "photos", "--out", "done", "--report"))
    assert (home / "done" / "coffee-whole.png").is_file()
    assert (home / "done-report.html").is_file()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    print(run(home, python, "-c", "\n".join(blocks)))
  print(f"{wheel.name}: installed and used")
  return 0


def install(python: pathlib.Path, what: str) -> None:
  """Installs a wheel, with an extra perhaps."""
  options = ("--quiet", "--disable-pip-version-check")
  subprocess.run([python, "-m", "pip", "install", *options, what], check=True)


def run(home: pathlib.Path, *command: object, ok: int = 0) -> str:
  """Runs a command in a folder that is its home too; returns what it said."""
  kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
  done = subprocess.run(
    [str(word) for word in command],
    cwd=home,
    env=kept | {"HOME": str(home)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )
  if done.returncode != ok:
    sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}")
  return done.stdout


if __name__ == "__main__":
  sys.exit(main())
