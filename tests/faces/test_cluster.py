"""Commands on the workers of a Dask scheduler: the same results as here, for any number of workers."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import dummy_family
from faces.command_line import done, flat, melt, refused, run
from mobility_samples import liquid, random_checkpoint
from phaseseg import trajectory
from phaseseg.checkpoint import save_checkpoint
from phaseseg.frame import Frame
from phaseseg.io import index, packing, read_frames, write_frames
from phaseseg.io.packing import unpacked
from phaseseg.io.pieces import read_pieces
from phaseseg.terminal.cluster import workers_at
from phaseseg.terminal.errors import FAILURE, INPUT, INTERRUPTED, USAGE
from phaseseg.terminal.run import frame_reader
from samples import cooled, unregister

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_report_reads_its_example_again(stand, run_xyz):
    for name, more in (("here", ()), ("there", ADDRESS)):
        done("label", run_xyz, "--report", run_xyz.with_name(name), *more)
    here, there = (run_xyz.with_name(name) for name in ("here", "there"))
    assert sorted(one.name for one in here.iterdir()) == sorted(one.name for one in there.iterdir())
    for name in ("slices.png", "histogram.png", "composition.csv"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    done("label", run_xyz, "--report", run_xyz.with_name("seen"), "--view", "--boundary-scan", *ADDRESS)


@pytest.mark.slow
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


def _numbers(content):
    """What `--json` printed, without times of the clock."""
    found = json.loads(content)
    del found["seconds"]
    for rows in found["tables"].values() if "tables" in found else ():
        for row in rows:
            for name in [name for name in row if name.endswith("(s)") or name.startswith("seconds")]:
                del row[name]
    return found


def _evaluated(*arguments):
    result = run("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return _numbers(result.stdout), flat(result.stderr)


@pytest.fixture
def evaluations(run_xyz, make_checkpoint, run_file, glass_file):
    """Files, checkpoint and options of an evaluation by family; also of one that no face knows."""
    share, two = run_xyz.with_name("share-v1.safetensors"), run_xyz.with_name("two-v1.safetensors")
    save_checkpoint(make_checkpoint(n_members=2, cut=0.33), share)
    save_checkpoint(dummy_family.checkpoint_of("crowding/two-v1"), two)
    mobile = run_xyz.with_name("mobile-v1.safetensors")  # with an uncertainty, and of no time, as the file
    save_checkpoint(random_checkpoint(2, targets=[{"name": "propensity", "types": ["A", "B"]}]), mobile)
    melts = run_xyz.with_name("a.dump"), run_xyz.with_name("b.dump")
    for k, path in enumerate(melts):
        write_frames(path, [melt(seed) for seed in range(3 * k, 3 * k + 3 - k)])
    liquids = run_xyz.with_name("liquids.xyz")
    rng = np.random.default_rng(0)
    write_frames(liquids, [
        (liquid(64, seed=seed).replace(fields={"propensity": rng.random(64)}), None) for seed in range(3)
    ])  # fmt: skip
    return {
        "segmentation": (*melts, "-m", share, "--members", "--baselines"),
        "glass": (run_file, "-m", glass_file, "--glass-below", 0.3, "--liquid-above", 1, "--members"),
        "mobility": (liquids, "-m", mobile, "--baselines"),
        "crowding": (run_xyz, *melts, "-m", two),
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", ["segmentation", "glass", "mobility", "crowding"])
def test_evaluations(stand, evaluations, family):
    dummy_family.register_all()
    try:
        here, said = _evaluated(*evaluations[family])
        there, said_there = _evaluated(*evaluations[family], *ADDRESS)
        assert here == there and stand.sent
        assert said.rpartition(" in ")[0] == said_there.rpartition(" in ")[0]
    finally:
        for name in ("crowding", "centered"):
            unregister(name)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["segmentation", "mobility", "crowding"])
def test_evaluations_by_several_processes(evaluations, family):
    """A worker process also gets a family that only this process has registered."""
    dummy_family.register_all()
    try:
        one, two = (_evaluated(*evaluations[family], "--workers", n)[0] for n in (1, 2))
        assert one == two
    finally:
        for name in ("crowding", "centered"):
            unregister(name)


@pytest.mark.slow
def test_an_evaluation_reads_its_example_again(stand, evaluations, tmp_path):
    """The report of a cluster has the same figures; no frame comes back but for the viewer."""
    for family, view in (("segmentation", ["--view"]), ("mobility", [])):
        for name, more in (("here", ()), ("there", (*ADDRESS, *view))):
            done("evaluate", *evaluations[family], "--report", tmp_path / family / name, *more)
        here, there = (tmp_path / family / name for name in ("here", "there"))
        figures = sorted(one.name for one in here.glob("*.png"))
        assert len(figures) >= 3 and figures == sorted(one.name for one in there.glob("*.png"))
        for name in figures:
            assert (here / name).read_bytes() == (there / name).read_bytes(), name
        assert ("<iframe" in (there / "report.html").read_text("utf-8")) == bool(view)
    assert stand.sent


def test_runs_of_an_evaluation_are_not_done_one_after_another(stand, evaluations):
    """Tasks of the next file are sent while those of the one before are in flight."""
    stand.in_flight = 10
    asked = []
    stand.each = staticmethod(lambda: asked.append(1))
    files = evaluations["segmentation"][:2]
    with workers_at("here") as cluster:
        found = cluster.over_runs(len, {one.name: frame_reader(one) for one in files})
        run, frame, result = next(found)
        assert (run, len(frame), result) == ("a.dump", frame.n_atoms, frame.n_atoms)
        assert len(asked) == 2 + 5  # to find the frames, and all of them


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


@pytest.mark.slow
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


@pytest.fixture
def in_layers(tmp_path, make_checkpoint, monkeypatch):
    """Arguments of commands in slabs by their word, and the folder of their files."""
    monkeypatch.setattr("phaseseg.large.store.ATOMS_PER_LAYER", 50)
    monkeypatch.setitem(read_pieces.__kwdefaults__, "rows", 300)
    pair = tmp_path / "pair-v1.safetensors"
    save_checkpoint(make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O")), pair)
    melts = [melt(seed) for seed in range(2)]
    write_frames(tmp_path / "run.dump", melts)
    molecules = [one.replace(molecules=np.arange(len(one)) // 3 + 1) for one in melts]
    write_frames(tmp_path / "molecules.dump", molecules)
    write_frames(tmp_path / "a.dump", cooled(temperatures=(1.0, 0.5), n=400))
    words = {
        "predict": ["predict", tmp_path / "run.dump", "-m", pair],
        "label": ["label", tmp_path / "run.dump", "--species", "Fe"],
        "by molecule": ["label", tmp_path / "molecules.dump", "--species", "Fe"],
        "metrics": ["metrics", tmp_path / "a.dump", "--temperatures", "1,0.5"],
    }
    return {word: [*arguments, "--slabs", 3] for word, arguments in words.items()}, tmp_path


SLABS = {"predict": "scores", "label": "labels", "by molecule": "labels", "metrics": "edges"}
"""What each slab leaves in the folder."""


def output(word, name):
    return name + {"metrics": ".csv", "predict": ".dump.gz"}.get(word, ".xyz")


def content(file):
    return b"".join(unpacked(file))


@pytest.mark.slow
@pytest.mark.parametrize("word", SLABS)
def test_slabs_of_a_frame_are_tasks(stand, in_layers, word):
    arguments, folder = in_layers[0][word], in_layers[1]
    here, there = (folder / output(word, name) for name in ("here", "there"))
    done(*arguments, "-o", here)
    assert not stand.sent
    done(*arguments, "-o", there, *ADDRESS, "--resume", folder / "shared")
    # Atoms do not come back this way: the positions of a piece have as many bytes.
    assert len(stand.sent) >= 6 and max(stand.sent) < 300 * 24
    assert content(here) == content(there)
    assert not (folder / "shared").exists() and not left(folder)


@pytest.mark.slow
@pytest.mark.parametrize("word", SLABS)
def test_slabs_continue_after_the_workers_are_lost(stand, in_layers, word):
    arguments, folder = in_layers[0][word], in_layers[1]
    here, there = (folder / output(word, name) for name in ("here", "there"))
    shared, made = ("--resume", folder / "shared"), f"*-{SLABS[word]}-*.npz"

    def lost():
        if len([*(folder / "shared").glob(made)]) == 2:
            raise RuntimeError("all workers are lost.")

    stand.each = staticmethod(lost)
    refused(FAILURE, "all workers are lost", *arguments, "-o", there, *ADDRESS, *shared)
    assert not there.exists() and not left(folder / "shared")  # no arrays
    (folder / "shared" / ".arrays-of-a-process-that-was-killed").mkdir()
    # The rest is made here.
    stand.sent.clear()
    done(*arguments, "-o", there, *shared)
    assert not stand.sent and not (folder / "shared").exists()
    done(*arguments, "-o", here)
    assert content(here) == content(there)


def test_an_interruption_of_slabs_leaves_no_arrays(stand, in_layers):
    arguments, folder = in_layers[0]["label"], in_layers[1]

    def interrupt():
        raise KeyboardInterrupt

    stand.each = after(7, interrupt)
    shared = folder / "shared"
    result = run(*arguments, "-o", folder / "there.xyz", *ADDRESS, "--resume", shared)
    assert result.exit_code == INTERRUPTED and f"Finished slabs are in {shared}" in flat(result.stderr)
    assert not left(shared) and not (folder / "there.xyz").exists()


def test_a_full_disk_of_slabs(stand, in_layers, monkeypatch):
    arguments, folder = in_layers[0]["label"], in_layers[1]

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("phaseseg.large.disk._reserve", full)
    words = "the disk is full). Free some space, or name another folder with --resume"
    refused(FAILURE, words, *arguments, *ADDRESS, "--resume", folder / "shared")
    assert not left(folder / "shared")


@pytest.mark.parametrize("word", ["predict", "label", "metrics"])
def test_slabs_on_a_cluster_need_a_folder(stand, in_layers, monkeypatch, word):
    arguments, folder = in_layers[0][word], in_layers[1]
    refused(USAGE, "name one with --resume", *arguments, *ADDRESS)
    shared = ("--resume", folder / "shared")

    def gone():
        for arrays in (folder / "shared").glob(".arrays-*"):
            arrays.rename(folder / "elsewhere")

    stand.each = staticmethod(gone)
    refused(FAILURE, "All machines must see the folder", *arguments, *ADDRESS, *shared)
    stand.each = staticmethod(lambda: None)
    monkeypatch.setattr("phaseseg.large.kept.Kept.write", lambda *_: None)
    refused(FAILURE, "All machines must see the folder", *arguments, *ADDRESS, *shared)


def test_what_cannot_be_combined(stand, run_xyz):
    refused(USAGE, "give only one of them", "label", run_xyz, "--workers", 2, *ADDRESS)
    assert "--scheduler is ignored" in done("label", run_xyz, "--average", "0.1", *ADDRESS)
    refused(
        USAGE, "give only one of them", "evaluate", run_xyz, "-m", "gcn-3000K-v1", "--workers", 2, *ADDRESS
    )
    assert not stand.sent


@pytest.mark.slow
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
        monkeypatch.setattr(packing, "_copy", full)
    else:
        monkeypatch.setattr(packing._Counted, "write", full)
    refused(FAILURE, "out.xyz: the disk is full", "label", run_xyz, "-o", out, *ADDRESS)
    assert out.read_text() == "before" and not left(run_xyz.parent)


def test_an_output_that_workers_do_not_see(stand, run_xyz):
    def gone():
        for folder in run_xyz.parent.glob(".*.parts"):
            folder.rename(folder.with_suffix(".away"))

    stand.each = staticmethod(gone)
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


def test_a_result_that_comes_as_the_wait_for_it_ends():
    cluster = object.__new__(trajectory.Cluster)
    cluster._distributed = pytest.importorskip("distributed")

    class Late:
        def result(self, timeout=None):
            if timeout is not None:
                raise TimeoutError
            return 7

        def done(self):
            return True

    assert cluster._result(Late()) == 7


def two_workers() -> Any:
    """A cluster on this machine, for a `with` block."""
    local = pytest.importorskip("distributed").LocalCluster
    return local(n_workers=2, threads_per_worker=1, dashboard_address=None, scheduler_port=0)


@contextmanager
def one_killed(cluster: Any, folder: Path, made: str) -> Iterator[None]:
    """A worker is killed in this block, when the first file of a pattern is in a folder."""
    killed = []

    def kill() -> None:
        while not any(folder.glob(made)):
            time.sleep(0.01)
        (worker, *_) = cluster.workers.values()
        killed.append(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield
    killer.join(10)
    assert killed


def loaded_by(*words: object) -> str:
    """The exit code of a command in a process of its own, and what it loads that takes long."""
    code = """if True:
        import sys
        from phaseseg.cli import main
        try:
            main()
        except SystemExit as end:
            print(end.code or 0, sorted({"numba", "scipy", "torch", "matplotlib"} & set(sys.modules)))
    """
    run_apart = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    return run_apart.stdout.strip() + run_apart.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_that_are_killed(tmp_path: Path) -> None:
    frames = [frame for k in range(4) for frame in trajectory_of()]
    write_frames(tmp_path / "run.xyz", [f.replace(timestep=k) for k, f in enumerate(frames)])
    done("label", tmp_path / "run.xyz", "-o", tmp_path / "here.xyz")
    right = (tmp_path / "here.xyz").read_bytes()
    with two_workers() as cluster:
        address = ("--scheduler", cluster.scheduler_address)
        with one_killed(cluster, tmp_path, ".*.parts/*"):
            done("label", tmp_path / "run.xyz", "-o", tmp_path / "there.xyz", *address)
        assert (tmp_path / "there.xyz").read_bytes() == right
        cluster.scale(1)
        words = ("label", tmp_path / "run.xyz", "-o", tmp_path / "one.xyz", "-q", *address)
        assert loaded_by(*words) == "0 []", "the command waits for a compiler that only workers need"
        assert (tmp_path / "one.xyz").read_bytes() == right
    assert not left(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_over_slabs(in_layers) -> None:
    words, folder = in_layers
    with two_workers() as cluster:
        address = ("--scheduler", cluster.scheduler_address)
        for word in ("label", "predict", "metrics"):
            here, there = (folder / output(word, name) for name in ("here", "there"))
            done(*words[word], "-o", here)
            with one_killed(cluster, folder / "shared", f"*-{SLABS[word]}-*"):
                done(*words[word], "-o", there, *address, "--resume", folder / "shared")
            assert content(here) == content(there), word
            assert not (folder / "shared").exists() and not left(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_evaluations_on_a_real_cluster(evaluations, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(index, "cache_folder", lambda: tmp_path / "cache")
    with two_workers() as cluster:
        for family in ("segmentation", "glass", "mobility"):
            address = ("--scheduler", cluster.scheduler_address)
            assert _evaluated(*evaluations[family])[0] == _evaluated(*evaluations[family], *address)[0]
