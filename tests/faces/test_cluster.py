"""Commands on the workers of a Dask scheduler: the same results as here, for any number of workers."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from faces.command_line import done, melt, refused, run
from phaseseg import trajectory
from phaseseg.frame import Frame
from phaseseg.io import index, packing, read_frames, write_frames
from phaseseg.io.packing import unpacked
from phaseseg.terminal.errors import FAILURE, INPUT, INTERRUPTED, USAGE

ADDRESS = ("--scheduler", "tcp://127.0.0.1:1")


class Stand:
    """Stands for a cluster: functions and items are sent several at a time, as bytes, and done out of order.

    each : called before every task
    """

    in_flight = 4
    n_threads = 1
    each = staticmethod(lambda: None)
    sent: ClassVar[list[int]] = []

    def __init__(self, address):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, function, items, again=None):
        source, ready = iter(items), deque()
        function = pickle.dumps(function)

        def do(item):
            self.each()
            found = pickle.dumps(trajectory._call(pickle.loads(function), pickle.loads(pickle.dumps(item))))
            self.sent.append(len(found))
            return pickle.loads(found)

        while True:
            items = list(islice(source, self.in_flight - len(ready)))
            ready.extend(reversed([(item, do(item)) for item in reversed(items)]))
            if not ready:
                return
            item, result = ready.popleft()
            if again is not None and (other := again(item, result)) is not None:
                result = do(other)
            yield result


@pytest.fixture
def stand(monkeypatch, tmp_path):
    class Here(Stand):
        sent: ClassVar[list[int]] = []

    monkeypatch.setattr(trajectory, "Cluster", Here)
    monkeypatch.setattr(index, "cache_folder", lambda: tmp_path.parent / "cache")
    return Here


def trajectory_of(n=6):
    """Frames with different atoms, of which the later ones have further species."""
    frames = []
    for k in range(n):
        frame = melt(seed=k).replace(timestep=10 * k, time=0.1 * k)
        names = (*frame.species_names, *(["Mg"] if k > 1 else []), *(["Si"] if k > 3 else []))
        species = frame.species.copy()
        species[: len(names) - len(frame.species_names)] = range(len(frame.species_names), len(names))
        frames.append(frame.replace(species=species, species_names=names))
    return frames


@pytest.fixture
def run_xyz(tmp_path):
    write_frames(tmp_path / "run.xyz", trajectory_of())
    return tmp_path / "run.xyz"


def left(folder):
    """Hidden files, which no command may leave."""
    return [one.name for one in folder.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize(
    "suffix, word",
    [(suffix, ("label",)) for suffix in ("dump", "xyz", "xyz.gz", "dump.zst", "npz", "csv")]
    + [("dump", ("predict", "-m", "gcn-3000K-v1"))],
)
def test_the_output_is_that_of_one_process(stand, run_xyz, suffix, word):
    files = [run_xyz.with_name(f"{name}.{suffix}") for name in ("here", "there")]
    for file, more in zip(files, ((), ADDRESS), strict=True):
        done(*word, run_xyz, "-o", file, *more)
    one, other = (b"".join(unpacked(file)) for file in files)
    assert one == other and len(one) > 100 and stand.sent
    assert not left(run_xyz.parent)
    if suffix == "xyz.gz":  # one member, as programs that stop after the first need it
        members = []
        assert b"".join(unpacked(files[1], members=members)) == other and not members


def test_no_atoms_come_back(stand, run_xyz):
    done("label", run_xyz, "-o", run_xyz.with_name("out.xyz"), *ADDRESS)
    frame = next(read_frames(run_xyz))
    assert max(stand.sent) < 24 * len(frame), "the positions alone have as many bytes"


def test_the_report_reads_its_example_again(stand, run_xyz):
    for name, more in (("here", ()), ("there", ADDRESS)):
        done("label", run_xyz, "--report", run_xyz.with_name(name), *more)
    here, there = (run_xyz.with_name(name) for name in ("here", "there"))
    assert sorted(one.name for one in here.iterdir()) == sorted(one.name for one in there.iterdir())
    for name in ("slices.png", "histogram.png", "composition.csv"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    done("label", run_xyz, "--report", run_xyz.with_name("seen"), "--view", "--boundary-scan", *ADDRESS)


def test_metrics(stand, tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        frames = [Frame(rng.random((60, 2)) @ [[7, 0, 0], [0, 7, 0]], np.eye(3) * 7, True,
                        ["A"] * 40 + ["B"] * 20, units="lj") for _ in range(3)]  # fmt: skip
        write_frames(tmp_path / f"{name}.xyz", frames)
    for name, more in (("here", ()), ("there", ADDRESS)):
        done("metrics", tmp_path / "a.xyz", tmp_path / "b.xyz", "-o", tmp_path / f"{name}.csv", *more)
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    assert stand.sent


def test_mining(stand, tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        Frame(rng.random((n, 3)) * 6, np.eye(3) * 6, True, ["Cu"] * n)
        for n in rng.integers(3, 9, 14).tolist()
    ]
    write_frames(tmp_path / "set.xyz", frames)
    for name, more in (("here", ()), ("there", ADDRESS)):
        words = "--prune", 0.5, "--cutoff", 4, "--outliers", "-o", tmp_path / f"{name}.xyz"
        done("mine", tmp_path / "set.xyz", *words, *more)
    assert (tmp_path / "here.xyz").read_bytes() == (tmp_path / "there.xyz").read_bytes()
    assert len(stand.sent) == 14  # one at a time: there are few


def test_many_files_and_repeated_steps(stand, tmp_path):
    frames = trajectory_of()
    for k, (a, b) in enumerate([(0, 3), (2, 4), (4, 6)]):
        write_frames(tmp_path / f"part.{k}.dump.gz", frames[a:b])
    said = [
        done("label", tmp_path / "part.*.dump.gz", "-o", tmp_path / f"{name}.dump", *more)
        for name, more in (("here", ()), ("there", ADDRESS))
    ]
    assert (tmp_path / "here.dump").read_bytes() == (tmp_path / "there.dump").read_bytes()
    assert all("repeats a time step of the file before it and was left out" in text for text in said)


def test_formats_that_other_packages_read_are_sent(stand, tmp_path, run_xyz):
    from ase.io import read, write

    atoms = read(run_xyz, ":3")
    write(tmp_path / "run.traj", atoms)
    for name, more in (("here", ()), ("there", ADDRESS)):
        done("label", tmp_path / "run.traj", "-o", tmp_path / f"{name}.dump", *more)
    assert (tmp_path / "here.dump").read_bytes() == (tmp_path / "there.dump").read_bytes()


def test_frames_without_atoms_and_a_single_one(stand, tmp_path):
    frame = trajectory_of(1)[0]
    write_frames(tmp_path / "run.xyz", [frame.take([]), frame, frame.take([])])
    for name, more in (("here", ()), ("there", ADDRESS)):
        done("label", tmp_path / "run.xyz", "-o", tmp_path / f"{name}.xyz", *more)
    assert (tmp_path / "here.xyz").read_bytes() == (tmp_path / "there.xyz").read_bytes()


def test_what_cannot_be_combined(stand, run_xyz):
    refused(USAGE, "give only one of them", "label", run_xyz, "--workers", 2, *ADDRESS)
    assert "--scheduler is ignored" in done("label", run_xyz, "--average", "0.1", *ADDRESS)
    assert not stand.sent


def test_no_scheduler(monkeypatch, run_xyz):
    monkeypatch.setattr(trajectory, "WAIT", 1)
    refused(FAILURE, "no Dask scheduler answers at tcp://127.0.0.1:1", "label", run_xyz, *ADDRESS)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nonsense")
    refused(FAILURE, "no Dask scheduler answers at nonsense", "label", run_xyz)


# ------------------------------------------------------------------------------------- bad cases


def after(n, act):
    """Act before the n-th task."""
    counted = iter(range(10**6))
    return staticmethod(lambda: act() if next(counted) == n else None)


def test_an_input_that_vanishes(stand, run_xyz):
    stand.each = after(3, run_xyz.unlink)
    refused(INPUT, "there is no such file on", "label", run_xyz, "-o", run_xyz.with_name("out.xyz"), *ADDRESS)
    assert not left(run_xyz.parent) and not run_xyz.with_name("out.xyz").exists()


def test_an_input_that_changes(stand, run_xyz):
    stand.each = after(4, lambda: run_xyz.write_text("1\n\n"))
    refused(INPUT, "the file has changed since", "label", run_xyz, "-o", run_xyz.with_name("o.xyz"), *ADDRESS)
    assert not left(run_xyz.parent)


@pytest.mark.parametrize("where", ["worker", "here"])
def test_a_full_disk(stand, run_xyz, monkeypatch, where):
    out = run_xyz.with_name("out.xyz")
    out.write_text("before")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "here":
        monkeypatch.setattr(packing.shutil, "copyfileobj", full)
    else:
        monkeypatch.setattr(packing._Counted, "write", full)
    refused(FAILURE, "out.xyz: the disk is full", "label", run_xyz, "-o", out, *ADDRESS)
    assert out.read_text() == "before" and not left(run_xyz.parent)


def test_an_output_that_workers_do_not_see(stand, run_xyz):
    def gone():
        (folder,) = run_xyz.parent.glob(".*.parts")
        folder.rename(folder.with_suffix(".away"))

    stand.each = after(1, gone)
    out = run_xyz.with_name("out.xyz")
    refused(FAILURE, "Write to a disk that every worker sees", "label", run_xyz, "-o", out, *ADDRESS)


def test_an_interruption(stand, run_xyz):
    def interrupt():
        raise KeyboardInterrupt

    stand.each = after(3, interrupt)
    out = run_xyz.with_name("out.xyz")
    result = run("label", run_xyz, "-o", out, *ADDRESS)
    assert result.exit_code == INTERRUPTED and "out.xyz was not written" in result.stderr
    assert not left(run_xyz.parent) and not out.exists()


def test_an_error_in_a_frame_is_that_of_one_process(stand, run_xyz):
    run_xyz.write_text(run_xyz.read_text().replace('pbc="T T T" timestep=30', 'pbc="T X T" timestep=30'))
    said = [run("label", run_xyz, *more) for more in ((), ADDRESS)]
    assert [one.exit_code for one in said] == [INPUT, INPUT]
    assert said[0].stderr == said[1].stderr and "run.xyz, frame 3" in said[0].stderr


# ---------------------------------------------------------------------------------- a real cluster


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_that_are_killed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    frames = [frame for k in range(4) for frame in trajectory_of()]
    write_frames(tmp_path / "run.xyz", [f.replace(timestep=k) for k, f in enumerate(frames)])
    done("label", tmp_path / "run.xyz", "-o", tmp_path / "here.xyz")
    right = (tmp_path / "here.xyz").read_bytes()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, scheduler_port=0
    ) as cluster:
        address = ("--scheduler", cluster.scheduler_address)
        killed = []

        def kill() -> None:
            """Kill a worker when it has begun to write frames."""
            while not any(tmp_path.glob(".*.parts/*")):
                time.sleep(0.01)
            (worker, *_) = cluster.workers.values()
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        done("label", tmp_path / "run.xyz", "-o", tmp_path / "there.xyz", *address)
        killer.join(10)
        assert killed and (tmp_path / "there.xyz").read_bytes() == right
        cluster.scale(1)
        done("label", tmp_path / "run.xyz", "-o", tmp_path / "one.xyz", *address)
        assert (tmp_path / "one.xyz").read_bytes() == right
    assert not left(tmp_path)
