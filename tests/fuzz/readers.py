"""Mutated files of every kind that a reader takes."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from random import Random

from fuzz import bases
from fuzz.mutations import SUFFIXES, mutated, packed
from fuzz.report import Fault, sentence, sound
from phaseseg.frame import Frame
from phaseseg.io import InputError, read_frames

KINDS = ("dump", "bin", "xyz", "xdatcar", "gro", "poscar", "data", "pdb", "npz", "pickle", "cif", "traj")
FOLDER = Path(tempfile.gettempdir()) / f"phaseseg-fuzz-{os.getpid()}"
SHARED = Path("/dev/shm")
if SHARED.is_dir():
    FOLDER = SHARED / FOLDER.name


def write(name: str, data: bytes) -> Path:
    """Write a file of one input; the next input replaces the folder's content."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    path = FOLDER / name
    path.write_bytes(data)
    return path


def file_of(kind: str, random: Random) -> Path:
    """Return a mutated file."""
    files, suffix = bases.of(kind)
    data = random.choice(files)
    if random.random() > 0.02:
        data = mutated(data, random, text=kind not in ("bin", "traj", "npz", "pickle"))
    packing = ""
    if random.random() < 0.06:
        data, packing = packed(data, random)
    if random.random() < 0.04:
        suffix = random.choice(SUFFIXES)
    return write(f"in-put{suffix}{packing}", data)


def run(kind: str, random: Random) -> str:
    """Read one mutated file; return what became of it."""
    path = file_of(kind, random)
    options = {
        "fields": random.random() < 0.5, "same_atoms": random.random() < 0.3,
        "types": random.choice((None, None, ("Fe", "O", "Mg"), {"OW": "O", "HW1": "H", "HW2": "H"})),
        "frames": random.choice((None, None, None, slice(1, None), slice(-1, None), slice(0, None, 2))),
        "dt": random.choice((None, 0.001)),
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a stray warning of NumPy is a fault, too
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            n = 0
            for frame in read_frames(path, **options):  # type: ignore[arg-type]
                check(frame)
                n += 1
        except InputError as error:
            sentence(error, path.name)
            return "refused"
    return "read" if n else "nothing"


def check(frame: Frame) -> None:
    """Raise `Fault` unless all arrays of a frame are sound."""
    n = frame.n_atoms
    for name in ("positions", "species"):
        sound(name, getattr(frame, name), n)
    for name in ("ids", "molecules"):
        if getattr(frame, name) is not None:
            sound(name, getattr(frame, name), n)
    sound("cell", frame.cell)
    sound("origin", frame.origin)
    for name, values in frame.fields.items():  # as they are in the file; whoever uses them judges them
        if len(values) != n:
            raise Fault(f"{name} has {len(values)} rows instead of {n}")
    for kind, (codes, words) in frame.categories.items():
        sound(kind, codes, n)
        if n and codes.max() >= len(words):
            raise Fault(f"{kind} has a code without a word")
    for name in ("time", "timestep"):
        if getattr(frame, name) is not None:
            sound(name, getattr(frame, name))
    for name, value in frame.info.items():
        sound(name, value)
    if n and frame.species.max() >= len(frame.species_names):
        raise Fault("a species has no name")
    str(frame)
