"""Checkpoints of the published networks, written by TensorFlow, read without TensorFlow.

A checkpoint of TensorFlow 2's format has two files or more. `NAME.index` is a sorted table of LevelDB, whose
entries say where the numbers of each variable lie in `NAME.data-00000-of-00001`. Both carry checksums
(CRC-32C), and all of those that are used are verified. Nothing in the files is executed.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint, CheckpointError
from phaseseg.families.mobility.settings import SPECIES, BapstConfig
from phaseseg.nn.model import check_weights, member_weights

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5
_MASK = 0xA282EAD8
_FLOAT = 1
_LARGEST_INDEX = 64 << 20
_LARGEST_DATA = 1 << 30

# Variables of the published code and our names of the layers.
_LAYERS = {
    "edge_encoder": ("Graph/graph_independent/edge_model", 2),
    "node_encoder": ("Graph/graph_independent/node_model", 2),
    "edge_rounds.0": ("Graph/graph_network/edge_block", 2),
    "node_rounds.0": ("Graph/graph_network/node_block", 2),
    "decoder": ("Graph/graph_independent_1/node_model", None),
}


class _Damage(ValueError):
    """What is wrong with a file, as the end of a sentence."""


@dataclass(frozen=True)
class Variable:
    """Where the numbers of a variable lie.

    shard : number of the data file; offset, size : bytes; checksum : masked CRC-32C of the bytes
    """

    shape: tuple[int, ...]
    dtype: int
    shard: int
    offset: int
    size: int
    checksum: int


def read_tensorflow(path: Path) -> Checkpoint | None:
    """Read a checkpoint of TensorFlow; None if the path is not the name of one or one of its files.

    Raises
    ------
    CheckpointError
        As `load_tensorflow_checkpoint`.
    """
    prefix = _prefix(path)
    try:
        if prefix is None or not prefix.with_name(prefix.name + ".index").is_file():
            return None
    except (OSError, ValueError):  # the text is no path
        return None
    return load_tensorflow_checkpoint(prefix)


def load_tensorflow_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of the published code for glassy dynamics (Bapst et al., 2020).

    The network is that of DOI 10.1038/s41567-020-0842-8. Its decoder of edges and the moments of the
    optimizer, which no prediction uses, are left out.

    Parameters
    ----------
    path : the name that TensorFlow has for the checkpoint, NAME.ckpt, or one of its files,
        NAME.ckpt.index or NAME.ckpt.data-00000-of-00001

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or compressed, or holds another network. One sentence.
    """
    path = Path(path).expanduser()
    prefix = _prefix(path) or path
    index = prefix.with_name(prefix.name + ".index")
    variables, n_shards = _index(index)
    config, named = _network(variables, index)
    weights = {}
    for name, (key, transposed) in named.items():
        values = _values(prefix, key, variables[key], n_shards)
        weights[name] = np.ascontiguousarray(values.T if transposed else values)
    try:
        check_weights(config.weight_shapes(), [weights])
    except ValueError as error:
        raise CheckpointError(f"{index}: {str(error).rstrip('.')}.") from None
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", prefix.name.removesuffix(".ckpt")).lstrip("._-") or "tensorflow"
    return Checkpoint(
        "mobility", f"mobility/{stem}",
        {
            "method": "bapst", "network": config.to_dict(), "species": list(SPECIES),
            "targets": [{"name": "propensity", "types": ["A"]}],
        },
        member_weights([weights]), card=_card(stem, prefix.name), units="lj",
        ranges={"number_density": [1.2, 1.2], "b_fraction": [0.2, 0.2]},
    )  # fmt: skip


def _card(stem: str, file: str) -> dict[str, Any]:
    """What the name of a published file says: `t044_s09` is for T = 0.44 and F(k, t) = 0.9."""
    found = re.match(r"t(\d)(\d\d)_s(\d)(\d?)", stem)
    meant = ""
    if found:
        t, tt, s, ss = found.groups()
        meant = f" for T = {t}.{tt} and the time at which F(k, t) has fallen to {s}.{ss or 0}"
    return {
        "summary": f"Network of Bapst et al. (2020){meant}, read from the TensorFlow checkpoint {file}; "
        "trained on the particles A of the Kob–Andersen mixture.",
        "limits": "Only predictions for the particles A were trained.",
        "license": "that of the file; the published ones are under Apache-2.0",
    }


def _prefix(path: Path) -> Path | None:
    """The name of a checkpoint from that of one of its files, or from itself."""
    name = path.name
    if not name:
        return None
    for pattern in (r"(.+)\.index", r"(.+)\.data-\d{5}-of-\d{5}"):
        if match := re.fullmatch(pattern, name):
            return path.with_name(match[1])
    return path


# Variables ----------------------------------------------------------------------------------------


def _network(variables: dict[str, Variable], index: Path) -> tuple[BapstConfig, dict[str, tuple[str, bool]]]:
    """The network that the variables make, and for each of our names the variable and whether it turns."""

    def shape(key: str) -> tuple[int, ...]:
        if key not in variables:
            raise CheckpointError(
                f"{index}: the variable {key} is missing, so this is not a checkpoint of the published "
                "network for glassy dynamics."
            )
        return variables[key].shape

    named: dict[str, tuple[str, bool]] = {}
    for layer, (scope, n_layers) in _LAYERS.items():
        number = 0
        while number < (n_layers or 1) or (
            n_layers is None and f"{scope}/mlp/linear_{number}/w" in variables
        ):
            for ours, theirs, transposed in (("weight", "w", True), ("bias", "b", False)):
                key = f"{scope}/mlp/linear_{number}/{theirs}"
                shape(key)
                named[f"{layer}.{number}.{ours}"] = key, transposed
            number += 1
    hidden = shape(named["edge_encoder.0.bias"][0])
    width = shape(named["edge_encoder.1.bias"][0])
    decoder = sum(name.startswith("decoder.") for name in named) // 2 - 1
    outputs = shape(named[f"decoder.{decoder}.bias"][0])
    try:
        (units,), (states,), (targets,) = hidden, width, outputs
        config = BapstConfig(width=states, hidden=units, decoder_layers=decoder, outputs=targets)
    except ValueError as error:
        raise CheckpointError(
            f"{index}: the sizes of its layers are not those of the published network ({error})."
        ) from None
    expected = config.weight_shapes()
    for name, (key, transposed) in named.items():
        found = shape(key)[::-1] if transposed else shape(key)
        if found != expected[name]:
            raise CheckpointError(
                f"{index}: the variable {key} has the shape {shape(key)}, which does not fit the others; "
                "this is not a checkpoint of the published network for glassy dynamics."
            )
    if config.outputs != 1:
        raise CheckpointError(f"{index}: the network has {config.outputs} outputs, and one is expected.")
    return config, named


def _values(prefix: Path, key: str, variable: Variable, n_shards: int) -> NDArray[np.float32]:
    path = prefix.with_name(f"{prefix.name}.data-{variable.shard:05d}-of-{n_shards:05d}")
    count = int(np.prod(variable.shape, dtype=np.int64))
    if variable.dtype != _FLOAT or variable.size != 4 * count:
        raise CheckpointError(f"{prefix}: the variable {key} does not hold numbers of 32 bits.")
    try:
        with path.open("rb") as file:
            file.seek(variable.offset)
            raw = file.read(variable.size)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; it belongs to {prefix.name}.index.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: the file cannot be read ({error.strerror or error}).") from None
    if len(raw) < variable.size:
        raise CheckpointError(f"{path}: the file is truncated in the variable {key}. Copy it again.")
    if _masked(crc32c(raw)) != variable.checksum:
        raise CheckpointError(
            f"{path}: the checksum of the variable {key} is wrong, so the file is damaged. Copy it again."
        )
    values = np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(variable.shape)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{path}: the variable {key} holds numbers that are not finite.")
    return values


# The sorted table ---------------------------------------------------------------------------------


def _index(path: Path) -> tuple[dict[str, Variable], int]:
    """The variables by name, and the number of data files."""
    try:
        if path.stat().st_size > _LARGEST_INDEX:
            raise CheckpointError(f"{path}: the file is too large to be the index of a checkpoint.")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: there is no such file. Give the name of a TensorFlow checkpoint, whose index is "
            "NAME.index."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: the file cannot be read ({error.strerror or error}).") from None
    if len(raw) < _FOOTER or struct.unpack("<Q", raw[-8:])[0] != _MAGIC:
        raise CheckpointError(
            f"{path}: this is not the index of a TensorFlow checkpoint, or it is truncated. Copy it again."
        )
    try:
        entries = dict(_entries(raw))
        if b"" not in entries:
            raise _Damage("it has no header")
        header = _fields(entries.pop(b""))
        if header.get(2, [0])[-1] != 0:
            raise _Damage("its numbers are big-endian")
        n_shards = header.get(1, [1])[-1]
        if not isinstance(n_shards, int) or not 1 <= n_shards <= 99_999:
            raise _Damage(f"it names {n_shards!r:.20} data files")
        variables = {key.decode(): _variable(value, n_shards) for key, value in entries.items()}
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: a name in the index is not text, so it is damaged.") from None
    except _Damage as error:
        raise CheckpointError(f"{path}: the index cannot be read: {error}. Copy it again.") from None
    return variables, n_shards


def _entries(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table of LevelDB."""
    footer = raw[-_FOOTER:-8]
    at = 0
    for _ in range(2):  # the block of metadata, which is empty, and that of the index
        offset, at = _varint(footer, at)
        size, at = _varint(footer, at)
    for _, handle in _block(raw, offset, size):
        place, after = _varint(handle, 0)
        length, _ = _varint(handle, after)
        yield from _block(raw, place, length)


def _block(raw: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if size < 4 or end + _TRAILER > len(raw) - _FOOTER:
        raise _Damage("a block lies beyond its end")
    kind, stated = raw[end], struct.unpack("<I", raw[end + 1 : end + _TRAILER])[0]
    if _masked(crc32c(raw[offset : end + 1])) != stated:
        raise _Damage("the checksum of a block is wrong")
    if kind:
        raise _Damage("its blocks are compressed, which TensorFlow does not do")
    block = raw[offset:end]
    (n_restarts,) = struct.unpack("<I", block[-4:])
    stop = len(block) - 4 - 4 * n_restarts
    if stop < 0:
        raise _Damage("a block has no room for its entries")
    at, key = 0, b""
    while at < stop:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + own + length > stop:
            raise _Damage("an entry lies beyond the end of its block")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _variable(entry: bytes, n_shards: int) -> Variable:
    """A BundleEntryProto."""
    fields = _fields(entry)

    def number(field: int) -> int:
        value = fields.get(field, [0])[-1]
        if not isinstance(value, int) or not 0 <= value <= _LARGEST_DATA << 3:
            raise _Damage("an entry has a number out of range")
        return value

    shape = []
    for part in fields.get(2, []):
        if not isinstance(part, bytes):
            raise _Damage("an entry has no shape")
        for dimension in _fields(part).get(2, []):
            if not isinstance(dimension, bytes):
                raise _Damage("an entry has no shape")
            extent = _fields(dimension).get(1, [0])[-1]
            if not isinstance(extent, int) or not 0 <= extent <= _LARGEST_DATA:
                raise _Damage("the shape of a variable is out of range")
            shape.append(extent)
    checksum = fields.get(6, [0])[-1]
    shard = number(3)
    if shard >= n_shards:
        raise _Damage(f"a variable lies in file {shard} of {n_shards}")
    if not isinstance(checksum, int):
        raise _Damage("an entry has no checksum")
    if number(5) > _LARGEST_DATA:
        raise _Damage("a variable is too large")
    return Variable(tuple(shape), number(1), shard, number(4), number(5), checksum)


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protocol buffer by number: integers, or bytes of what has a length."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if at + size > len(message):
                raise _Damage("an entry ends in the middle of a number")
            value, at = int.from_bytes(message[at : at + size], "little"), at + size
        elif kind == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise _Damage("an entry ends in the middle of a text")
            value, at = message[at : at + size], at + size
        else:
            raise _Damage("an entry has a field of an unknown kind")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = 0
    for k in range(10):
        if at + k >= len(data):
            break
        byte = data[at + k]
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value, at + k + 1
    raise _Damage("a number in it has no end")


# Checksums ----------------------------------------------------------------------------------------


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value, table = 0xFFFFFFFF, _CRC
    for byte in data:
        value = table[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """As LevelDB stores checksums."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
