"""Checkpoints: one file with the weights of a network, its settings and its card.

A checkpoint is a safetensors file. Its metadata hold three strings: the sha256, the version of the format
and a JSON text with family, name, units, config, ranges and card. The sha256 is that of the whole file with
the 64 digits of the sha256 itself set to "0", so it covers every byte. Reading one runs no code.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import Summarized, Summary, listed, plural
from phaseseg.specs import CHECKPOINT_FOLDERS

FORMAT = 1
SUFFIX = ".safetensors"

_LARGEST_HEADER = 8 << 20  # bytes; cards take some ten thousand
_START = b'{"__metadata__":{"sha256":"'  # of the header: the digits of the sha256 follow
_DIGITS = slice(8 + len(_START), 8 + len(_START) + 64)
_CONTENT = ("family", "name", "units", "config", "ranges", "card")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: one sentence names it, what was found and what to do."""


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Summarized):
    """Weights of a network with all that is needed to use and to judge them.

    Tuples and NumPy numbers in `config`, `card` and `ranges` become lists and plain numbers, as JSON has
    them; the order of the keys is kept. Contents must not be changed afterwards.

    Parameters
    ----------
    family : model family, for example "segmentation"
    name : family and name, for example "segmentation/gat-v1"
    config : settings of the network, as the family reads them
    weights : float32 arrays by name, all finite
    card : what there is to know: summary, data, split, training, label rule, metrics, limits, license
    units : "metal" or "lj", those of the frames that the network takes
    ranges : ranges of the training data, as the family reads them
    format : version of the file format
    path : file that it was read from

    Raises
    ------
    CheckpointError
        For a name or units that are none, values that JSON does not have (not a number, infinity), and
        weights that are not float32 or not finite.

    Examples
    --------
    >>> weights = {"layer1.bias": np.zeros(2, dtype=np.float32)}
    >>> checkpoint = Checkpoint("segmentation", "segmentation/mine-v2", {"hidden": 2}, weights)
    >>> checkpoint.version, len(checkpoint.hash)
    (2, 64)
    >>> print(checkpoint)
    Checkpoint segmentation/mine-v2
      units    metal
      weights  2 numbers in 1 array
      hidden   2
      sha256   10755779793f
    """

    family: str
    name: str
    config: dict[str, Any]
    weights: Mapping[str, NDArray[np.float32]]
    card: dict[str, Any] = field(default_factory=dict)
    units: str = "metal"
    ranges: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    path: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.family, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", self.family):
            raise CheckpointError(f"{self.family!r} is no name of a model family.")
        pattern = rf"{self.family}/[A-Za-z0-9][A-Za-z0-9._-]*"
        if not isinstance(self.name, str) or not re.fullmatch(pattern, self.name):
            raise CheckpointError(
                f"{self.name!r} is no name of a checkpoint; it must be {self.family}/ and letters, digits, "
                f"dots, dashes or underscores, as in {self.family}/mine-v1."
            )
        if self.units not in ("metal", "lj"):
            raise CheckpointError(f"{self.name}: units must be 'metal' or 'lj', found {self.units!r}.")
        if self.format != FORMAT:
            raise CheckpointError(f"{self.name}: the format must be {FORMAT}, found {self.format!r}.")
        for key in ("config", "card", "ranges"):
            object.__setattr__(self, key, _plain(getattr(self, key), f"{self.name}: {key}"))
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise CheckpointError(f"{self.name}: there are no weights.")
        weights = {key: _weight(self.weights[key], key, self.name) for key in sorted(self.weights, key=str)}
        object.__setattr__(self, "weights", weights)

    @property
    def version(self) -> int | None:
        """The number K of a name that ends in -vK."""
        return _version(self.name)

    @cached_property
    def hash(self) -> str:
        """sha256 of the checkpoint, 64 hexadecimal digits."""
        return _file_bytes(self)[_DIGITS].decode()

    def _summary(self) -> Summary:
        n_numbers = sum(values.size for values in self.weights.values())
        rows = {
            "units": self.units,
            "weights": f"{plural(n_numbers, 'number')} in {plural(len(self.weights), 'array')}",
            # One line for each part of the settings.
            **{name: _settings(value) for name, value in self.config.items()},
            "sha256": self.hash[:12],
        }
        summary = str(self.card.get("summary", ""))
        return f"Checkpoint {self.name}", list(rows.items()), [summary] if summary else []


def _settings(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_settings(one)}" for name, one in value.items() if one not in (None, []))
    if isinstance(value, list):
        return f"({listed([_settings(one) for one in value])})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, repr=False)
class CheckpointEntry(Summarized):
    """What the header of a checkpoint file says; `hash` is stated there and not checked.

    size : bytes of the file
    summary : one line of the card
    """

    name: str
    family: str
    version: int | None
    hash: str
    size: int
    summary: str
    path: Path

    def _summary(self) -> Summary:
        rows = [("size", f"{self.size / 1000:,.0f} kB"), ("sha256", self.hash[:12]), ("path", str(self.path))]
        return f"Checkpoint {self.name}", rows, [self.summary] if self.summary else []


# ------------------------------------------------------------------------------------- by name


def bundled_checkpoints(family: str | None = None) -> dict[str, Path]:
    """Names and files of the checkpoints that come with phaseseg, sorted; no file is opened."""
    own = (Path(str(files("phaseseg"))) / "families").glob("*/checkpoints")
    folders = {folder.parent.name: folder for folder in own} | CHECKPOINT_FOLDERS
    named = {
        f"{owner}/{path.name.removesuffix(SUFFIX)}": path
        for owner, folder in sorted(folders.items())
        for path in sorted(folder.glob(f"*{SUFFIX}"))
    }
    return {name: path for name, path in named.items() if family in (None, name.split("/")[0])}


def list_checkpoints(family: str | None = None) -> list[CheckpointEntry]:
    """What the headers of the bundled checkpoints say, of one family or of all, sorted by name.

    Raises
    ------
    CheckpointError
        If a header cannot be read.
    """
    return [read_entry(path) for path in bundled_checkpoints(family).values()]


def find_checkpoint(name_or_path: str | os.PathLike[str]) -> Path:
    """File of a checkpoint.

    Parameters
    ----------
    name_or_path : a bundled name ("segmentation/gat-v1"), its last part where only one family has it
        ("gat-v1"), or a file. A bundled name goes before a file of the same name.

    Raises
    ------
    CheckpointError
        For an unknown name (the nearest ones are listed) or a missing file.
    """
    bundled = bundled_checkpoints()
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, str):
        if text in bundled:
            return bundled[text]
        short = [name for name in bundled if name.split("/")[1] == text]
        if len(short) == 1:
            return bundled[short[0]]
        if short:
            raise CheckpointError(f"{text!r} is the name of several checkpoints: {' or '.join(short)}.")
    path = Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises where there is no such user)
    with suppress(OSError):  # a text that is too long for the name of a file
        if path.is_dir():
            raise CheckpointError(f"{path}: this is a folder. Give a {SUFFIX} file or a name.")
        if path.exists():
            return path
    is_name = isinstance(name_or_path, str) and re.fullmatch(r"[^/\\~.][^/\\~]*(/[^/\\~]+)?", text)
    if not is_name or text.endswith(SUFFIX):
        raise CheckpointError(
            f"{path}: there is no such file. Check the path, or choose a name from `phaseseg models list`."
        )
    raise CheckpointError(
        f"{text!r}: there is no checkpoint of this name{_nearest(text, bundled)}. See "
        f"`phaseseg models list`, or give a {SUFFIX} file."
    )


def _nearest(text: str, bundled: Mapping[str, Path]) -> str:
    """The end of a sentence: names like `text`, or those there are."""
    spellings = {name.lower(): name for name in bundled} | {
        name.split("/")[1].lower(): name for name in bundled
    }
    close = difflib.get_close_matches(text.lower(), spellings, n=3, cutoff=0.5)
    names = dict.fromkeys(spellings[spelling] for spelling in close)
    if not bundled:
        return "; none come with this version"
    if not names:
        return f"; there are {', '.join(bundled)}"
    return f"; near ones are {', '.join(names)}" if len(names) > 1 else f"; a near one is {''.join(names)}"


# ------------------------------------------------------------------------------- write and read


def save_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint. The same checkpoint gives the same bytes.

    Raises
    ------
    CheckpointError
        If the name of the file does not end in .safetensors, or the card is too long.
    OutputError
        If the file cannot be written. A file that was there before stays as it was.
    """
    from phaseseg.io import atomic_output

    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: the name of a checkpoint file must end in {SUFFIX}.")
    content = _file_bytes(checkpoint)
    with atomic_output(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(name_or_path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint and check every byte of it. No code in it is run.

    Parameters
    ----------
    name_or_path : a bundled name ("segmentation/gat-v1" or "gat-v1") or a file

    Returns
    -------
    Checkpoint
        Its arrays cannot be written to.

    Raises
    ------
    CheckpointError
        For an unknown name, a missing file, one that is no checkpoint, is cut short or has changed, or was
        made by a newer version of phaseseg.
    """
    path = find_checkpoint(name_or_path)
    checkpoint = verify_checkpoint(path)
    for name, bundled in bundled_checkpoints().items():
        if bundled == path and checkpoint.name != name:
            raise CheckpointError(
                f"{path}: the file of {name} holds {checkpoint.name}. Install phaseseg again."
            )
    return checkpoint


def verify_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the checkpoint in a file and check every byte of it; raises CheckpointError if it is not whole."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, raw, size = _header(file, path)
            metadata = _metadata(header, path)
            expected = len(raw) + _data_end(header, path)
            if size < expected:
                raise CheckpointError(
                    f"{path}: the file is cut short; {size:,} of {expected:,} bytes are there. Copy it again."
                )
            raw += file.read(size - len(raw))
    except OSError as error:
        raise _unreadable(path, error) from None
    digest = hashlib.sha256(raw[: _DIGITS.start] + b"0" * 64 + raw[_DIGITS.stop :]).hexdigest()
    stated = raw[_DIGITS].decode("latin-1")
    if not raw[8:].startswith(_START) or digest != stated or len(raw) > expected:
        raise CheckpointError(
            f"{path}: the file has changed since it was written; its sha256 is {digest[:12]}, and "
            f"{stated[:12]!r} is stated. Copy it again."
        )
    return _checkpoint(metadata, raw, path, digest)


def _checkpoint(metadata: Mapping[str, Any], raw: bytes, path: Path, digest: str) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = _content(metadata, path)
    try:
        weights = load(raw)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the weights cannot be read ({error}).") from None
    try:
        checkpoint = Checkpoint(
            content["family"], content["name"], content["config"], weights, content["card"],
            content["units"], content["ranges"], path=path,
        )  # fmt: skip
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    checkpoint.__dict__["hash"] = digest
    return checkpoint


def read_entry(path: str | os.PathLike[str]) -> CheckpointEntry:
    """What the header of a checkpoint file says, without reading or checking the weights.

    Raises
    ------
    CheckpointError
        If the header cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, _, size = _header(file, path)
    except OSError as error:
        raise _unreadable(path, error) from None
    metadata = _metadata(header, path)
    content = _content(metadata, path)
    name, card = str(content["name"]), content["card"]
    summary = str(card.get("summary", "")) if isinstance(card, dict) else ""
    return CheckpointEntry(
        name, str(content["family"]), _version(name), str(metadata["sha256"]), size, summary, path
    )


# ------------------------------------------------------------------------------ bytes of a file


def _file_bytes(checkpoint: Checkpoint) -> bytes:
    # Written here and not by safetensors, which leaves the order of the metadata open: the same checkpoint
    # must give the same bytes, and the sha256 stands at one place.
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
            f"{checkpoint.name}: config and card take {len(text):,} bytes, more than {_LARGEST_HEADER:,}."
        )
    raw = bytearray(len(text).to_bytes(8, "little") + text)
    for values in arrays:
        raw += values.tobytes()
    raw[_DIGITS] = hashlib.sha256(raw).hexdigest().encode()
    return bytes(raw)


def _header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], bytes, int]:
    """The header, its bytes with the eight of its length, and the size of the file.

    Nothing is read that cannot be a header.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) == 9 and (start[8:] != b"{" or not 2 <= length <= _LARGEST_HEADER):
        kind = ""
        if start[:2] == b"PK" or start[:1] == b"\x80":
            kind = " but one of pickled objects, as torch.save writes, which would run code"
        raise CheckpointError(
            f"{path}: this is not a safetensors file{kind}. Give a file that `phaseseg train` wrote, or "
            "a name from `phaseseg models list`."
        )
    if len(start) < 9 or size < 8 + length:
        raise CheckpointError(
            f"{path}: the file is empty or cut short; {size:,} bytes are there. Copy it again."
        )
    raw = start + file.read(length - 1)
    try:
        header = _parsed(raw[8:])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header of the file is damaged. Copy it again.")
    return header, raw, size


def _metadata(header: Mapping[str, Any], path: Path) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not {"sha256", "phaseseg_format", "checkpoint"} <= set(metadata):
        raise CheckpointError(
            f"{path}: this safetensors file is not a checkpoint of phaseseg, or is damaged: its metadata "
            "lack sha256, phaseseg_format or checkpoint. Give a file that `phaseseg train` wrote."
        )
    version = metadata["phaseseg_format"]
    if not isinstance(version, str) or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise CheckpointError(f"{path}: format {version!r} is none; the file is damaged. Copy it again.")
    if int(version) > FORMAT:
        raise CheckpointError(
            f"{path}: format {version} is newer than this version of phaseseg, which reads up to {FORMAT}. "
            "Install a newer phaseseg."
        )
    return metadata


def _content(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        content = _parsed(metadata["checkpoint"])
    except (ValueError, TypeError, RecursionError):
        content = None
    if not isinstance(content, dict) or set(content) != set(_CONTENT):
        raise CheckpointError(f"{path}: the description in the file is damaged. Copy it again.")
    return content


def _data_end(header: Mapping[str, Any], path: Path) -> int:
    """Number of bytes that the arrays take."""
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            try:
                end = max(end, int(entry["data_offsets"][1]))
            except (TypeError, LookupError, ValueError, OverflowError):
                raise CheckpointError(f"{path}: the header of the file is damaged. Copy it again.") from None
    return end


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"{path}: there is no such file. Check the path.")
    return CheckpointError(f"{path}: the file cannot be read ({error.strerror or error}).")


def _version(name: str) -> int | None:
    match = re.search(r"-v([0-9]{1,9})$", name)
    return int(match[1]) if match else None


# ---------------------------------------------------------------------------------- JSON values


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _parsed(text: str | bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of `value` with what JSON has; anything else is refused."""
    if depth == 0 and not isinstance(value, Mapping):
        raise CheckpointError(f"{where} must be a mapping of names to values, found {type(value).__name__}.")
    if depth > 50:
        raise CheckpointError(f"{where} is nested too deeply.")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise CheckpointError(f"{where} has keys that are not strings.")
        return {str(key): _plain(one, f"{where}.{key}", depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{where}[{k}]", depth + 1) for k, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{where} is {value}, which JSON does not have. Write None.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(f"{where} is a {type(value).__name__}, which JSON does not have.")


def _weight(values: Any, key: str, name: str) -> NDArray[np.float32]:
    if not isinstance(key, str) or not key or key == "__metadata__":
        raise CheckpointError(f"{name}: {key!r} is no name of an array.")
    if not isinstance(values, np.ndarray | np.generic) or values.dtype != np.float32:
        found = getattr(values, "dtype", type(values).__name__)
        raise CheckpointError(f"{name}: {key} must be a float32 array, found {found}.")
    n_bad = np.count_nonzero(~np.isfinite(values))
    if n_bad:
        raise CheckpointError(f"{name}: {key} holds {n_bad} values that are not finite.")
    copy = np.array(values, dtype=np.float32, order="C")
    copy.flags.writeable = False
    return copy
