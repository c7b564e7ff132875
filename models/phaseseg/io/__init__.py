"""Input and output: trajectories frame by frame, tables, and files written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from phaseseg.display import Message
from phaseseg.frame import Frame, Names, Types, Units
from phaseseg.io.arrays import read_npz, read_pickle
from phaseseg.io.atoms import atoms_of_file, frame_from_atoms, read_with_ase
from phaseseg.io.copies import FrameText, copied, from_ase, text_of
from phaseseg.io.fixed_width import read_pdb
from phaseseg.io.formats import choose_format, format_of_name
from phaseseg.io.gsd_file import gsd_package, read_gsd
from phaseseg.io.lammps import read_dump
from phaseseg.io.lammps_binary import read_binary_dump
from phaseseg.io.lammps_data import read_data
from phaseseg.io.reading import Block, Reading, new_reading
from phaseseg.io.series import Files, files_of, joined
from phaseseg.io.source import ByteSource, InputError
from phaseseg.io.text import read_extxyz, read_gro
from phaseseg.io.vasp import read_poscar, read_xdatcar
from phaseseg.io.write import (
    OutputError,
    atomic_output,
    extxyz_lines,
    write_frames,
    write_json,
    write_table,
)

__all__ = [
    "FrameText",
    "InputError",
    "OutputError",
    "atomic_output",
    "format_of_name",
    "frame_from_atoms",
    "frame_texts",
    "read_frames",
    "write_frames",
    "write_json",
    "write_table",
]

_READERS: dict[str, Callable[[ByteSource, Reading], Iterator[Block]]] = {
    "lammps-dump": read_dump,
    "lammps-dump-binary": read_binary_dump,
    "lammps-data": read_data,
    "extxyz": read_extxyz,
    "poscar": read_poscar,
    "xdatcar": read_xdatcar,
    "gro": read_gro,
    "pdb": read_pdb,
    "npz": read_npz,
    "pickle": read_pickle,
}


def read_frames(
    path: Files,
    *,
    types: Types = None,
    names: Names = None,
    frames: slice | None = None,
    units: Units = "metal",
    cell: ArrayLike | str | None = None,
    dt: float | None = None,
    fields: bool = False,
    same_atoms: bool = False,
    file_format: str | None = None,
) -> Iterator[Frame]:
    """Read a file frame by frame; only one frame is in memory at a time.

    LAMMPS dumps (text and binary) and data files, extended XYZ, POSCAR, XDATCAR, GRO and PDB have readers
    here, plain or compressed (gz, zst, bz2, xz); GSD is read with the package `gsd` (an extra), in reduced
    units; everything else goes to `ase.io.iread`. NumPy archives (.npz) and pickles hold one configuration of
    a glass former in the forms of GlassBench, pyg_botan and Bapst et al. (see `phaseseg.io.arrays`); pickles
    are not executed.

    Rows keep the order of the file. Species codes mean the same in every frame, for any choice of `frames`:
    they follow the type ids if the file has them, else the order of first appearance in frame 0; species that
    appear later come last.

    Parameters
    ----------
    path : file to read, or the files of one trajectory in their order; wildcards (`run.*.dump.gz`) stand for
        all files of that kind, in the order of the numbers in their names. Frames are counted on over the
        files. Where a file begins with time steps of the file before it, as after a restart, these frames are
        left out, and a message says so.
    types : species of the types 1, 2, ... (`("Fe", "Mg")`, `"Fe,Mg"` or `{1: "Fe", 2: "Mg"}`), for dumps
        and VASP files without names or in place of the names there. Where the file has a type 0, a list
        counts from 0, and a message says so.
    names : what the names in the file stand for: atom names of GRO and PDB files, elements or other species
        (`{"MW": "X", "Me1": "C"}` or `"MW=X,Me1=C"`; X is a site without mass). Elements that atom names and
        residues do not determine are guessed, and a message says so.
    frames : which frames, counted from 0; negative numbers count from the end (which takes one
        more pass over the file). Frames left out are not parsed.
    units : "metal" (Å, ps) or "lj"; a dump that says `lj` is believed
    cell : cell of a file that has none (plain XYZ): 3 edges (Å), 3 edges and 3 angles (degrees), or the 9
        numbers of the vectors; a text like "30,30,30" too. The frames are periodic along all its axes. The
        cell of a file that has one stays as it is, with a message. "open" puts atoms without a cell into an
        open box.
    dt : ps per MD step, for `Frame.time` where the file holds no time
    fields : whether further numeric columns go into `Frame.fields`, as (n_atoms,) or (n_atoms, k) float64
    same_atoms : whether a frame of another number of atoms than the first is an error
    file_format : "lammps-dump", "lammps-dump-binary", "lammps-data", "extxyz", "poscar", "xdatcar", "gro",
        "pdb", "npz", "pickle" or an ASE format; without it the first bytes and the name of the file decide.
        "lammps-data:full" names the atom style of a data file that does not say it.

    Yields
    ------
    Frame
        With `index` k, counted from 0, and `source` "file name, frame k".

    Raises
    ------
    InputError
        At the call: for a file that is missing, empty or of an unknown format. During iteration:
        for a frame that is cut off, damaged or lacks cell, coordinates or names.
    ImportError
        For a GSD file, if the package `gsd` is not installed.
    ValueError
        For bad `types`, `names`, `frames`, `units`, `cell` or `dt`.
    """
    paths = files_of(path)
    start = partial(new_reading, types, names, units, dt, fields, cell)
    start()
    frames = frames or slice(None)
    if frames.step is not None and frames.step < 1:
        raise ValueError(f"frames are read forward: the step must be 1 or more, found {frames.step}.")
    formats = partial(choose_format, given=file_format, readers={"gsd", *_READERS})
    if formats(paths[0]) == "gsd":
        gsd_package()  # report a missing package before the first frame
    return _selected(paths, formats, start, frames, same_atoms)


def frame_texts(path: str | os.PathLike[str], chosen: Collection[int], **reading: Any) -> Iterator[FrameText]:
    """Yield some frames of a file as extended XYZ, in the order of the file, with everything that is in them.

    Extended XYZ is copied, ASE writes what it has read, and the other formats are written as `write_frames`
    does with all columns.

    Parameters
    ----------
    chosen : numbers of the frames
    reading : options of `read_frames`

    Raises
    ------
    InputError
        As `read_frames`.
    """
    path = Path(path)
    chosen_format = choose_format(path, reading.get("file_format"), {"gsd", *_READERS})
    if chosen_format == "extxyz":
        texts = copied(path)
    elif chosen_format in {"gsd", *_READERS} or ":" in chosen_format:
        options = {**reading, "fields": True, "frames": None}
        texts = (
            text_of(k, "\n".join(extxyz_lines(one))) for k, one in enumerate(read_frames(path, **options))
        )
    else:
        texts = (text_of(k, from_ase(one)) for k, one in enumerate(atoms_of_file(path, chosen_format)))
    last = max(chosen, default=-1)
    for text in texts:
        if text.index in chosen:
            yield text
        if text.index >= last:
            return


def _blocks(path: Path, chosen: str, reading: Reading, first: int = 0) -> Generator[Block]:
    """The frames of the file, unparsed; they are counted from `first` in messages."""
    chosen, _, reading.style = chosen.partition(":")
    if chosen == "gsd":
        yield from read_gsd(path, reading)
        return
    if chosen not in _READERS:
        yield from read_with_ase(path, chosen, reading)
        return
    with closing(ByteSource(path)) as source:
        source.frame = first
        for block in _READERS[chosen](source, reading):
            yield block
            source.frame += 1


def _quiet_blocks(path: Path, chosen: str, reading: Reading, first: int) -> Iterator[Block]:
    """The blocks without warnings of NumPy: a number that is not finite is an error of `Frame`."""
    with closing(_blocks(path, chosen, reading, first)) as blocks:
        while True:
            with np.errstate(all="ignore"):
                block = next(blocks, None)
            if block is None:
                return
            yield block


def _selected(
    paths: Sequence[Path],
    formats: Callable[[Path], str],
    start: Callable[[], Reading],
    frames: slice,
    same_atoms: bool,
) -> Iterator[Frame]:
    def blocks_with(reading: Reading) -> Iterator[tuple[str, Block, list[Message]]]:
        def of_file(path: Path, first: int) -> Iterator[Block]:
            return _quiet_blocks(path, formats(path), reading, first)

        return joined(paths, of_file, reading)

    first, last, step = frames.start or 0, frames.stop, frames.step or 1
    if first < 0 or (last is not None and last < 0):
        first, last, _ = frames.indices(sum(1 for _ in blocks_with(start())))
    if last is not None and last <= first:
        return
    reading = start()
    frame_zero: Block | None = None
    n_atoms: int | None = None
    notes: list[Message] = []
    for index, (name, block, messages) in enumerate(blocks_with(reading)):
        notes += messages
        if index < first or (index - first) % step:
            if index == 0:
                frame_zero = block
            continue
        if frame_zero is not None:
            # Frame 0 fixes the species codes, so that two parts of one file use the same ones.
            # If it is damaged, that matters only when it is requested.
            with suppress(InputError):
                frame_zero()
            frame_zero = None
        reading.label, reading.index = f"{name}, frame {index}", index
        with np.errstate(all="ignore"):  # a number that is not finite is an error, not a warning before it
            frame = _frame(block, reading, index, notes)
        notes = []
        n_atoms = len(frame) if n_atoms is None else n_atoms
        if same_atoms and len(frame) != n_atoms:
            raise reading.error(
                f"has {len(frame)} atoms, but the first frame read has {n_atoms}, and every "
                "frame must have the same atoms here. Read the two parts one by one."
            )
        yield frame
        if last is not None and last <= index + step:
            return  # without a look at what follows: it may be damaged


def _frame(block: Block, reading: Reading, index: int, notes: Sequence[Message]) -> Frame:
    try:
        reading.messages = []
        parts = {"units": reading.units, "time": None, "timestep": None, "messages": (), **block()}
        parts = reading.with_cell(parts)
        if unused := [old for old, new in reading.renames.items() if new not in reading.names]:
            text = f"No atom or species is named {', '.join(unused)}; what names say of it has no effect."
            reading.note(text, "names-unused")
        parts["messages"] = (*notes, *parts["messages"], *reading.messages)
        if parts["time"] is None and parts["timestep"] is not None and reading.dt is not None:
            parts["time"] = parts["timestep"] * reading.dt
        return Frame(species_names=tuple(reading.names), source=reading.label, index=index, **parts)
    except InputError:
        raise
    except ValueError as error:
        said = str(error)
        raise (InputError(said) if said.startswith(reading.label) else reading.error(said)) from error
