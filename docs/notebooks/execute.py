"""Execute the notebooks: `make notebooks`, or `python docs/notebooks/execute.py [NAME ...] [-o FOLDER]`.

The notebooks in this folder hold no outputs, so that their changes can be read. This command runs them in an
empty folder each and writes copies with all outputs; the first error ends it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
SECONDS = 240
"""Longest time for a cell; a notebook should take less than two minutes."""


def execute(source: Path, target: Path) -> float:
    """Run a notebook and write it with its outputs; return the seconds that it took."""
    notebook = nbformat.read(source, as_version=4)
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    nbformat.write(notebook, target)
    return perf_counter() - start


def main() -> None:
    known = sorted(path.stem for path in HERE.glob("*.ipynb"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all by default")
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "_build" / "notebooks")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no notebook {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or known:
        target = options.output / f"{name}.ipynb"
        seconds = execute(HERE / f"{name}.ipynb", target)
        size = target.stat().st_size / 1e6
        print(f"Written: {target} ({seconds:.0f} s, {size:.1f} MB)", flush=True)


if __name__ == "__main__":
    main()
