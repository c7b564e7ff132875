"""Frames as places: any process reads any of them, and they are those that `read_frames` yields."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from index_samples import CHOICES, content, packed
from io_samples import NAMES, data_text, dump_text, make_frame
from phaseseg.io import InputError, index, read_frames, write_frames
from phaseseg.io.places import placed


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(index, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def values(frame):
    return (frame.index, frame.source, frame.timestep, frame.time, frame.units, frame.species_names,
            frame.species.tolist(), frame.positions.tolist(), frame.cell.tolist(), sorted(frame.fields),
            [str(message) for message in frame.messages])  # fmt: skip


def check(given, frames=None, seed=0, **options):
    """Places in a random order give what a pass over the files gives."""
    expected = [values(frame) for frame in read_frames(given, frames=frames, **options)]
    places = pickle.loads(pickle.dumps(placed(given, frames=frames, **options)))
    assert len(places) == len(expected)
    carried = [places.carried]
    for k in range(len(places)):  # what every frame adds to the species
        carried.append(places.read(k, carried[-1])[1])
    for k in np.random.default_rng(seed).permutation(len(places)).tolist():
        frame, after = places.read(k, carried[k])
        assert values(frame) == expected[k] and after == carried[k + 1]
    return places, carried


@pytest.mark.parametrize("form", ["dump", "bin", "xyz", "XDATCAR", "gro"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".members.zst"])
def test_places_are_frames(tmp_path, form, suffix):
    path = tmp_path / f"a.{form}{suffix.removeprefix('.members')}"
    path.write_bytes(packed(content(form), suffix))
    for chosen in (None, *CHOICES[:5]):
        check(path, chosen, **({"types": NAMES} if form == "bin" else {}))


def test_a_species_that_comes_late_is_carried(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(content("xyz"))
    _, carried = check(path)
    assert carried[0].names != carried[-1].names == carried[5].names


def test_types_that_begin_at_0_are_carried(tmp_path):
    """Frame 1 has no type 0, so only what frame 0 has shown tells its types."""
    text = ""
    for k, types in enumerate([(0, 1), (1, 1), (0, 0)]):
        frame = make_frame(k, 3).replace(timestep=k)
        lines = dump_text(frame, ("id", "type", "x", "y", "z")).splitlines()
        for row, one in enumerate(types):
            words = lines[-3 + row].split()
            lines[-3 + row] = " ".join([words[0], str(one), *words[2:]])
        lines[-1] = " ".join([lines[-1].split()[0], "1", *lines[-1].split()[2:]])
        text += "\n".join(lines) + "\n"
    (tmp_path / "a.dump").write_text(text)
    _, carried = check(tmp_path / "a.dump", types="Fe,O")
    assert carried[0].type_names == ((0, "Fe"), (1, "O"))


@pytest.mark.parametrize("suffix", ["dump", "xyz", "dump.gz"])
def test_parts_of_a_continued_run(tmp_path, suffix):
    parts = [(0, 100, 200, 300), (200, 300, 400), (300, 400), (400, 500), (500,), (600, 700)]
    for k, steps in enumerate(parts):
        frames = [make_frame(step + k).replace(timestep=step, time=None) for step in steps]
        frames = [frame.replace(units="lj" if k == 0 else "metal") for frame in frames]
        write_frames(tmp_path / f"part{k}.{suffix}", frames)
    places, _ = check(tmp_path / f"part*.{suffix}")
    assert len(places) == 8
    notes = [str(m) for k in range(8) for m in places.read(k)[0].messages if m.code == "repeated-steps"]
    assert len(notes) == 4
    if suffix == "dump":
        assert {places.read(k)[0].units for k in range(8)} == {"lj"}  # only the first frame says it
    for chosen in (slice(1, None, 3), slice(-2, None), slice(5, 6)):
        check(tmp_path / f"part*.{suffix}", chosen)


def test_formats_with_one_frame(tmp_path):
    for k in range(3):
        (tmp_path / f"run.{k}.data").write_text(data_text(make_frame(k), "full"))
    check(tmp_path / "run.*.data")
    check(tmp_path / "run.1.data", file_format="lammps-data:full")


def test_formats_of_others_have_no_places(tmp_path):
    from ase.io import write

    from io_samples import make_atoms

    write(tmp_path / "a.traj", [make_atoms(0), make_atoms(1)])
    assert placed(tmp_path / "a.traj") is None


def test_a_file_that_changes_or_vanishes(tmp_path):
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump"))
    places = placed(path)
    places.read(3)
    path.write_bytes(content("dump")[:-50])
    for _ in range(2):
        with pytest.raises(InputError, match=r"a\.dump: the file has changed since its frames were found"):
            places.read(4)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.dump: there is no such file on .*Every worker must find"):
        places.read(4)


def test_bad_input_as_read_frames_says_it(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        placed(tmp_path / "none.dump")
    (tmp_path / "a.dump").write_bytes(
        content("dump").replace(b"ITEM: NUMBER OF ATOMS\n", b"ITEM: NUMBER OF ATOMS\nx", 1)
    )
    places = placed(tmp_path / "a.dump")
    assert places.read(5)[0].timestep == 50
    with pytest.raises(InputError, match=r"a\.dump, frame 0, line \d+: 'ITEM: NUMBER OF ATOMS' is followed"):
        places.read(0)
