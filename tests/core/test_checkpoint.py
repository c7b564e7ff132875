"""Checkpoints: what is written comes back, and nothing else is taken for one."""

import hashlib
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import phaseseg
from phaseseg import checkpoint as module
from phaseseg.api import default_checkpoint
from phaseseg.checkpoint import (
    Checkpoint,
    CheckpointError,
    bundled_checkpoints,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_entry,
    save_checkpoint,
    verify_checkpoint,
)
from phaseseg.io import OutputError

CARD = {
    "summary": "Two layers, for Å and tests.",
    "metrics": {"auc": {"title": "AUC", "columns": ["T", "AUC"], "rows": [[3000, 0.999], [4000, None]]}},
    "limits": ["knows nothing"],
}


def small(name: str = "segmentation/small-v3", **changes: Any) -> Checkpoint:
    rng = np.random.default_rng(0)
    weights = {
        "member0.layer2.bias": rng.normal(size=2).astype(np.float32),
        "member0.layer1.weight": rng.normal(size=(4, 3)).astype(np.float32),
        "feature.center": np.float32([0.0, -0.0, 1e-42]),
        "one": np.array(2.5, np.float32),
        "none": np.zeros((0, 3), np.float32),
    }
    given = {"config": {"species": ["Fe", "O"], "cutoff": 6.0}, "weights": weights, "card": CARD}
    return Checkpoint("segmentation", name, **(given | {"ranges": {"density": [0.1, 0.2]}} | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(small(), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def rewritten(path: Path, change: Any) -> Path:
    """Change the header of a file and make its sha256 right again, as someone with intent would."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    header["__metadata__"]["sha256"] = "0" * 64
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw = struct.pack("<Q", len(text)) + text + raw[8 + length :]
    digest = hashlib.sha256(raw).hexdigest().encode()
    path.write_bytes(raw.replace(b"0" * 64, digest, 1))
    return path


# --------------------------------------------------------------------------------- there and back


def test_round_trip(path: Path) -> None:
    saved, loaded = small(), load_checkpoint(path)
    assert list(loaded.weights) == sorted(saved.weights)
    for key, values in saved.weights.items():
        assert loaded.weights[key].dtype == np.float32
        assert loaded.weights[key].shape == values.shape
        assert loaded.weights[key].tobytes() == values.tobytes()  # the sign of zero, too
    for key in ("family", "name", "config", "card", "units", "ranges", "format", "hash", "version"):
        assert getattr(loaded, key) == getattr(saved, key), key
    assert list(loaded.card) == list(CARD)  # in the order of the author
    assert loaded.path == path and loaded.version == 3


def test_bytes_are_the_same_each_time(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    saved = small()
    backward = replace(saved, weights=dict(reversed(list(saved.weights.items()))))
    for checkpoint in (saved, backward, load_checkpoint(path)):
        save_checkpoint(checkpoint, again)
        assert again.read_bytes() == path.read_bytes()


def test_bytes_are_the_same_in_another_process(path: Path) -> None:
    program = "from phaseseg.checkpoint import *; import sys; print(load_checkpoint(sys.argv[1]).hash)"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == small().hash


def test_hash_is_that_of_the_file_with_its_digits_zero(path: Path) -> None:
    raw = path.read_bytes()
    digest = load_checkpoint(path).hash
    assert raw.count(digest.encode()) == 1
    assert hashlib.sha256(raw.replace(digest.encode(), b"0" * 64)).hexdigest() == digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "segmentation/small-v4"},
        {"units": "lj"},
        {"config": {}},
        {"card": {}},
        {"ranges": {}},
        {"weights": {"one": np.zeros(1, np.float32)}},
    ],
)
def test_hash_depends_on_everything(change: dict[str, Any]) -> None:
    assert small(**change).hash != small().hash


def test_safetensors_reads_it(path: Path) -> None:
    numpy_face = pytest.importorskip("safetensors.numpy")
    weights = numpy_face.load_file(path)
    assert all(np.array_equal(weights[key], values) for key, values in small().weights.items())


def test_weights_are_copied_and_locked(path: Path) -> None:
    mine = np.zeros(3, np.float32)
    checkpoint = small(weights={"a": mine})
    mine[0] = np.nan
    assert checkpoint.weights["a"][0] == 0
    for one in (checkpoint, load_checkpoint(path)):
        with pytest.raises(ValueError, match="read-only"):
            next(iter(one.weights.values()))[...] = 1


def test_headers_of_any_length(tmp_path: Path) -> None:
    """The length comes first: its lowest byte takes all values that it can, those of other formats too."""
    path = tmp_path / "a.safetensors"
    lowest = set()
    for n in range(32):
        save_checkpoint(small(card={"text": "x" * 8 * n}), path)
        lowest.add(path.read_bytes()[0])
        assert load_checkpoint(path).card == {"text": "x" * 8 * n}
    assert lowest == set(range(0, 256, 8))


def test_strided_and_swapped_arrays() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    plain = small(weights={"a": values})
    assert small(weights={"a": np.asfortranarray(values)}).hash == plain.hash
    assert small(weights={"a": np.repeat(values, 2, axis=1)[:, ::2]}).hash == plain.hash


def test_loading_leaves_torch_alone(path: Path) -> None:
    program = (
        "import sys, phaseseg; phaseseg.load_checkpoint(sys.argv[1]); phaseseg.list_checkpoints();"
        "sys.exit(str([m for m in ('torch', 'numba', 'ase', 'sklearn', 'ovito') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_numpy_values_become_plain() -> None:
    config = {"n": np.int64(3), "widths": (np.float32(0.5), 1), "table": np.eye(2), "on": np.bool_(True)}
    plain = {"n": 3, "widths": [0.5, 1], "table": [[1.0, 0.0], [0.0, 1.0]], "on": True}
    assert small(config=config).config == plain
    assert type(small(config=config).config["n"]) is int


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"card": {"f1": {"rows": [1.0, float("nan")]}}}, r"card\.f1\.rows\[1\] is nan.*Use None"),
        ({"config": {"a": np.inf}}, "config.a is inf"),
        ({"config": {"a": {1, 2}}}, "config.a is a set"),
        ({"config": {1: 2}}, "keys that are not strings"),
        ({"config": [1]}, "config must be a mapping.*found list"),
        ({"units": "real"}, "units must be 'metal' or 'lj', found 'real'"),
        ({"name": "small-v3"}, "'small-v3' is not a valid"),
        ({"name": "segmentation/../x"}, "is not a valid checkpoint name"),
        ({"format": 2}, "format must be 1, found 2"),
        ({"weights": {}}, "there are no weights"),
        ({"weights": {"a": np.zeros(2)}}, "a must be a float32 array, found float64"),
        ({"weights": {"a": [1.0]}}, "a must be a float32 array, found list"),
        ({"weights": {"a": np.float32([1, np.nan, np.inf])}}, "a contains 2 values that are not finite"),
        ({"weights": {"__metadata__": np.zeros(2, np.float32)}}, "not a valid array name"),
    ],
)
def test_what_cannot_be_saved(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        small(**changes)


def test_deep_or_long_cards_are_refused(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"a": deep}
    with pytest.raises(CheckpointError, match="nested too deeply"):
        small(card=deep)
    with pytest.raises(CheckpointError, match=r"card take 9,\d{3},\d{3} bytes; the limit is"):
        save_checkpoint(small(card={"text": "x" * 9_000_000}), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pt: .* must end in \.safetensors"):
        save_checkpoint(small(), tmp_path / "a.pt")
    with pytest.raises(OutputError, match="there is no folder"):
        save_checkpoint(small(), tmp_path / "none" / "a.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_changed_byte_is_refused(path: Path, flip: int) -> None:
    """At every position: length, header, description, digits of the hash, padding, weights."""
    raw = path.read_bytes()
    for position in range(flip % 3, len(raw), 3):
        changed = bytearray(raw)
        changed[position] ^= flip
        path.write_bytes(changed)
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path)
        assert str(error.value).startswith(f"{path}: "), position


def test_each_byte_of_a_weight_counts(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"has changed since it was written; its sha256 is .* states"):
        load_checkpoint(path)
    assert read_entry(path).name == "segmentation/small-v3"  # the header alone does not tell


def test_a_truncated_file_is_refused(path: Path) -> None:
    raw = path.read_bytes()
    for size in [*range(120), *range(120, len(raw), 7), len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(CheckpointError, match="truncated"):
            load_checkpoint(path)


def test_appended_bytes_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="has changed"):
        load_checkpoint(path)


def test_a_newer_format_is_named(path: Path) -> None:
    rewritten(path, lambda header: header["__metadata__"].update(phaseseg_format="7"))
    for read in (load_checkpoint, read_entry):
        with pytest.raises(CheckpointError, match=r"format 7 is newer .* reads up to 1\. Install a newer"):
            read(path)


def test_header_with_a_right_hash_but_wrong_content(path: Path) -> None:
    raw = path.read_bytes()

    def refused(change: Any, says: str) -> None:
        path.write_bytes(raw)
        rewritten(path, change)
        with pytest.raises(CheckpointError, match=says) as error:
            load_checkpoint(path)
        assert "small.safetensors" in str(error.value)

    def described(**changes: Any) -> Any:
        def change(header: dict[str, Any]) -> None:
            content = json.loads(header["__metadata__"]["checkpoint"])
            header["__metadata__"]["checkpoint"] = json.dumps(content | changes)

        return change

    rewritten(path, lambda header: None)
    load_checkpoint(path)  # the tool itself makes no difference
    refused(described(units="real"), "units must be")
    refused(described(name=5), "not a valid")
    refused(described(family=["x"]), "not a valid")
    refused(described(config=[1]), "must be a mapping")
    refused(described(more=1), "description in the file is damaged")
    refused(lambda h: h["__metadata__"].update(checkpoint="[" * 10**6), "description in the file is damaged")
    refused(lambda h: h["__metadata__"].update(checkpoint='{"a": NaN}'), "description in the file is damaged")
    refused(lambda h: h["one"].update(dtype="F64"), "weights cannot be read")
    refused(lambda h: h["one"].update(dtype="I32"), "must be a float32 array, found int32")
    refused(lambda h: h["one"].update(dtype="BF16"), "weights cannot be read")
    refused(lambda h: h["one"].update(shape=[10**9]), "weights cannot be read")
    refused(lambda h: h["one"].update(shape=[-1]), "weights cannot be read")
    refused(lambda h: h["one"].update(data_offsets=[0, 10**15]), "truncated")
    refused(lambda h: h["one"].update(data_offsets=[0, 1e300]), "truncated")
    refused(lambda h: h["one"].update(data_offsets="x"), "damaged")
    refused(lambda h: h.update(one=5), "damaged")
    refused(lambda h: h.pop("one"), "weights cannot be read|has changed")


def test_weights_not_finite_in_a_file(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-8:-4] = np.float32(np.nan).tobytes()
    path.write_bytes(raw)
    rewritten(path, lambda header: None)
    with pytest.raises(CheckpointError, match="values that are not finite"):
        load_checkpoint(path)


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "sprung"
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"state": Trap(trap), "fill": "x" * 300}, protocol=protocol))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)
    assert not trap.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match=r"a pickle, as written by torch\.save"):
        load_checkpoint(path)
    path.write_text("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)
    numpy_face = pytest.importorskip("safetensors.numpy")
    numpy_face.save_file({"a": np.zeros(3, np.float32)}, path, metadata={"format": "np"})
    with pytest.raises(CheckpointError, match="not a phaseseg checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 1, 9 << 20, 10**12, 2**63, 2**64 - 1])
def test_a_header_length_that_cannot_be(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 1000)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6  # nothing of that length was made


@pytest.mark.parametrize(
    "text", [b'{"a":' * 200_000, b'{"__metadata__":' + b"[" * 500_000, b'{"a":' + b"9" * 10**6]
)
def test_json_bombs(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


# ------------------------------------------------------------------------------------------ names


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with checkpoints of two families."""
    for name in (
        "segmentation/gat-v1",
        "segmentation/gat-3000K-v1",
        "segmentation/gcn-v1",
        "mobility/gcn-v1",
    ):
        family, stem = name.split("/")
        folder = tmp_path / "families" / family / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(replace(small(), family=family, name=name), folder / f"{stem}.safetensors")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list(shelf: Path) -> None:
    entries = list_checkpoints("segmentation")
    assert [entry.name for entry in entries] == [
        "segmentation/gat-3000K-v1",
        "segmentation/gat-v1",
        "segmentation/gcn-v1",
    ]
    for entry in entries:
        checkpoint = load_checkpoint(entry.name)
        assert entry.hash == checkpoint.hash and entry.path == checkpoint.path
        assert entry.size == entry.path.stat().st_size
        assert entry.version == 1 and entry.summary == CARD["summary"]
    assert len(list_checkpoints()) == 4 and not list_checkpoints("none")


def test_by_name(shelf: Path) -> None:
    for name in ("segmentation/gat-v1", "gat-v1", "mobility/gcn-v1"):
        assert load_checkpoint(name).name.endswith(name)
    (shelf / "gat-v1").write_text("a file of that name does not come first")
    assert load_checkpoint("gat-v1").name == "segmentation/gat-v1"
    assert find_checkpoint(Path("gat-v1")) == Path("gat-v1")  # a Path is a file
    with pytest.raises(CheckpointError, match="several checkpoints: mobility/gcn-v1 or segmentation/gcn-v1"):
        load_checkpoint("gcn-v1")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gat-v2", "similar name.* segmentation/gat-v1"),
        ("segmentation/gat-3000-v1", "similar names are segmentation/gat-3000K-v1"),
        ("segmentaton/gat-v1", "similar name.* segmentation/gat-v1"),
        ("GAT-V1", "similar name.* segmentation/gat-v1"),
        ("water", "the names are mobility/gcn-v1, segmentation/gat-3000K-v1"),
        ("x" * 5000, "there is no checkpoint with this name"),
        ("a\0b", "there is no checkpoint with this name"),
    ],
)
def test_unknown_names(shelf: Path, name: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as error:
        load_checkpoint(name)
    assert "phaseseg models list" in str(error.value)


@pytest.mark.parametrize(
    "name", ["gat-v1.safetensors", "./gat-v9", "~/none/gat", "/none/a/b", Path("gat-v9")]
)
def test_missing_files(shelf: Path, name: str | Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no such file.*phaseseg models list"):
        load_checkpoint(name)


def test_a_folder_is_no_checkpoint(shelf: Path) -> None:
    with pytest.raises(CheckpointError, match="this is a folder"):
        load_checkpoint(shelf)
    with pytest.raises(CheckpointError, match="cannot be read"):
        verify_checkpoint(shelf)


def test_a_bundled_file_must_hold_what_its_name_says(shelf: Path) -> None:
    bundled = bundled_checkpoints()
    bundled["segmentation/gcn-v1"].replace(bundled["segmentation/gat-v1"])
    with pytest.raises(CheckpointError, match="the file of segmentation/gat-v1 contains segmentation/gcn-v1"):
        load_checkpoint("gat-v1")


def test_defaults() -> None:
    assert default_checkpoint("segmentation") == "segmentation/gat-v1"
    assert default_checkpoint("mobility") == "mobility/net-ka3d-v1"
    with pytest.raises(CheckpointError, match="'mine': this family has no default"):
        default_checkpoint("mine")


def test_what_is_bundled_is_whole() -> None:
    """Each file in the package loads, by its name, and its hash is right."""
    for name in bundled_checkpoints():
        assert phaseseg.load_checkpoint(name).name == name
    assert [entry.name for entry in phaseseg.list_checkpoints()] == list(bundled_checkpoints())


# What is printed ----------------------------------------------------------------------------------


def test_checkpoints_print_a_summary_and_no_weights() -> None:
    entry = phaseseg.list_checkpoints()[0]
    checkpoint = phaseseg.load_checkpoint(entry.name)
    for made in (checkpoint, entry):
        assert entry.name in str(made) and entry.summary in str(made) and entry.hash[:12] in str(made)
        assert "array(" not in str(made) and len(str(made)) < 1200
        assert repr(made) == f"<Checkpoint {entry.name}>" and entry.name in made._repr_html_()
