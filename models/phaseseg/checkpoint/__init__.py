"""Checkpoints: files that contain the weights of a network, its settings and its card."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint.format import FORMAT, CheckpointError, checked_weight, plain, read_file, to_bytes
from phaseseg.display import Summarized, Summary, listed, plural
from phaseseg.specs import CHECKPOINT_FOLDERS

__all__ = [
    "SUFFIX", "Checkpoint", "CheckpointEntry", "CheckpointError", "bundled_checkpoints", "find_checkpoint",
    "list_checkpoints", "load_checkpoint", "read_entry", "save_checkpoint", "verify_checkpoint",
]  # fmt: skip

SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Summarized):
    """Weights of a network with its settings and its card.

    Tuples and NumPy numbers in `config`, `card` and `ranges` become lists and plain numbers, as in JSON; the
    order of the keys is kept. Contents must not be changed afterwards.

    Parameters
    ----------
    family : name of the model family
    name : family and name, as in "mine/first-v1"
    config : settings of the network, in a form defined by the family
    weights : float32 arrays by name, all finite
    card : documentation: summary, data, split, training, label rule, metrics, limits, license
    units : units of the frames that the network accepts, "metal" or "lj"
    ranges : ranges of the training data, in a form defined by the family
    format : version of the file format
    path : file from which it was read, or None

    Raises
    ------
    CheckpointError
        For an invalid name or unit system, values that JSON cannot represent (such as NaN or infinity), and
        weights that are not float32 or not finite.

    Examples
    --------
    >>> weights = {"layer1.bias": np.zeros(2, dtype=np.float32)}
    >>> checkpoint = Checkpoint("mine", "mine/second-v2", {"hidden": 2}, weights)
    >>> checkpoint.version, len(checkpoint.hash)
    (2, 64)
    >>> print(checkpoint)
    Checkpoint mine/second-v2
      units    metal
      weights  2 numbers in 1 array
      hidden   2
      sha256   619d1f9b55c5
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
            raise CheckpointError(f"{self.family!r} is not a valid name of a model family.")
        pattern = rf"{self.family}/[A-Za-z0-9][A-Za-z0-9._-]*"
        if not isinstance(self.name, str) or not re.fullmatch(pattern, self.name):
            raise CheckpointError(
                f"{self.name!r} is not a valid checkpoint name; it must be {self.family}/ and letters, "
                f"digits, dots, dashes or underscores, as in {self.family}/mine-v1."
            )
        if self.units not in ("metal", "lj"):
            raise CheckpointError(f"{self.name}: units must be 'metal' or 'lj', found {self.units!r}.")
        if self.format != FORMAT:
            raise CheckpointError(f"{self.name}: the format must be {FORMAT}, found {self.format!r}.")
        for key in ("config", "card", "ranges"):
            object.__setattr__(self, key, plain(getattr(self, key), f"{self.name}: {key}"))
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise CheckpointError(f"{self.name}: there are no weights.")
        weights = sorted(self.weights.items(), key=lambda item: str(item[0]))
        checked = {key: checked_weight(values, key, self.name) for key, values in weights}
        object.__setattr__(self, "weights", checked)

    @property
    def version(self) -> int | None:
        """The number K if the name ends in -vK, otherwise None."""
        return _version(self.name)

    @cached_property
    def hash(self) -> str:
        """sha256 of the checkpoint file, 64 hexadecimal digits."""
        return to_bytes(self)[1]

    def _summary(self) -> Summary:
        n_numbers = sum(values.size for values in self.weights.values())
        rows = {
            "units": self.units,
            "weights": f"{plural(n_numbers, 'number')} in {plural(len(self.weights), 'array')}",
            # One line per setting.
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
    """The header of a checkpoint file; `hash` is the stated sha256, not checked.

    size : size of the file in bytes
    summary : summary line of the card
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


# By name ------------------------------------------------------------------------------------------


def bundled_checkpoints(family: str | None = None) -> dict[str, Path]:
    """Return names and paths of the bundled checkpoints, sorted, without opening the files."""
    own = (Path(str(files("phaseseg"))) / "families").glob("*/checkpoints")
    folders = {folder.parent.name: folder for folder in own} | CHECKPOINT_FOLDERS
    named = {
        f"{owner}/{path.name.removesuffix(SUFFIX)}": path
        for owner, folder in sorted(folders.items())
        for path in sorted(folder.glob(f"*{SUFFIX}"))
    }
    return {name: path for name, path in named.items() if family in (None, name.split("/")[0])}


def list_checkpoints(family: str | None = None) -> list[CheckpointEntry]:
    """Read the headers of the bundled checkpoints of one family or of all, sorted by name.

    Raises
    ------
    CheckpointError
        If a header cannot be read.
    """
    return [read_entry(path) for path in bundled_checkpoints(family).values()]


def find_checkpoint(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the path of a checkpoint.

    Parameters
    ----------
    name_or_path : a bundled name ("family/name-v1"), its last part ("name-v1") if only one family has it, or
        a file. A bundled name takes precedence over a file of the same name.

    Raises
    ------
    CheckpointError
        For an unknown name (similar names are suggested) or a missing file.
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
    path = Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    with suppress(OSError):  # the text is too long for a file name
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
        f"{text!r}: there is no checkpoint with this name{_nearest(text, bundled)}. See "
        f"`phaseseg models list`, or give a {SUFFIX} file."
    )


def _nearest(text: str, bundled: Mapping[str, Path]) -> str:
    """Return the end of a sentence: names similar to `text`, or all names."""
    if not bundled:
        return "; this version bundles none"
    spellings = {one.lower(): name for name in bundled for one in (name, name.split("/")[1])}
    close = difflib.get_close_matches(text.lower(), spellings, n=3, cutoff=0.5)
    names = dict.fromkeys(spellings[spelling] for spelling in close)
    said = "similar names are" if len(names) > 1 else "a similar name is" if names else "the names are"
    return f"; {said} {', '.join(names or bundled)}"


# Write and read -----------------------------------------------------------------------------------


def save_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint; the same checkpoint gives the same bytes.

    Raises
    ------
    CheckpointError
        If the file name does not end in .safetensors, or the card is too long.
    OutputError
        If the file cannot be written. An existing file is then unchanged.
    """
    from phaseseg.io import atomic_output

    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: the name of a checkpoint file must end in {SUFFIX}.")
    content, _ = to_bytes(checkpoint)
    with atomic_output(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(name_or_path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint and verify its sha256. Loading runs no code from the file.

    Parameters
    ----------
    name_or_path : as for `find_checkpoint`

    Returns
    -------
    Checkpoint
        Its arrays are read-only.

    Raises
    ------
    CheckpointError
        For an unknown name or a missing file, and for a file that is not a checkpoint, is truncated or
        changed, or was written by a newer version of phaseseg.
    """
    path = find_checkpoint(name_or_path)
    checkpoint = verify_checkpoint(path)
    for name, bundled in bundled_checkpoints().items():
        if bundled == path and checkpoint.name != name:
            raise CheckpointError(
                f"{path}: the file of {name} contains {checkpoint.name}. Reinstall phaseseg."
            )
    return checkpoint


def verify_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint file and verify its sha256; CheckpointError if it is truncated or changed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    content, raw, digest, _ = read_file(path)
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
    """Read the header of a checkpoint file, without reading or checking the weights."""
    path = Path(path)
    content, _, stated, size = read_file(path, header_only=True)
    name, card = str(content["name"]), content["card"]
    summary = str(card.get("summary", "")) if isinstance(card, dict) else ""
    return CheckpointEntry(name, str(content["family"]), _version(name), stated, size, summary, path)


def _version(name: str) -> int | None:
    match = re.search(r"-v([0-9]{1,9})$", name)
    return int(match[1]) if match else None
