"""What a command loads before it works. `tests/benchmarks/test_start_speed.py` measures the time."""

import json
import subprocess
import sys

import pytest

from phaseseg.io import read_frames, write_frames

SEES = """
import atexit, json, sys
from phaseseg.compiled.cache import Cache

loaded, load = [], Cache.load_overload

def note(self, *types):
    found = load(self, *types)
    loaded.append((self._py_func.__qualname__, found is not None))
    return found

Cache.load_overload = note
atexit.register(lambda: print(json.dumps([loaded, sorted(sys.modules)])))
from phaseseg.cli import main
main()
"""
HEAVY = (
    "numba.np.arrayobj", "numba.np.arraymath", "scipy.linalg", "scipy.optimize", "scipy.special", "scipy.fft",
    "scipy.stats", "ase.io", "ase.calculators", "matplotlib", "pandas", "h5py", "sklearn", "torch", "ovito",
)  # fmt: skip


def start(*words):
    done = subprocess.run(
        [sys.executable, "-c", SEES, *map(str, words)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_label_loads_few_functions_and_no_compiler(tmp_path, large):
    file = tmp_path / "melt.dump"
    write_frames(file, [large[3000]])
    words = ("label", file, "-o", tmp_path / "labels.xyz")
    start(*words)  # compiles
    functions, modules = start(*words)
    assert all(found for _, found in functions)
    assert len(functions) <= 28, functions
    assert not set(HEAVY) & set(modules)
    assert len(modules) < 850
    [frame] = read_frames(tmp_path / "labels.xyz")
    assert len(frame) == len(large[3000])
