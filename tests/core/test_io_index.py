"""The index of frames: the same frames with it as without, and no trust in one that is stale or damaged."""

from __future__ import annotations

import gc
import os
import time

import pytest

from index_samples import CHOICES, N, content, frames_of, packed
from io_samples import NAMES
from phaseseg.io import InputError, index, read_frames, seeking, write_frames
from phaseseg.io.packing import pack


@pytest.fixture(scope="module", autouse=True)
def earlier_files():
    """What other tests left is set aside: to look for garbage among it takes half a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path, earlier_files):
    """A cache of its own, and indices of the smallest files."""
    gc.collect()  # closes files that earlier tests left half read, whose indices would come into this cache
    monkeypatch.setattr(index, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(index, "SMALLEST", 0)
    monkeypatch.setattr(index, "_LARGE_PACKED", 0)
    monkeypatch.setattr(seeking, "SPACING", 40_000)
    return tmp_path / "cache" / "frames"


def seen(path, frames, **options):
    return [
        (f.index, f.source, f.timestep, f.time, f.units, f.species_names, f.species.tolist(), f.cell.tolist(),
         f.positions.tolist(), [str(m) for m in f.messages])
        for f in read_frames(path, frames=frames, **options)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dump", "bin", "xyz", "XDATCAR", "gro"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".members.gz", ".members.zst", ".bz2"])
def test_the_same_frames_with_the_index(tmp_path, monkeypatch, cache, form, suffix):
    path = tmp_path / f"a.{form}{suffix.removeprefix('.members')}"
    path.write_bytes(packed(content(form), suffix))
    options = {"types": NAMES} if form == "bin" else {}
    with monkeypatch.context() as patch:
        patch.setattr(index, "SMALLEST", 1 << 30)
        patch.setattr(index, "load_index", lambda *_: None)
        expected = [seen(path, chosen, **options) for chosen in CHOICES]
        assert not cache.exists()
    assert seen(path, None, **options)  # makes the index
    (stored,) = cache.iterdir()
    known = index.load_index(path, {"bin": "lammps-dump-binary", "dump": "lammps-dump", "xyz": "extxyz",
                                    "XDATCAR": "xdatcar", "gro": "gro"}[form])  # fmt: skip
    assert known is not None and known.complete and len(known) == N
    # No frame is walked over any more.
    monkeypatch.setattr(index.Recorder, "found", lambda self: pytest.fail("the file was read from its start"))
    for chosen, right in zip(CHOICES, expected, strict=True):
        assert seen(path, chosen, **options) == right
    # A file that an earlier test left half read may put its index here, too, when it is closed.
    assert stored in cache.iterdir()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gz", ".members.gz", ".members.zst"])
def test_the_unpacked_beginning_is_not_read_again(tmp_path, monkeypatch, suffix):
    """From the points of a gzip file, and from the members of others."""
    monkeypatch.setattr(index, "SMALLEST", 30_000)
    path = tmp_path / f"a.dump{suffix.removeprefix('.members')}"
    path.write_bytes(packed(content("dump"), suffix))
    last = seen(path, slice(-1, None))
    known = index.load_index(path, "lammps-dump")
    assert bool(known.points) == (suffix == ".gz") and (len(known.members) > 3) == ("members" in suffix)
    entered, unpacked = [], seeking.unpacked

    def counted(path, first):
        entered.append(first)
        return unpacked(path, first)

    monkeypatch.setattr(seeking, "unpacked", counted)
    assert seen(path, slice(-1, None)) == last
    assert all(first > 0 for first in entered) and bool(entered) == ("members" in suffix)


def test_without_the_library_a_gzip_file_is_passed_over(tmp_path, monkeypatch):
    path = tmp_path / "a.dump.gz"
    path.write_bytes(pack(content("dump"), "a.gz"))
    expected = seen(path, slice(-2, None))
    known = index.load_index(path, "lammps-dump")
    assert known.points
    index.drop_index(path, "lammps-dump")
    monkeypatch.setattr(seeking, "_library", lambda: None)
    for _ in range(2):
        assert seen(path, slice(-2, None)) == expected
    assert not index.load_index(path, "lammps-dump").points


def test_a_file_that_has_changed(tmp_path):
    path = tmp_path / "a.dump"
    data = content("dump")
    path.write_bytes(data)
    assert seen(path, slice(-1, None))[0][2] == 110
    path.write_bytes(data + content("dump"))
    assert seen(path, slice(-1, None))[0][0] == 23
    path.write_bytes(data[: data.index(b"ITEM: TIMESTEP\n50\n")])
    assert seen(path, slice(-1, None))[0][2] == 40


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [slice(-1, None), slice(3, None), slice(3, None, 2), slice(5, 6)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_another_file_of_the_same_size_and_time(tmp_path, suffix, chosen):
    """Size and time may agree by chance, as after a copy that keeps times."""
    path = tmp_path / f"a.dump{suffix}"
    data = content("dump")
    path.write_bytes(pack(data, suffix))
    seen(path, chosen), seen(path, slice(-1, None))
    at = path.stat()
    half = data.index(b"ITEM: TIMESTEP\n50\n")
    other = data[half:] + data[:half]
    new = pack(other, suffix)
    assert suffix or len(new) == at.st_size
    path.write_bytes(new + b"\0" * max(0, at.st_size - len(new)))
    if path.stat().st_size > at.st_size:
        os.truncate(path, at.st_size)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "SMALLEST", 1 << 30)
        patch.setattr(index, "load_index", lambda *_: None)
        try:
            expected = seen(path, chosen)
        except InputError as error:
            expected = str(error)
    try:
        found = seen(path, chosen)
    except InputError as error:
        found = str(error)
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text", "folder"])
def test_a_damaged_index(tmp_path, cache, damage):
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump"))
    expected = seen(path, slice(-2, None))
    (stored,) = cache.iterdir()
    data = stored.read_bytes()
    if damage == "folder":
        stored.unlink()
        stored.mkdir()
    else:
        stored.write_bytes({"cut": data[:-9], "changed": data[:200] + b"#" + data[201:], "empty": b"",
                            "text": b"no index"}[damage])  # fmt: skip
    assert seen(path, slice(-2, None)) == expected
    if damage != "folder":
        assert stored.read_bytes()[32:] == data[32:]  # made again
    assert seen(path, slice(-2, None)) == expected


@pytest.mark.slow
def test_points_that_make_no_sense(tmp_path):
    """They cannot come from a damaged cache, which has a checksum."""
    path = tmp_path / "a.dump.gz"
    path.write_bytes(pack(content("dump"), "a.gz"))
    expected = seen(path, slice(-2, None))
    known = index.load_index(path, "lammps-dump")
    for points in (known.points[:100], b"GZIDX" + b"\xff" * 99, known.points[:-999]):
        index.save_index(path, "lammps-dump", index.replace(known, points=points))
        assert seen(path, slice(-2, None)) == expected


@pytest.mark.slow
def test_no_folder_for_the_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(index, "cache_folder", lambda: tmp_path / "file")
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump"))
    for _ in range(2):
        assert [one[2] for one in seen(path, slice(-2, None))] == [100, 110]


@pytest.mark.slow
def test_frames_that_are_read_first_are_known_then(tmp_path, monkeypatch):
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump"))
    part = seen(path, slice(4, 6))
    known = index.load_index(path, "lammps-dump")
    assert (len(known), known.complete) == (6, False)
    assert seen(path, slice(4, 6)) == part
    assert [one[0] for one in seen(path, slice(5, 8))] == [5, 6, 7]  # beyond what is known
    assert [one[0] for one in seen(path, slice(2, 3))] == [2]
    assert len(index.load_index(path, "lammps-dump")) == 8
    assert [one[0] for one in seen(path, slice(-2, None))] == [10, 11]


@pytest.mark.slow
def test_a_damaged_frame_does_not_matter_to_others(tmp_path):
    data = content("dump")
    at = data.index(b"ITEM: TIMESTEP\n50\n")
    path = tmp_path / "a.dump"
    path.write_bytes(
        data[:at] + data[at:].replace(b"ITEM: NUMBER OF ATOMS\n", b"ITEM: NUMBER OF ATOMS\nx", 1)
    )
    for _ in range(2):
        assert seen(path, slice(-1, None))[0][2] == 110
        with pytest.raises(InputError, match=r"frame 5, line \d+: 'ITEM: NUMBER OF ATOMS' is followed by 'x"):
            seen(path, slice(4, None))


@pytest.mark.slow
def test_a_file_that_is_cut_off(tmp_path):
    """Messages name the same line with the index."""
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump")[:-200])
    said = []
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            seen(path, slice(-1, None))
        said.append(str(caught.value))
    assert said[0] == said[1] and "frame 11" in said[0]


@pytest.mark.slow
def test_utf16_has_no_index(tmp_path, cache):
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump").decode().encode("utf-16"))
    for _ in range(2):
        assert seen(path, slice(-1, None))[0][2] == 110
    assert not cache.exists()


@pytest.mark.slow
def test_small_files_leave_nothing(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(index, "SMALLEST", 1 << 24)
    path = tmp_path / "a.dump"
    path.write_bytes(content("dump"))
    assert seen(path, slice(-1, None))[0][2] == 110
    assert not cache.exists() and sorted(one.name for one in tmp_path.iterdir()) == ["a.dump"]


@pytest.mark.slow
def test_the_cache_does_not_grow_without_end(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(index, "_MOST_FILES", 3)
    for k in range(5):
        write_frames(tmp_path / f"{k}.xyz", frames_of(3))
        assert len(seen(tmp_path / f"{k}.xyz", slice(-1, None))) == 1
        time.sleep(0.01)
    assert len(list(cache.iterdir())) == 3
    assert index.load_index(tmp_path / "0.xyz", "extxyz") is None
    assert index.load_index(tmp_path / "4.xyz", "extxyz") is not None
