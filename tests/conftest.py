"""Shared by all tests: the bundled melts, the shared data where there are any, frames of known shape."""

from __future__ import annotations

import gc
import os
import time
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from phaseseg.checkpoint import save_checkpoint
from phaseseg.io import read_frames
from phaseseg.testing import slab, sphere
from samples import TYPES, bundled, disordered_mixture, random_glass_checkpoint, share_checkpoint

HERE = Path(__file__).parent

# With Python's own 700, a tenth of the time goes into looking for garbage among the objects of libraries.
gc.set_threshold(20_000, 10, 10)


def pytest_collection_finish():
    """What is loaded by now stays; to look through it takes half a second each time."""
    gc.collect()
    gc.freeze()


_compiling = set()


@contextmanager
def _alone_with(path):
    """No other process of the tests compiles the function of this file at the same time.

    After two minutes it may: a test must not wait for ever.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for _ in range(2400):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed
                break
            except BlockingIOError:
                time.sleep(0.05)
        _compiling.add(path)
        try:
            yield
        finally:
            _compiling.remove(path)


def _compile_once(self, sig, compile=Dispatcher.compile):
    """Compile a function, or read what another process of the tests has compiled meanwhile.

    Numba's own lock comes first: threads of this process would wait for each other otherwise.
    """
    with ExitStack() as locks:
        locks.enter_context(global_compiler_lock)
        folder = self._cache.cache_path  # None if nothing is cached
        if folder is not None:
            path = Path(folder, f"{self.py_func.__module__}.{self.py_func.__qualname__}.lock")
            if path not in _compiling:
                locks.enter_context(_alone_with(path))
        return compile(self, sig)


if Dispatcher.compile.__name__ != _compile_once.__name__:  # pytest may import this file twice
    Dispatcher.compile = _compile_once


def pytest_collection_modifyitems(items):
    """What measures time and what runs the pages is slow as a whole; what is slow comes last.

    Slow tests start processes. Each would compile for itself what quick tests have not compiled yet.
    """
    for item in items:
        if {HERE / "benchmarks", HERE / "docs"} & set(item.path.parents):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def large():
    """The bundled 33,280-atom frames by temperature."""
    return {temperature: bundled(f"melt_large_{temperature}K")[-1] for temperature in (3000, 4000)}


@pytest.fixture(scope="session")
def small():
    """The bundled 520-atom trajectories by temperature."""
    return {temperature: bundled(f"melt_small_{temperature}K") for temperature in (3000, 4000)}


@pytest.fixture(scope="session")
def cooled_runs():
    """The bundled runs of a glass former, 21 configurations each from hot to cold, by name."""
    folder = files("phaseseg") / "demo"
    names = [f"glass_ka2d_s{seed}" for seed in (901, 902, 903, 904)]
    runs = {}
    for name in names:
        with as_file(folder / f"{name}.xyz.gz") as path:
            runs[name] = list(read_frames(path, units="lj"))
    return runs


@pytest.fixture
def minimized_once(monkeypatch, tmp_path_factory):
    """Tests that use this, and their processes, minimize the bundled liquid once; it takes ten seconds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    monkeypatch.setenv("PHASESEG_STRUCTURES", str(folder / "structures"))


@pytest.fixture(scope="session")
def melt_data():
    """`melt_data("control_20000K")`: the frames of a trajectory that is too large to be bundled.

    They are looked for in the folder `melt` of `PHASESEG_DATA`, else of `../shared/data`.
    """
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("PHASESEG_DATA", root.parent / "shared" / "data")) / "melt"

    def frames(name, **options):
        path = folder / f"{name}.dump.gz"
        if not path.is_file():
            pytest.skip(f"{name} is not bundled; let PHASESEG_DATA name the folder with melt/{path.name}")
        return read_frames(path, types=TYPES, **options)

    return frames


@pytest.fixture(scope="session")
def stranger():
    """`stranger("LJ.gro.gz")`: path of a public file, in the folder `strangers` of `PHASESEG_DATA`."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("PHASESEG_DATA", root.parent / "shared" / "data")) / "strangers"

    def path(name):
        if not (folder / name).is_file():
            pytest.skip(f"{name} is not bundled; let PHASESEG_DATA name the folder with strangers/{name}")
        return folder / name

    return path


@pytest.fixture(scope="session")
def slab_frame():
    """A layer of Fe, x from 10.3 to 27.8 Å in a box of 40 x 18 x 18 Å; interface of s = 1 Å."""
    return slab()


@pytest.fixture(scope="session")
def sphere_frame():
    """A droplet of Fe of radius 8 Å in a cube of 30 Å; interface of s = 1 Å."""
    return sphere()


@pytest.fixture(scope="session")
def make_checkpoint():
    """`make_checkpoint(n_members=3)`; see `samples.share_checkpoint`."""
    return share_checkpoint


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory):
    """A file with an ensemble of three such networks for Fe, Mg, Si, O, N."""
    path = tmp_path_factory.mktemp("checkpoints") / "share-v1.safetensors"
    save_checkpoint(share_checkpoint(n_members=3), path)
    return path


@pytest.fixture(scope="session")
def make_glass_checkpoint():
    """`make_glass_checkpoint(attention=True, n_members=2)`; see `samples.random_glass_checkpoint`."""
    return random_glass_checkpoint


@pytest.fixture(scope="session")
def make_disorder():
    """`make_disorder(400, dimensions=3, seed=1)`; see `samples.disordered_mixture`."""
    return disordered_mixture
