"""Reading and writing against ASE (the bundled large melt, 33,280 atoms) and plain Python, in the same run.

    pytest tests/benchmarks/test_io_speed.py -s

Nothing is asserted about time: the ratios are printed.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from benchmarks.measure import MACHINE, cpu_time, scaled
from naive.columns import fixed, parse
from naive.rows import text_rows as naive_rows
from phaseseg.frame import Category
from phaseseg.io import frame_from_atoms, read_frames, write_frames
from phaseseg.io.packing import pack, unpacked
from phaseseg.io.rows import text_rows


@pytest.fixture(scope="module")
def melt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packed = files("phaseseg") / "demo" / scaled("melt_small_4000K.dump.gz", "melt_large_4000K.dump.gz")
    path = tmp_path_factory.mktemp("melt") / "melt.dump"
    first = gzip.decompress(packed.read_bytes()).split(b"ITEM: TIMESTEP")[1]
    path.write_bytes(b"ITEM: TIMESTEP" + first)
    return path


def best_time(function: Callable[[], Any], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def report(benchmark: Any, what: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    benchmark(ours)  # also compiles
    own, ase_time = best_time(ours, 5), best_time(theirs)
    benchmark.extra_info["ratio to ASE"] = ase_time / own
    print(f"\n{what}: {own * 1e3:.1f} ms, ASE {ase_time * 1e3:.0f} ms, {ase_time / own:.0f} times as quick")


@pytest.mark.parametrize("suffix", [".dump", ".xyz", ".gro"])
def test_read(benchmark, melt, tmp_path, suffix):
    path = melt
    if suffix != ".dump":
        path = tmp_path / f"melt{suffix}"
        atoms = ase.io.read(melt, format="lammps-dump-text")
        del atoms.arrays["type"]
        ase.io.write(path, atoms)
    name = {".dump": "lammps-dump-text", ".xyz": "extxyz", ".gro": "gromacs"}[suffix]
    report(
        benchmark, f"read {suffix}", lambda: next(read_frames(path)), lambda: ase.io.read(path, format=name)
    )


def test_skip_frames(benchmark, melt, tmp_path):
    path = tmp_path / "run.dump"
    path.write_bytes(melt.read_bytes() * 10)
    last = slice(9, 10)
    report(
        benchmark,
        "read the last of ten frames",
        lambda: next(read_frames(path, frames=last)),
        lambda: ase.io.read(path, 9, format="lammps-dump-text"),
    )


@pytest.mark.parametrize("suffix", [".xyz", ".xyz.gz", ".dump"])
def test_write(benchmark, melt, tmp_path, suffix):
    [frame] = read_frames(melt)
    rng = np.random.default_rng(0)
    result = {
        "phase": rng.integers(0, 3, len(frame)),
        "phase_density": rng.random(len(frame), np.float32),
        "interface_distance": rng.normal(size=len(frame)).astype(np.float32),
    }
    atoms = ase.io.read(melt, format="lammps-dump-text", order=False)
    atoms.arrays.update(result)
    assert len(frame_from_atoms(atoms)) == len(frame)
    path = tmp_path / f"out{suffix}"
    report(
        benchmark,
        f"write {suffix} (ASE: .xyz{'.gz' * path.name.endswith('.gz')})",
        lambda: write_frames(path, [(frame, result)]),
        lambda: ase.io.write(tmp_path / f"ase.xyz{'.gz' * path.name.endswith('.gz')}", atoms),
    )


@pytest.mark.parametrize("n_atoms", scaled([500], [10_000, 1_000_000]))
def test_rows_of_numbers(n_atoms):
    """The nine columns of a labeled frame, formatted by the compiled loop and by Python."""
    rng = np.random.default_rng(0)
    columns = [
        (Category(rng.integers(0, 5, n_atoms), ("Fe", "Mg", "Si", "O", "N")), "%s"),
        (rng.random((n_atoms, 3)) * 200, "%.8f"),
        (np.arange(n_atoms), "%d"),
        (rng.integers(0, 12, (n_atoms, 2)), "%d"),
        (rng.normal(size=(n_atoms, 2)).astype(np.float32), "%.9g"),
    ]
    assert b"".join(map(bytes, text_rows(columns))) == naive_rows(columns)
    own = cpu_time(lambda: [None for _ in text_rows(columns)])
    python = cpu_time(lambda: naive_rows(columns), 2)
    print(
        f"\n{n_atoms:,} rows of nine columns: {own / n_atoms * 1e9:.0f} ns a row, Python "
        f"{python / n_atoms * 1e9:.0f} ns, {python / own:.0f} times as quick ({MACHINE})"
    )


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compression(melt, tmp_path, suffix):
    """Packing and unpacking a dump, and what Python's gzip needs for it at level 4."""
    content = melt.read_bytes() * scaled(1, 10)
    path = tmp_path / f"melt{suffix}"
    path.write_bytes(pack(content, suffix))
    assert b"".join(unpacked(path)) == content
    by_python = gzip.compress(content, 4)
    for what, own, python in (
        ("packed", lambda: pack(content, suffix), lambda: gzip.compress(content, 4)),
        ("unpacked", lambda: [None for _ in unpacked(path)], lambda: gzip.decompress(by_python)),
    ):
        times = cpu_time(own), cpu_time(python)
        size = path.stat().st_size / len(by_python)
        print(
            f"\n{suffix} {what}: {times[0] / len(content) * 1e9:.1f} ns a byte, {times[1] / times[0]:.1f} "
            f"times as quick as Python's gzip, {size:.2f} of its size ({MACHINE})"
        )


@pytest.mark.parametrize("kind", ["dump", "xyz", "XDATCAR", "gro"])
@pytest.mark.parametrize("n_atoms", scaled([500], [10_000, 1_000_000]))
def test_read_per_atom(tmp_path, kind, n_atoms):
    """Time per atom of reading a frame, against splitting its lines in Python."""
    rng = np.random.default_rng(0)
    places, length = rng.random((n_atoms, 3)) * 99, "99 0 0 0 99 0 0 0 99"
    rows = "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in places.tolist())
    kinds = "rrr"
    path = tmp_path / {"XDATCAR": "XDATCAR"}.get(kind, f"melt.{kind}")
    if kind == "XDATCAR":
        text = f"melt\n1\n99 0 0\n0 99 0\n0 0 99\nFe\n{n_atoms}\nDirect configuration= 1\n{rows}"
    elif kind == "gro":
        rows = "".join(
            f"{k // 3 % 99999:5d}SOL  {'OH'[k % 3 > 0]:>5}{k % 99999:5d}{x:8.3f}{y:8.3f}{z:8.3f}\n"
            for k, (x, y, z) in enumerate(places.tolist())
        )
        text = f"water\n{n_atoms}\n{rows}9.9 9.9 9.9\n"
    elif kind == "xyz":
        rows, kinds = "".join(f"Fe {line}\n" for line in rows.splitlines()), "srrr"
        text = f'{n_atoms}\nLattice="{length}" Properties=species:S:1:pos:R:3\n{rows}'
    else:
        rows, kinds = "".join(f"{k} 1 Fe {line}\n" for k, line in enumerate(rows.splitlines(), 1)), "iisrrr"
        box = "ITEM: BOX BOUNDS pp pp pp\n0 99\n0 99\n0 99\n"
        head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{n_atoms}\n{box}"
        text = f"{head}ITEM: ATOMS id type element x y z\n{rows}"
    path.write_text(text)

    def naive():
        return fixed(rows.encode(), 20, 8, 3).astype(float) if kind == "gro" else parse(rows.encode(), kinds)

    own, python = cpu_time(lambda: next(read_frames(path)), 5), cpu_time(naive, 2)
    print(
        f"\n{kind}, {n_atoms:,} atoms: {own / n_atoms * 1e9:.0f} ns an atom, lines split in Python "
        f"{python / n_atoms * 1e9:.0f} ns, {python / own:.0f} times as quick ({MACHINE})"
    )
