"""Compiled code on disk: what is read is what was compiled, and reading needs no compiler."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numba
import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from phaseseg.compiled.compiler import PartCompiler
from phaseseg.compiled.jit import exact_jit, jit

KERNELS = """
import numpy as np
from phaseseg.compiled.jit import jit

@jit
def inner(x):
    total = np.zeros(1)
    for i in range(len(x)):
        total[0] += x[i] ** 2
    return total[0]

@jit
def outer(x, y):
    if len(x) != len(y):
        raise ValueError("lengths")
    return inner(x) + inner(y)
"""
USE = "\nprint(kernels.outer(np.arange(3.0), np.ones(3)))"
HITS = "\nprint(sum(kernels.inner.stats.cache_hits.values()), sum(kernels.outer.stats.cache_hits.values()))"


def run(folder: Path, code: str) -> list[str]:
    """What the code prints in a process of its own, with its compiled code in the folder."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, numpy as np, kernels\n{code}"],
        env={**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kernels.py").write_text(KERNELS)
    return tmp_path


@pytest.mark.slow
def test_a_function_from_disk_is_part_of_one_that_is_compiled(folder):
    loaded = "\nprint(kernels.inner(np.arange(3.0)))"
    assert run(folder, loaded) == ["5.0"]
    assert run(folder, loaded + USE + HITS) == ["5.0", "8.0", "1", "0"]
    assert run(folder, loaded + USE + HITS) == ["5.0", "8.0", "1", "1"]


def filled(x):
    made = np.zeros(len(x), np.int16)  # a type that no other loop has
    for i in range(len(x)):
        made[i] = np.empty(3, np.int16).shape[0] + x[i]
    return made.sum()


@pytest.mark.parametrize("forced", [{}, {"forceobj": True}])
def test_the_functions_of_users_are_compiled_as_ever(forced):
    """Ours, users' and ours again share functions of numba, which are compiled for ours without an entry."""
    x = np.arange(4, dtype=np.int16)
    ours, theirs = exact_jit(FunctionType(filled.__code__, globals())), numba.jit(**forced)(filled)
    assert ours(x) == theirs(x) == 18
    assert jit(FunctionType(filled.__code__, globals()))(x) == 18
    assert gc.isenabled()
    shared = [one for one in gc.get_objects() if type(one) is CPUDispatcher and "np_zeros" in str(one)]
    assert shared
    assert all(one._compiler.pipeline_class is not PartCompiler for one in shared)


def test_types_of_calls_are_known_for_the_same_options_only():
    """Functions of numba that are compiled for sums in any order must not serve loops in which it counts."""
    from numba.core.compiler import Flags
    from numba.core.targetconfig import ConfigStack

    from phaseseg.compiled.compiler import _CallTypes

    known, usual, fast = _CallTypes(), Flags(), Flags()
    fast.fastmath = True
    with ConfigStack().enter(usual):
        of_usual = known.known()
    with ConfigStack().enter(fast):
        assert known.known() is not of_usual
    known.forget_objects()
    with ConfigStack().enter(usual.copy()):
        assert known.known() is of_usual


@pytest.mark.slow
def test_reading_imports_no_compiler_and_keeps_errors(folder):
    compilers = "\nprint(*{'scipy.linalg', 'numba.np.arrayobj', 'numba.np.arraymath'} & set(sys.modules))"
    error = "\ntry: kernels.outer(np.ones(2), np.ones(3))\nexcept ValueError as error: print(error)"
    assert len(run(folder, USE + compilers)) > 1
    assert run(folder, USE + compilers + error) == ["8.0", "lengths"]


@pytest.mark.slow
def test_what_is_changed_or_gone_is_compiled_again(folder):
    run(folder, USE)
    for file in (folder / "__pycache__").glob("kernels.outer*.nbc"):
        file.unlink()
    assert run(folder, USE + HITS) == ["8.0", "1", "0"]
    assert run(folder, USE + HITS) == ["8.0", "0", "1"]
    (folder / "kernels.py").write_text(KERNELS.replace("** 2", "** 3") + "\n")
    assert run(folder, USE + HITS) == ["12.0", "0", "0"]


@pytest.mark.slow
def test_a_function_for_compiled_callers_alone(tmp_path):
    (tmp_path / "kernels.py").write_text(
        """
import numpy as np
from phaseseg.compiled.jit import inner, jit

@inner
def half(x):
    if x < 0:
        raise ValueError("negative")
    return np.full(2, x)[1] / 2

@jit
def halves(x, n):
    return half(x) + half(n)
"""
    )
    use = "\nprint(kernels.halves(4.0, 3), kernels.half(5.0), len(kernels.half.signatures))"
    error = "\ntry: kernels.halves(1.0, -1)\nexcept ValueError as error: print(error)"
    assert run(tmp_path, use + error) == ["3.5", "2.5", "2", "negative"]
    assert run(tmp_path, use + error) == ["3.5", "2.5", "0", "negative"]  # from disk, of the caller
