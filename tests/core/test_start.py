"""What a command loads before it works. `tests/benchmarks/test_start_speed.py` measures the time."""

import json
import os
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


COMPILES = """
import json, sys
from numba.core import event

names, words = [], sys.argv[1:]

class Note(event.Listener):
    def on_start(self, happened):
        function = happened.data["dispatcher"].py_func
        if function.__module__.startswith("phaseseg"):
            names.append(f"{function.__module__}.{function.__qualname__}")

    def on_end(self, happened):
        pass

event.register("numba:compile", Note())
from phaseseg.cli import main
for command in ("label", "predict"):
    names.append(command)
    sys.argv[1:] = command, *words
    try:
        main()
    except SystemExit as end:
        assert not end.code
print(json.dumps(names))
"""


@pytest.mark.slow
def test_few_functions_are_compiled_at_the_first_use(tmp_path, small):
    """By label, and by predict after it."""
    file = tmp_path / "melt.dump"
    write_frames(file, small[3000][:1])
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, str(file), "-o", str(tmp_path / "out.xyz"), "-q"],
        # As many functions without optimization, which is faster.
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = json.loads(done.stdout.splitlines()[-1])
    of_label = names.index("predict") - 1
    assert 35 < of_label <= 50 and 30 < len(names) - of_label - 2 <= 43, names
    # The same for arguments of other types doubles the work.
    again = {name for name in names if names.count(name) > 1}
    assert again <= {"phaseseg.compiled.products.product"}


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
