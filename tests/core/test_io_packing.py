"""Compressed files: what is read and written, pieces that are joined, libraries that are not installed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings, strategies as st

from io_samples import assert_same, dump_text, make_frame
from phaseseg.io import InputError, format_of_name, packing, read_frames, write_frames
from phaseseg.io.packing import pack, packed_file, unpacked
from phaseseg.simulate.unfinished import GrowingFile

quick = settings(max_examples=30, deadline=None)

COLUMNS = ["id", "element", "x", "y", "z"]
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pack(data, ".zst"),
}


def text(seed=0, n_atoms=300):
    return dump_text(make_frame(seed, n_atoms), COLUMNS, "pp pp ff").encode()


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_compression_is_read_whatever_the_name_says(tmp_path, suffix):
    for name in (f"run.dump{suffix}", "run.dump", "run.lammpstrj.GZ"):
        (tmp_path / name).write_bytes(PACKERS[suffix](text()))
        [frame] = read_frames(tmp_path / name)
        assert_same(frame, make_frame(0, 300))
    assert format_of_name(f"XDATCAR{suffix}") == "xdatcar"


@pytest.mark.parametrize("suffix", PACKERS)
def test_joined_pieces_and_padding(tmp_path, suffix):
    path = tmp_path / f"run.dump{suffix}"
    pieces = [PACKERS[suffix](text(k)) for k in range(3)]
    path.write_bytes(b"".join(pieces) + bytes(512))
    assert [frame.positions.tolist() for frame in read_frames(path)] == [
        make_frame(k, 300).positions.tolist() for k in range(3)
    ]


def test_parts_of_zstandard_that_are_to_be_skipped(tmp_path):
    """As pzstd and seekable files have them."""
    path = tmp_path / "run.dump"
    skipped = b"\x51\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    path.write_bytes(skipped + pack(text(0), ".zst") + skipped + pack(text(1), ".zst") + skipped)
    assert len(list(read_frames(path))) == 2


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@quick
@given(pieces=st.lists(st.binary(max_size=300), max_size=6), repeats=st.integers(1, 400))
def test_what_is_written_is_read(tmp_path_factory, suffix, pieces, repeats):
    path = tmp_path_factory.mktemp("packed") / f"file{suffix}"
    with packed_file(path) as file:
        for piece in pieces:
            file.write(piece * repeats)
    content = b"".join(piece * repeats for piece in pieces)
    assert b"".join(unpacked(path)) == content
    if suffix == ".gz":
        assert gzip.decompress(path.read_bytes()) == content


@pytest.mark.parametrize("name", ["run.xyz.gz", "run.dump.gz"])
def test_without_isal_zlib_reads_and_writes_the_same(tmp_path, name, monkeypatch):
    frame = make_frame(0, 2000)
    write_frames(tmp_path / name, [frame])
    monkeypatch.setattr(packing, "gzip_library", zlib)
    write_frames(tmp_path / f"zlib-{name}", [frame])
    one, other = (gzip.decompress((tmp_path / file).read_bytes()) for file in (name, f"zlib-{name}"))
    assert one == other
    for file in (name, f"zlib-{name}"):
        [read] = read_frames(tmp_path / file)
        np.testing.assert_array_equal(read.positions, frame.positions)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or cut off"):
        list(read_frames(path))


def test_without_a_library_for_zstandard(tmp_path, monkeypatch):
    path = tmp_path / "run.xyz.zst"
    write_frames(path, [make_frame()])
    packing._zstd.cache_clear()
    for name in ("backports", "backports.zstd", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    try:
        with pytest.raises(
            InputError, match=r"run\.xyz\.zst: Zstandard .* needs the package backports\.zstd"
        ):
            read_frames(path)
        with pytest.raises(ImportError, match="needs the package"):
            write_frames(tmp_path / "new.xyz.zst", [make_frame()])
        assert [one.name for one in tmp_path.iterdir()] == ["run.xyz.zst"]
    finally:
        packing._zstd.cache_clear()


def test_zstandard_of_a_format_that_only_ase_reads(tmp_path):
    atoms = Atoms("FeO", np.eye(3)[:2], cell=5 * np.eye(3), pbc=True)
    ase.io.write(tmp_path / "a.cif", atoms)
    (tmp_path / "a.cif.zst").write_bytes(pack((tmp_path / "a.cif").read_bytes(), ".zst"))
    one, other = (next(iter(read_frames(tmp_path / name))) for name in ("a.cif", "a.cif.zst"))
    assert_same(one, other)
    (tmp_path / "a.unheard.zst").write_bytes(pack(b"some\ntext\n", ".zst"))
    with pytest.raises(InputError, match=r"a\.unheard\.zst.*is not a format that can be read"):
        read_frames(tmp_path / "a.unheard.zst")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_trajectory_that_grows_is_readable_at_any_time(tmp_path, suffix):
    growing = GrowingFile(tmp_path / f"run.dump{suffix}")
    for k in range(3):
        growing.append(text(k).decode())
        assert len(list(read_frames(growing.partial, file_format="lammps-dump"))) == k + 1
    growing.finish()
    assert [one.name for one in tmp_path.iterdir()] == [f"run.dump{suffix}"]
    assert len(list(read_frames(growing.target))) == 3
