"""Mutated checkpoints: bytes of the file, text of the header, settings and arrays; files of TensorFlow."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np

from environment_samples import crystal, embedding_checkpoint, fitted_checkpoint, network_checkpoint
from fuzz.frames import check, warm
from fuzz.mutations import mutated
from fuzz.readers import FOLDER, write
from fuzz.report import sentence
from mobility_samples import liquid, random_checkpoint, random_weights
from phaseseg import api, load_model
from phaseseg.api import prepare
from phaseseg.checkpoint import load_checkpoint, read_entry
from phaseseg.checkpoint.format import to_bytes
from phaseseg.frame import Frame
from samples import disordered_mixture, drops, random_glass_checkpoint, share_checkpoint
from tensorflow_files import SCOPES, small_config, write_tensorflow

VALUES = (
    None, "", [], {}, True, False, 0, 1, -1, 2, 3, 0.5, -0.5, 1e30, 1e300, 10**9, 10**30, 2**63, "x", "Fe",
    "metal", "lj", ["Fe"], ["Fe", "Fe"], [1, 2], [[1]], {"a": 1}, [0.0, 0.0], [1e300, -1e300], 64, 1e-300,
    "gat", "cnn", "\0", "a" * 200,
)  # fmt: skip


def _fitted_in_an_embedding() -> Any:
    model = load_model(embedding_checkpoint())
    return prepare(model, [crystal("bcc")], model.rule(method="kmeans", n_clusters=3)).checkpoint


@cache
def made() -> list[tuple[Any, Frame]]:
    """Valid checkpoints, each with a frame that it accepts."""
    positions, symbols, cell = drops(radii=(6.0,), cell=(16.0, 16.0, 16.0))
    melt = Frame(positions, cell, True, symbols, source="melt")
    glass = {n: disordered_mixture(60, n, source="glass") for n in (2, 3)}
    return [
        (share_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"), outputs=3), melt),
        (share_checkpoint("segmentation/gat-v9", architecture="gat", species=("Fe", "O")), melt),
        (random_glass_checkpoint(attention=True), glass[2]),
        (random_glass_checkpoint("liquid_glass/three-v1", dimensions=3), glass[3]),
        (random_checkpoint(n_members=2), liquid(64, source="liquid")),
        *((fitted_checkpoint(method), crystal("bcc")) for method in ("mixture", "threshold")),
        (network_checkpoint(), crystal("bcc")),
        (embedding_checkpoint(), crystal("bcc")),
        (_fitted_in_an_embedding(), crystal("bcc")),
    ]


def _changed(content: Any, random: Random) -> None:
    """Change one entry, somewhere in nested settings."""
    node = content
    while isinstance(node, dict | list):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and random.random() < 0.8:
            node = node[key]
            continue
        kind = random.random()
        if kind < 0.7:
            node[key] = copy.deepcopy(random.choice(VALUES))
        elif kind < 0.85:
            del node[key]
        elif isinstance(node, dict):
            node["further"] = copy.deepcopy(random.choice(VALUES))
        else:
            node.append(copy.deepcopy(random.choice(VALUES)))
        return


def _weights(weights: dict[str, Any], random: Random) -> None:
    name = random.choice(list(weights))
    values = weights[name]
    kind = random.randrange(7)
    if kind == 0:
        del weights[name]
    elif kind == 1:
        weights[random.choice(("x", "member7.x", name + ".more", "", "member0.", "\0"))] = values
    elif kind == 2:
        weights[name] = values * np.float32(random.choice((0, 1e10, -1e30, 1e38, 1e-38)))
    elif kind == 3:
        weights[name] = values.T if values.ndim > 1 else values[:-1]
    elif kind == 4:
        weights[name] = values.reshape(-1)
    elif kind == 5:
        values = values.copy()
        values.flat[random.randrange(max(values.size, 1))] = random.choice((np.nan, np.inf, -1e38))
        weights[name] = values
    else:
        weights[name] = np.zeros((0, *values.shape[1:]), np.float32)


def _bytes(checkpoint: Any, random: Random) -> bytes:
    kind = random.random()
    parts = {name: copy.deepcopy(getattr(checkpoint, name)) for name in (
        "family", "name", "units", "config", "ranges", "card")}  # fmt: skip
    weights = dict(checkpoint.weights)
    if 0.15 <= kind < 0.6:
        for _ in range(random.choice((1, 1, 2))):
            _changed(parts if random.random() < 0.2 else parts.get("config", parts), random)
    elif 0.6 <= kind < 0.8:
        _weights(weights, random)
    needed = {"family": "", "name": "x", "units": "", "config": {}, "ranges": {}, "card": {}}
    data, _ = to_bytes(SimpleNamespace(**needed | parts, weights=weights))
    if kind < 0.15:
        return mutated(data, random, text=False)
    if kind >= 0.8:  # the header with a valid sha256
        size = int.from_bytes(data[:8], "little")
        header = mutated(data[8 : 8 + size], random)
        data = len(header).to_bytes(8, "little") + header + data[8 + size :]
        place = data.find(b'"sha256":"') + 10
        if place > 10 and len(data) > place + 64:
            empty = data[:place] + b"0" * 64 + data[place + 64 :]
            data = data[:place] + hashlib.sha256(empty).hexdigest().encode() + data[place + 64 :]
    return data


__all__ = ["run", "warm"]


def _tensorflow(random: Random) -> str:
    """Load a mutated checkpoint of TensorFlow and use it; return what became of it."""
    prefix = write("in-put.ckpt", b"").with_name("in-put.ckpt")
    prefix.unlink()
    weights, scopes = dict(random_weights(small_config(), scale=0.5)), dict(SCOPES)
    kind = random.random()
    if kind < 0.4:
        _weights(weights, random)
    elif kind < 0.5:
        scopes[random.choice(list(scopes))] = random.choice(("", "Graph", "\0", *scopes.values()))
    try:
        write_tensorflow(prefix, weights, scopes)
    except (ValueError, KeyError):
        return "cannot be written"
    if kind >= 0.5:
        path = random.choice(sorted(FOLDER.iterdir()))
        path.write_bytes(mutated(path.read_bytes(), random, text=False))
    frame = liquid(64, source="liquid")
    try:
        fields = api.predict(frame, api.load_model(prefix))
    except ValueError as error:
        sentence(error)
        if not any(word in str(error) for word in (prefix.name, frame.source)):
            sentence(error, prefix.name)
        return "refused"
    check(frame, fields)
    return "used"


def run(kind: str, random: Random) -> str:
    """Load one mutated checkpoint and use it; return what became of it."""
    if random.random() < 0.15:
        return _tensorflow(random)
    checkpoint, frame = random.choice(made())
    try:
        data = _bytes(checkpoint, random)
    except (ValueError, RecursionError):
        return "cannot be written"
    path = write("in-put.safetensors", data)
    try:
        read_entry(path)
        found = load_checkpoint(path)
    except ValueError as error:
        sentence(error, path.name)
        return "refused"
    str(found)
    json.dumps(found.card)
    try:
        model = api.load_model(path)
        fields = api.predict(frame, model)
    except ValueError as error:
        sentence(error)
        text = str(error)
        if not any(word in text for word in (path.name, frame.source, str(parts_name(found)))):
            sentence(error, path.name)
        return "refused later"
    check(frame, fields)
    return "used"


def parts_name(checkpoint: Any) -> str:
    return str(checkpoint.name)
