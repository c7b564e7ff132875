"""The format of checkpoint files.

A checkpoint is a safetensors file. Its metadata contain three strings: the sha256, the version of the format
and a JSON text with family, name, units, config, ranges and card. The sha256 is computed from the whole file
with the 64 digits of the sha256 itself set to "0", so it covers every byte. Reading a file runs no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

FORMAT = 1

_LARGEST_HEADER = 8 << 20  # bytes, far above the size of real cards
_START = b'{"__metadata__":{"sha256":"'  # start of the header; the digits of the sha256 follow
_DIGITS = slice(8 + len(_START), 8 + len(_START) + 64)
_CONTENT = ("family", "name", "units", "config", "ranges", "card")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def to_bytes(checkpoint: Any) -> tuple[bytes, str]:
    """Return the content of a checkpoint file and its sha256."""
    # The safetensors writer does not fix the order of the metadata. Here the same checkpoint must give the
    # same bytes, with the sha256 at a fixed position.
    content = {key: getattr(checkpoint, key) for key in _CONTENT}
    metadata = {"sha256": "0" * 64, "phaseseg_format": str(FORMAT), "checkpoint": _json(content)}
    header: dict[str, Any] = {"__metadata__": metadata}
    arrays = [np.asarray(values, dtype="<f4", order="C") for values in checkpoint.weights.values()]
    end = 0
    for name, values in zip(checkpoint.weights, arrays, strict=True):
        start, end = end, end + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [start, end]}
    try:
        text = _json(header).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{checkpoint.name}: the text cannot be written as UTF-8 ({error}).") from None
    text += b" " * (-len(text) % 8)
    if len(text) > _LARGEST_HEADER:
        raise CheckpointError(
            f"{checkpoint.name}: config and card take {len(text):,} bytes; the limit is {_LARGEST_HEADER:,}."
        )
    raw = bytearray(len(text).to_bytes(8, "little") + text)
    for values in arrays:
        raw += values.tobytes()
    digest = hashlib.sha256(raw).hexdigest()
    raw[_DIGITS] = digest.encode()
    return bytes(raw), digest


def read_file(path: Path, *, header_only: bool = False) -> tuple[dict[str, Any], bytes, str, int]:
    """Return content, bytes, sha256 and size of a file; CheckpointError if it is truncated or changed.

    header_only : read only the header; the bytes are those of the header, the sha256 is the stated one
    """
    try:
        with path.open("rb") as file:
            header, raw, size = _header(file, path)
            metadata = _metadata(header, path)
            if header_only:
                return _content(metadata, path), raw, str(metadata["sha256"]), size
            expected = len(raw) + _data_end(header, path)
            if size < expected:
                raise CheckpointError(
                    f"{path}: the file is truncated to {size:,} of {expected:,} bytes. Copy it again."
                )
            raw += file.read(size - len(raw))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file. Check the path.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: the file cannot be read ({error.strerror or error}).") from None
    digest = hashlib.sha256(raw[: _DIGITS.start] + b"0" * 64 + raw[_DIGITS.stop :]).hexdigest()
    stated = raw[_DIGITS].decode("latin-1")
    if not raw[8:].startswith(_START) or digest != stated or len(raw) > expected:
        raise CheckpointError(
            f"{path}: the file has changed since it was written; its sha256 is {digest[:12]}, but the header "
            f"states {stated[:12]!r}. Copy it again."
        )
    return _content(metadata, path), raw, digest, size


def _header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], bytes, int]:
    """Return the header, its bytes including the eight of its length, and the size of the file.

    Checks the length before reading, so that other files are rejected quickly.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) == 9 and (start[8:] != b"{" or not 2 <= length <= _LARGEST_HEADER):
        kind = ""
        if start[:2] == b"PK" or start[:1] == b"\x80":
            kind = " but a pickle, as written by torch.save, which could run code"
        raise CheckpointError(
            f"{path}: this is not a safetensors file{kind}. Give a file written by `phaseseg train`, or "
            "a name from `phaseseg models list`."
        )
    if len(start) < 9 or size < 8 + length:
        raise CheckpointError(f"{path}: the file is empty or truncated ({size:,} bytes). Copy it again.")
    raw = start + file.read(length - 1)
    return _mapping(raw[8:], path, "header of the file"), raw, size


def _metadata(header: Mapping[str, Any], path: Path) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not {"sha256", "phaseseg_format", "checkpoint"} <= set(metadata):
        raise CheckpointError(
            f"{path}: this safetensors file is damaged or not a phaseseg checkpoint: its metadata lack "
            "sha256, phaseseg_format or checkpoint. Give a file written by `phaseseg train`."
        )
    version = metadata["phaseseg_format"]
    if not isinstance(version, str) or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise CheckpointError(
            f"{path}: {version!r} is not a format version; the file is damaged. Copy it again."
        )
    if int(version) > FORMAT:
        raise CheckpointError(
            f"{path}: format {version} is newer than this version of phaseseg, which reads up to {FORMAT}. "
            "Install a newer phaseseg."
        )
    return metadata


def _content(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    content = _mapping(metadata["checkpoint"], path, what := "description in the file")
    if set(content) != set(_CONTENT):
        raise _damaged(path, what)
    return content


def _data_end(header: Mapping[str, Any], path: Path) -> int:
    """Return the size of the arrays in bytes."""
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    try:
        return max([0, *(int(entry["data_offsets"][1]) for entry in entries)])
    except (TypeError, LookupError, ValueError, OverflowError):
        raise _damaged(path, "header of the file") from None


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: the {what} is damaged. Copy it again.")


# JSON ---------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _mapping(text: str | bytes, path: Path, what: str) -> dict[str, Any]:
    """Parse a part of a file that must be a JSON mapping."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, TypeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(path, what)
    return value


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """Copy `value` with JSON types only; CheckpointError for anything else."""
    if depth == 0 and not isinstance(value, Mapping):
        raise CheckpointError(f"{where} must be a mapping of names to values, found {type(value).__name__}.")
    if depth > 50:
        raise CheckpointError(f"{where} is nested too deeply.")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise CheckpointError(f"{where} has keys that are not strings.")
        return {str(key): plain(one, f"{where}.{key}", depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, f"{where}[{k}]", depth + 1) for k, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{where} is {value}, which JSON cannot represent. Use None.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(f"{where} is a {type(value).__name__}, which JSON cannot represent.")


def checked_weight(values: Any, key: str, name: str) -> NDArray[np.float32]:
    """Return a read-only copy of an array of weights; CheckpointError if it cannot be stored."""
    if not isinstance(key, str) or not key or key == "__metadata__":
        raise CheckpointError(f"{name}: {key!r} is not a valid array name.")
    if not isinstance(values, np.ndarray | np.generic) or values.dtype != np.float32:
        found = getattr(values, "dtype", type(values).__name__)
        raise CheckpointError(f"{name}: {key} must be a float32 array, found {found}.")
    n_bad = np.count_nonzero(~np.isfinite(values))
    if n_bad:
        raise CheckpointError(f"{name}: {key} contains {n_bad} values that are not finite.")
    copy = np.array(values, dtype=np.float32, order="C")
    copy.flags.writeable = False
    return copy
