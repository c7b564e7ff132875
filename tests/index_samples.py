"""Trajectories in every format that has an index of frames, plain and compressed in several ways."""

from __future__ import annotations

import bz2
import gzip

import numpy as np

from io_samples import NAMES, dump_binary, dump_text, make_frame
from phaseseg.io.packing import pack

N = 12
CHOICES = [slice(7, None), slice(-1, None), slice(2, 9, 3), slice(-5, -1, 2), slice(0, None, 5), slice(3, 4),
           slice(30, 40), slice(-3, 40)]  # fmt: skip


def frames_of(n=N, n_atoms=300):
    """Frames of different sizes, with a species that comes late."""
    made = []
    for k in range(n):
        frame = make_frame(k, n_atoms + 7 * k % 11, pbc=True).replace(timestep=10 * k)
        species = np.where(frame.species == 2, 0, frame.species) if k < 4 else frame.species
        made.append(frame.replace(species=species))
    return made


def content(form):
    made = frames_of()
    if form == "dump":
        columns = ("id", "element", "x", "y", "z")
        return "".join(dump_text(one, columns, units="real" if k == 0 else "metal" if k == 6 else None)
                       for k, one in enumerate(made)).encode()  # fmt: skip
    if form == "bin":
        return b"".join(dump_binary(one, ["id", "type", "x", "y", "z"]) for one in made)
    if form == "xyz":
        lines = []
        for one in made:
            cell = " ".join(map(repr, one.cell.ravel().tolist()))
            lines += [
                str(len(one)),
                f'Lattice="{cell}" Properties=species:S:1:pos:R:3 timestep={one.timestep}',
            ]
            lines += [f"{NAMES[s]} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in
                      zip(one.species, one.positions.tolist(), strict=True)]  # fmt: skip
            lines += ["", ""] if one.timestep % 30 == 0 else []
        return ("\n".join(lines) + "\n").encode()
    if form == "XDATCAR":
        text = ""
        for k in range(N):
            counts = np.bincount(made[0].species, minlength=3) + (k > 6)
            if k in (0, 7):  # the header changes within the file
                text += f"title\n1.0\n{10 + k} 0 0\n0 11 0\n0 0 12\nFe Mg O\n{' '.join(map(str, counts))}\n"
            rows = np.random.default_rng(k).random((counts.sum(), 3))
            text += f"Direct configuration= {k + 1:5d}\n"
            text += "".join("  {:.6f} {:.6f} {:.6f}\n".format(*row) for row in rows)
        return text.encode()
    text = ""
    for k, one in enumerate(made):
        text += f"water t= {k}.0\n{len(one)}\n"
        for row, (s, p) in enumerate(zip(one.species.tolist(), one.positions.tolist(), strict=True)):
            text += (
                f"{row + 1:5d}SOL  {NAMES[s]:>5}{row + 1:5d}" + "".join(f"{v / 10:8.3f}" for v in p) + "\n"
            )
        text += "   2.00000   2.10000   2.20000\n"
    return text.encode()


def packed(data, suffix):
    if suffix == ".members.gz":  # as bgzip and joined files have them
        return b"".join(gzip.compress(data[k : k + 20_000]) for k in range(0, len(data), 20_000))
    if suffix == ".members.zst":
        return b"".join(pack(data[k : k + 20_000], "a.zst") for k in range(0, len(data), 20_000))
    if suffix == ".bz2":
        return bz2.compress(data)
    return pack(data, suffix)
