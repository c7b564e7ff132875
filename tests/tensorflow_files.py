"""A writer of TensorFlow checkpoints for tests: what `tensorflow_checkpoint` reads, from the description."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from phaseseg.families.mobility.settings import BapstConfig

SCOPES = {
    "edge_encoder": "Graph/graph_independent/edge_model",
    "node_encoder": "Graph/graph_independent/node_model",
    "edge_rounds.0": "Graph/graph_network/edge_block", "node_rounds.0": "Graph/graph_network/node_block",
    "decoder": "Graph/graph_independent_1/node_model",
}  # fmt: skip


def crc32c(data):
    """Bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 * (value & 1))
    return value ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def entry(shape, offset, raw):
    """A BundleEntryProto of float32."""
    dimensions = b"".join(
        b"\x12" + varint(len(body)) + body for body in (b"\x08" + varint(extent) for extent in shape)
    )
    made = b"\x08\x01\x12" + varint(len(dimensions)) + dimensions
    if offset:
        made += b"\x20" + varint(offset)
    return made + b"\x28" + varint(len(raw)) + b"\x35" + struct.pack("<I", masked(raw))


def block(entries):
    """Prefix-compressed, one restart point, trailer included."""
    body, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        own = key[shared:]
        body += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        before = key
    body += struct.pack("<II", 0, 1)
    return body + b"\x00" + struct.pack("<I", masked(body + b"\x00"))


def table(entries):
    """A sorted table with one block of data."""
    data, metadata = block(sorted(entries)), block([])

    def handle(offset, made):
        return varint(offset) + varint(len(made) - 5)

    index = block([(max(entries)[0], handle(0, data))])
    footer = handle(len(data), metadata) + handle(len(data) + len(metadata), index)
    footer = footer.ljust(40, b"\x00") + struct.pack("<Q", 0xDB4775248B80FB57)
    return data + metadata + index + footer


def write_tensorflow(prefix, weights, scopes=SCOPES, extra=()):
    """Write NAME.index and NAME.data-00000-of-00001 for weights with our names."""
    entries, data = [(b"", b"\x08\x01\x1a\x02\x08\x01")], b""
    arrays = {}
    for name, values in weights.items():
        layer, number, kind = name.rsplit(".", 2)
        key = f"{scopes[layer]}/mlp/linear_{number}/{'w' if kind == 'weight' else 'b'}"
        arrays[key] = values.T if kind == "weight" else values
    for key, values in [*arrays.items(), *extra]:
        raw = np.asarray(values, dtype="<f4", order="C").tobytes()
        entries.append((key.encode(), entry(np.shape(values), len(data), raw)))
        data += raw
    prefix = Path(prefix)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)


def small_config(**more):
    return BapstConfig(**{"width": 6, "hidden": 6, "decoder_layers": 2, **more})
