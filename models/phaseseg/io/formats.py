"""Which format a file has: by its name and its first bytes together."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Container
from pathlib import Path

from phaseseg.io.lammps_binary import is_binary_dump
from phaseseg.io.packing import bare_name
from phaseseg.io.processors import pieces_of
from phaseseg.io.reading import is_number
from phaseseg.io.source import ByteSource, InputError

_SUFFIXES = {
    ".xyz": "extxyz", ".extxyz": "extxyz", ".lammpstrj": "lammps-dump", ".dump": "lammps-dump",
    ".data": "lammps-data", ".lmp": "lammps-data", ".gro": "gro", ".pdb": "pdb", ".ent": "pdb",
    ".vasp": "poscar", ".poscar": "poscar", ".gsd": "gsd",
    ".bin": "lammps-dump-binary", ".npz": "npz", ".pickle": "pickle", ".pkl": "pickle", ".p": "pickle",
}  # fmt: skip
_PARTS = {
    r"\.dump|^dump\.": "lammps-dump", r"^data\.": "lammps-data", "xdatcar": "xdatcar",
    "poscar|contcar": "poscar",
}  # fmt: skip
# ASE's names for the formats with a reader here.
_ALIASES = {
    "lammps-dump-text": "lammps-dump", "xyz": "extxyz", "vasp-xdatcar": "xdatcar", "vasp": "poscar",
    "gromacs": "gro", "proteindatabank": "pdb",
}  # fmt: skip
# What to do with files of other programs.
_TRAJCONV = "Convert it with its topology: gmx trjconv -f FILE -s run.tpr -o run.gro."
_REMEDIES = {
    "xtc": _TRAJCONV, "trr": _TRAJCONV, "h5": "Convert it to XYZ or a LAMMPS dump.",
    "mol2": "Convert it to PDB.", "mmcif": "Convert it to PDB.",
    "csv": "Write it as XYZ: the number of atoms, a line with Lattice=\"...\", one line per atom.",
    "lammps-restart": "Convert it to a data file: lmp -restart2data FILE run.data.",
}  # fmt: skip
_RESTART = b"LammpS RestartT"
_GSD = b"\xdf\x65\xdf\x65\xdf\x65\xdf\x65"
_DATA = rb"^[ \t]*\d+[ \t]+atoms[ \t\r]*(#.*)?$", rb"\b(xlo[ \t]+xhi|avec|atom[ \t]+types)\b"
_CONFIGURATION = re.compile(r"^ *(?:direct|cartesian) configuration *=", re.MULTILINE | re.IGNORECASE)
_N_HEAD = 4096


def format_of_name(name: str) -> str:
    """Format from the name of a file, ignoring the suffix of a compression; "" if unknown.

    >>> [format_of_name(name) for name in ("dump.melt.5", "run.dump.XYZ", "XDATCAR.gz", "melt.gro", "a.csv")]
    ['lammps-dump', 'extxyz', 'xdatcar', 'gro', '']
    """
    name = bare_name(name.lower())
    suffix = "." + name.rpartition(".")[2]
    return _SUFFIXES.get(suffix) or next((form for part, form in _PARTS.items() if re.search(part, name)), "")


def format_of_content(head: bytes) -> str:
    """Format from the first bytes of a file; "" if they do not show it.

    >>> format_of_content(b"2\\nwater\\nO 0 0 0\\nH 1 0 0"), format_of_content(b"ITEM: TIMESTEP")
    ('extxyz', 'lammps-dump')
    """
    if head.startswith(_GSD):
        return "gsd"
    if is_binary_dump(head):
        return "lammps-dump-binary"
    if head.startswith(_RESTART):
        return "lammps-restart"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head.lstrip().startswith(b"ITEM:"):
        return "lammps-dump"
    # A title may say "30 atoms", too.
    if all(re.search(part, head, re.MULTILINE) for part in _DATA):
        return "lammps-data"
    text = head.decode("utf-8", "replace")
    lines = text.splitlines() + [""] * 8
    if lines[0].strip().isdecimal() and (
        _numbers(" ".join(lines[2].split()[1:]), 3)
        or (lines[2] and re.search("(lattice|properties) *=", lines[1], re.IGNORECASE))
    ):
        return "extxyz"
    if lines[1].strip().isdecimal() and re.match(r"[ \d]{5}.{10}[ \d]{5} *-?\d+\.\d", lines[2]):
        return "gro"
    if re.match("[A-Z]{3}", text) and any(
        line.startswith(("ATOM  ", "HETATM")) and is_number(line[30:38]) and is_number(line[46:54])
        for line in lines
    ):
        return "pdb"
    if _CONFIGURATION.search(text):
        return "xdatcar"
    named = not lines[5].strip()[:1].isdecimal()
    counts, mode = lines[6 if named else 5], lines[7 if named else 6].strip()[:1].lower()
    if (
        mode
        and mode in "sdck"
        and _numbers(lines[1], 1, 1)
        and all(_numbers(line, 3, 3) for line in lines[2:5])
    ):
        return "poscar" if _numbers(counts, 1) else ""
    return ""


def _numbers(line: str, n: int, most: int | None = None) -> bool:
    """Whether a line begins with `n` numbers and has at most `most` words."""
    words = line.split()
    return n <= len(words) <= (most or len(words)) and all(map(is_number, words[:n]))


def choose_format(path: Path, given: str | None, readers: Container[str]) -> str:
    """The format to read a file in: the given one, else what its first bytes show, else what its name says.

    readers : names of the formats that this package reads itself

    Raises
    ------
    InputError
        For a file that is missing or empty or of no known format.
    """
    path = pieces_of(path)[0]
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. Check the name and the folder.") from error
    except OSError as error:
        if path.is_dir():
            raise InputError(
                f"{path}: this is a folder. Give a file, or a name in quotes for several: '{path / '*'}'."
            ) from error
        raise InputError(f"{path}: cannot be opened ({error.strerror}). Give a readable file.") from error
    source = ByteSource(path)
    head = source.peek(_N_HEAD)
    source.close()
    if not head:
        raise InputError(
            f"{path.name}: the file is empty. Check that the program that writes it has finished."
        )
    if not (found := given or format_of_content(head) or format_of_name(path.name)):
        from ase.io.formats import UnknownFileTypeError, filetype

        try:
            # ASE asks a Path for read(), and does not look into Zstandard.
            zstd = path.name.lower().endswith(".zst")
            found = str(filetype(str(path) if not zstd else bare_name(path.name), read=not zstd))
        except (UnknownFileTypeError, ValueError):
            found = path.suffix
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise InputError(
                f"{path.name}: the file is not compressed as its name says, or it is damaged ({error}). "
                "Correct the suffix, or copy the file again."
            ) from error
    found = _ALIASES.get(found, found)
    if found.partition(":")[0] in readers:
        return found
    from ase.io.formats import ioformats

    if found in ioformats and ioformats[found].can_read:
        return found
    wrong = f"{path.name}: {found or 'a file without suffix'!r} is not a format that can be read."
    if remedy := _REMEDIES.get(found.lower().lstrip(".")):
        raise InputError(f"{wrong} {remedy}")
    raise InputError(
        f"{wrong} Supported are LAMMPS dumps (.dump, .lammpstrj, .bin) and data files (.data), .xyz, POSCAR, "
        "XDATCAR, .gro, .pdb, .gsd, .npz and .pickle of glass formers, and what ASE reads; if the file is "
        "one of these, name its format, for example 'lammps-dump'."
    )
