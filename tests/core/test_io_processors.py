"""Dumps in pieces, one file per processor: the frame is that of one file."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from io_samples import NAMES, dump_binary, dump_text, make_frame
from phaseseg.io import InputError, read_frames

COLUMNS = ("id", "type", "element", "x", "y", "z")


def frames_of(n=3):
    """The first processor has no atom of the first type, and the last one has none at all."""
    frames = []
    for k in range(n):
        frame = make_frame(k, 31).replace(timestep=10 * k)
        order = np.argsort(frame.species != 2, kind="stable")
        frames.append(frame.take(order))
    return frames


def parts(frame):
    first = int((frame.species == 2).sum())
    rows = np.arange(len(frame))
    return [frame.take(rows[:first]), frame.take(rows[first:20]), frame.take(rows[20:]), frame.take([])]


def write(folder, name="run.dump.%", frames=None, binary=False, pack=lambda data: data):
    frames = frames_of() if frames is None else frames

    def data(some):
        if binary:
            return b"".join(dump_binary(one, ["id", "type", "x", "y", "z"]) for one in some)
        return "".join(dump_text(one, COLUMNS) for one in some).encode()

    for number in range(4):
        some = [parts(one)[number] for one in frames]
        (folder / name.replace("%", str(number))).write_bytes(pack(data(some)))
    whole = folder / "whole"
    whole.mkdir(exist_ok=True)
    (whole / name.replace("%", "x")).write_bytes(data(frames))
    return folder / name, whole / name.replace("%", "x")


def values(given, **options):
    return [
        (f.timestep, f.index, f.species_names, f.species.tolist(), f.ids.tolist(), f.positions.tolist(),
         f.cell.tolist(), [str(message) for message in f.messages])
        for f in read_frames(given, **options)
    ]  # fmt: skip


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", ["run.dump.%", "run.%.dump", "%.lammpstrj"])
def test_pieces_are_one_frame(tmp_path, binary, name):
    pieces, whole = write(tmp_path, name, binary=binary)
    options = {"types": NAMES} if binary else {}
    assert values(pieces, **options) == values(whole, **options)
    for chosen in (slice(-1, None), slice(1, 2), slice(0, None, 2)):
        assert values(pieces, frames=chosen, **options) == values(whole, frames=chosen, **options)


def test_packed_pieces_and_more_than_ten(tmp_path):
    pieces, whole = write(tmp_path, "run.dump.%.gz", pack=gzip.compress)
    for number in range(4, 12):
        (tmp_path / f"run.dump.{number}.gz").write_bytes((tmp_path / "run.dump.3.gz").read_bytes())
    assert values(pieces) == values(whole)


def test_pieces_of_one_frame_per_file(tmp_path):
    frames = frames_of()
    for frame in frames:
        write(tmp_path, f"run.{frame.timestep}.dump.%", [frame])
    _, whole = write(tmp_path, "all.dump.%")
    found = values(tmp_path / "run.*.dump.%")
    assert [row[:6] for row in found] == [row[:6] for row in values(whole)]


def test_a_file_whose_name_has_the_sign(tmp_path):
    (tmp_path / "50%.dump").write_text(dump_text(make_frame(0), COLUMNS))
    assert len(values(tmp_path / "50%.dump")) == 1


def refused(match, given):
    with pytest.raises(InputError, match=match):
        values(given)


def test_bad_pieces(tmp_path):
    refused("there are no files with the number of a processor", tmp_path / "run.dump.%")
    pieces, _ = write(tmp_path)
    (tmp_path / "run.dump.1").rename(tmp_path / "away")
    refused(r"the piece run\.dump\.1 is missing, but there is run\.dump\.3", pieces)
    write(tmp_path, "run.dump.%")
    (tmp_path / "run.dump.2").write_text(dump_text(parts(frames_of()[0])[2], COLUMNS))
    refused(r"run\.dump\.%, frame 1: the piece run\.dump\.2 ends before this frame", pieces)
    assert len(values_until_error(pieces)) == 1
    write(tmp_path)
    text = (tmp_path / "run.dump.2").read_text()
    (tmp_path / "run.dump.2").write_text(text.replace("ITEM: TIMESTEP\n10\n", "ITEM: TIMESTEP\n11\n"))
    refused(r"frame 1: the pieces are of different runs: run\.dump\.\d has the time step 1[01]", pieces)
    (tmp_path / "run.dump.2").write_text(text.replace("ITEM: ATOMS id type", "ITEM: ATOMS id mol"))
    refused("frame 0: the pieces of the frame have different columns", pieces)
    lines = text.splitlines()
    (tmp_path / "run.dump.2").write_text("\n".join([*lines[:9], "x" + lines[9], *lines[10:]]) + "\n")
    refused(r"run\.dump\.2, frame 0, line 10", pieces)
    (tmp_path / "run.dump.2").write_text("\n".join(lines[:-2]) + "\n")
    refused(r"run\.dump\.2, frame 2.* ends after 9 of 11 atom lines", pieces)


def values_until_error(given):
    found = []
    with pytest.raises(InputError):
        found.extend(read_frames(given))
    return found


def test_only_dumps_come_in_pieces(tmp_path):
    (tmp_path / "a.0.xyz").write_text('1\nLattice="3 0 0 0 3 0 0 0 3"\nFe 0 0 0\n')
    refused("only LAMMPS dumps are read in pieces, and this is extxyz", tmp_path / "a.%.xyz")
