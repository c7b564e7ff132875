"""Input and output: trajectories frame by frame, tables, and files written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from phaseseg.frame import Frame, Names, Types, Units
from phaseseg.io.atoms import atoms_of_file, frame_from_atoms
from phaseseg.io.copies import FrameText, copied, from_ase, text_of
from phaseseg.io.formats import choose_format, format_of_name
from phaseseg.io.gsd_file import gsd_package
from phaseseg.io.reading import new_reading
from phaseseg.io.series import Files, files_of
from phaseseg.io.source import InputError
from phaseseg.io.walk import READERS, Selection
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
        more pass over the file). Frames left out are not parsed. Where the frames of a large file begin is
        kept in the cache folder, so that they are not even read the second time.
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
    formats = partial(choose_format, given=file_format, readers={"gsd", *READERS})
    if formats(paths[0]) == "gsd":
        gsd_package()  # report a missing package before the first frame
    return iter(Selection(paths, formats, start, frames, same_atoms))


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
    chosen_format = choose_format(path, reading.get("file_format"), {"gsd", *READERS})
    if chosen_format == "extxyz":
        texts = copied(path)
    elif chosen_format in {"gsd", *READERS} or ":" in chosen_format:
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
