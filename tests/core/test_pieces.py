"""Frames read in pieces are the frames that are read at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from phaseseg import Frame
from phaseseg.frame import Category
from phaseseg.io import InputError, read_frames, write_frames
from phaseseg.io.pieces import announced_atoms, pieced_format, read_pieces, taken
from phaseseg.large.disk import Disk
from phaseseg.large.store import FrameStore
from samples import shared_disk

DISKS = [Disk, shared_disk]
"""Pieces are read here, or on other machines."""


def some_frame(n=50, seed=0, **more):
    rng = np.random.default_rng(seed)
    names = ("Si", "Fe", "O")
    species = np.sort(rng.integers(0, 3, n))[::-1]
    fields = {"charge": rng.random(n), "force": rng.random((n, 3))}
    positions, ids = rng.random((n, 3)) * 9, np.arange(n) + 7
    return Frame(
        positions, np.eye(3) * 9, True, species, names, ids=ids, timestep=seed, fields=fields, **more
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".dump", ".xyz", ".xyz.gz"])
@pytest.mark.parametrize("rows", [1, 7, 50, 51])
@pytest.mark.parametrize("new_disk", DISKS)
def test_pieces_are_the_frame(new_disk, suffix, rows, tmp_path):
    path = tmp_path / f"run{suffix}"
    words = {"residue": Category.of(["WAT" if k % 3 else "SOL" for k in range(50)])}
    write_frames(path, [some_frame(seed=k, categories=words) for k in range(3)])
    whole = [*read_frames(path, fields=True)]
    assert announced_atoms(path) == 50 and pieced_format(path, None)
    with new_disk(tmp_path) as disk:
        for expected, found in zip(whole, read_pieces(path, fields=True, rows=rows), strict=True):
            store = FrameStore.read(found, disk)
            assert store.outline.n_atoms == len(store.outline) == 50 == found.n_atoms
            assert store.outline.index == expected.index and store.outline.source == expected.source
            assert store.outline.species_counts.tolist() == expected.species_counts.tolist()
            assert store.outline.n_dimensions == expected.n_dimensions
            for here, piece in store.pieces():
                assert piece.species_names == expected.species_names
                for name in ("positions", "species", "ids"):
                    assert_array_equal(getattr(piece, name), getattr(expected, name)[here])
                for name, values in expected.fields.items():
                    assert_array_equal(piece.fields[name], values[here])
                for kind, category in expected.categories.items():
                    assert_array_equal(
                        np.array(piece.categories[kind].names)[piece.categories[kind].codes],
                        np.array(category.names)[category.codes[here]],
                    )


@pytest.mark.parametrize("suffix", [".dump", ".xyz"])
@pytest.mark.parametrize("rows", [1, 7, 51])
def test_atoms_that_are_taken_are_those_of_the_frame(suffix, rows, tmp_path):
    path, chosen = tmp_path / f"run{suffix}", np.array([0, 3, 6, 7, 8, 30, 49])
    write_frames(path, [some_frame(seed=k) for k in range(2)])
    pieces = read_pieces(path, fields=True, rows=rows)
    for whole, found in zip(read_frames(path, fields=True), pieces, strict=True):
        few, expected = taken(found, chosen), whole.take(chosen)
        assert few.species_names == expected.species_names and few.source == expected.source
        for name in ("positions", "species", "ids", "cell"):
            assert_array_equal(getattr(few, name), getattr(expected, name), name)
        assert few.fields.keys() == expected.fields.keys()
        for name, values in expected.fields.items():
            assert_array_equal(few.fields[name], values, name)


def test_atoms_that_are_taken_have_numbers(tmp_path):
    path = tmp_path / "run.xyz"
    lines = [f"Fe {k} 0 0" for k in range(9)]
    path.write_text("\n".join(["9", 'Lattice="9 0 0 0 9 0 0 0 9"', *lines]) + "\n")
    (found,) = (taken(one, np.array([1, 4, 8])) for one in read_pieces(path, rows=4))
    assert found.ids.tolist() == [2, 5, 9] and found.positions[:, 0].tolist() == [1, 4, 8]


def test_announced_atoms_of_formats_that_are_read_whole(tmp_path):
    sides = "\n".join(f"0 90 {axis}lo {axis}hi" for axis in "xyz")
    data = f"30 atoms\n\n900 atoms\n1 atom types\n\n{sides}\n\nAtoms # atomic\n\n1 1 0 0 0\n"
    gro = "30 waters\n 1200\n    1SOL     OW    1   0.126   1.624   1.679\n"
    for name, text, n_atoms in (("melt.data", data, 900), ("water.gro", gro, 1200), ("POSCAR", "x\n", 0)):
        (tmp_path / name).write_text(text)
        assert announced_atoms(tmp_path / name) == n_atoms, name


WORDS = {
    "number": ("resid", "residue", [("7", "SOL"), ("7", "NA"), ("8", "SOL"), ("1", "SOL")], 3),
    "letters": ("resid", "residue", [("27", "SOL"), ("27A", "SOL"), ("27A", "NA"), ("28", "SOL")], 2),
    "names": ("residue", "name", [("SOL", "OW"), ("SOL", "HW"), ("SOL", "HW"), ("SOL", "OW"), ("SOL", "HW"),
                                  ("NA", "NA"), ("NA", "NA"), ("SOL", "HW"), ("SOL", "OW")], 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
@pytest.mark.parametrize("new_disk", DISKS)
def test_residues_go_on_in_the_next_piece(new_disk, kind, rows, tmp_path):
    *titles, words, times = WORDS[kind]
    lines = [f"Fe {k} 0 0 {' '.join(two)}" for k, two in enumerate(np.repeat(words, times, axis=0))]
    columns = ":".join(
        f"{title}:{'I' if kind == 'number' and title == 'resid' else 'S'}:1" for title in titles
    )
    head = f'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:{columns}'
    path = tmp_path / "run.xyz"
    path.write_text("\n".join([str(len(lines)), head, *lines]) + "\n")
    [whole] = read_frames(path)
    assert len(np.unique(whole.molecules)) == len(words) - 4 * (kind == "names")
    with new_disk(tmp_path) as disk:
        store = FrameStore.read(next(read_pieces(path, rows=rows)), disk)
        assert_array_equal(store.others["molecules"], whole.molecules)


@pytest.mark.parametrize("new_disk", DISKS)
def test_columns_that_are_not_understood_are_left_out_of_all_pieces(new_disk, tmp_path):
    """Numbers of molecules that are no integers, and more words than a reader takes."""
    path = tmp_path / "run.xyz"
    rows = [f"Fe 0 0 {k} {k if k < 290 else 0.5} w{k}" for k in range(300)]
    head = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:mol:R:1:residue:S:1'
    path.write_text("\n".join(["300", head, *rows]) + "\n")
    [whole] = read_frames(path)
    assert whole.molecules is None and not whole.categories
    with new_disk(tmp_path) as disk:
        assert not FrameStore.read(next(read_pieces(path, rows=100)), disk).others


def test_chosen_frames_and_types(tmp_path):
    path = tmp_path / "run.dump"
    write_frames(path, [some_frame(seed=k) for k in range(4)])
    options = {"frames": slice(1, 4, 2), "types": "A,B,C", "dt": 0.5}
    whole = [*read_frames(path, **options)]
    found = [[*frame.pieces] for frame in read_pieces(path, rows=20, **options)]
    assert [pieces[0].time for pieces in found] == [frame.time for frame in whole] == [0.5, 1.5]
    assert [sum(map(len, pieces)) for pieces in found] == [50, 50]
    assert found[0][0].species_names == whole[0].species_names


@pytest.mark.parametrize("new_disk", DISKS)
def test_a_frame_that_ends_too_early(new_disk, tmp_path):
    def read():
        with new_disk(tmp_path) as disk:
            for frame in read_pieces(path, rows=20):
                FrameStore.read(frame, disk)

    path = tmp_path / "run.dump"
    write_frames(path, [some_frame()])
    text = path.read_text()
    path.write_text(text.rstrip("\n"))
    read()
    path.write_text("\n".join(text.splitlines()[:-5]) + "\n")
    with pytest.raises(InputError, match="of 10 atom lines"):
        read()
    lines = path.read_text().splitlines()
    lines[9 + 30] = lines[9 + 30].replace(" ", " x ", 1)
    path.write_text("\n".join(lines[: 9 + 40]) + "\n" + "\n".join(text.splitlines()[9 + 40 :]) + "\n")
    with pytest.raises(InputError, match=r"run.dump, frame 0, line 40: "):
        read()


def test_a_file_that_changes_while_other_machines_read_it(tmp_path, monkeypatch):
    path = tmp_path / "run.dump"
    write_frames(path, [some_frame()])
    (found,) = [one for _, one in zip(range(1), read_pieces(path, rows=20), strict=False)]
    next(found.pieces)
    piece, *_ = found.elsewhere()
    assert len(piece) == 20 and len(piece.read()[0]) == 20
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match="the file has changed"):
        piece.read()
    path.unlink()
    with pytest.raises(InputError, match="there is no such file on"):
        piece.read()


@pytest.mark.parametrize("new_disk", DISKS)
def test_types_that_begin_at_0_in_a_later_piece(new_disk, tmp_path):
    lines = [f"{k} {k < 20} {k} 0 0" for k in range(40)]
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n40\nITEM: BOX BOUNDS pp pp pp\n" + "0 99\n" * 3
    rows = "\n".join(lines).replace("True", "1").replace("False", "0")
    (tmp_path / "run.dump").write_text(f"{head}ITEM: ATOMS id type x y z\n{rows}\n")
    with new_disk(tmp_path) as disk, pytest.raises(InputError, match="the types begin at 0"):
        FrameStore.read(next(read_pieces(tmp_path / "run.dump", rows=10, types="A,B")), disk)


def test_pieces_that_cannot_be_read(tmp_path):
    path = tmp_path / "run.xyz"
    path.write_text("2\n\nFe 0 0 0\nFe 1 1 1\n")
    with pytest.raises(InputError, match="open box"):
        next(read_pieces(path, cell="open"))
    with pytest.raises(InputError, match="counted from its beginning"):
        next(read_pieces(path, cell="9,9,9", frames=slice(-1, None)))
    assert [len(piece) for frame in read_pieces(path, cell="9,9,9", rows=1) for piece in frame.pieces] == [
        1,
        1,
    ]
