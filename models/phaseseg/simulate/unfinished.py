"""The files that an interrupted simulation leaves behind, and how it continues from them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.io import OutputError, atomic_output
from phaseseg.io.packing import WRITTEN, pack, packed_file, unpacked

CHECKPOINT_SECONDS = 120.0


class GrowingFile:
    """A trajectory that grows in `<name>.partial` until it is finished.

    n_frames, n_bytes : the valid part of the partial file; an interrupted write may have left more
    """

    def __init__(self, target: Path) -> None:
        # Before the simulation, not after an hour of it.
        if target.is_dir():
            raise OutputError(f"{target}: this is a folder. Give the name of a file.")
        if not target.parent.is_dir():
            raise OutputError(
                f"{target}: there is no folder {target.parent}. Make it, or write somewhere else."
            )
        self.target = target
        self.partial = target.with_name(target.name + ".partial")
        self.compressed = target.name.lower().endswith(WRITTEN)
        self.n_frames = 0
        self.n_bytes = 0

    def append(self, text: str) -> None:
        """Add a frame."""
        # One compressed piece per frame, so that the file is readable at any time and can grow.
        block = pack(text.encode("ascii"), self.target.name)
        with self.partial.open("r+b" if self.n_bytes else "wb") as file:
            file.truncate(self.n_bytes)
            file.seek(self.n_bytes)
            file.write(block)
        self.n_bytes += len(block)
        self.n_frames += 1

    def finish(self) -> None:
        """Rename the file to its final name."""
        if self.compressed:
            # One piece at the end, because some readers (OVITO) stop after the first one.
            with atomic_output(self.target) as path, packed_file(path) as packed:
                for frames in unpacked(self.partial):
                    packed.write(frames)
            self.partial.unlink()
        else:
            self.partial.replace(self.target)


class RunState:
    """The state of a simulation in `<output>.partial.npz`, written every two minutes.

    Raises
    ------
    OutputError
        If files of an interrupted run exist and `resume` is False.
    """

    def __init__(self, files: list[GrowingFile], settings: dict[str, Any], *, resume: bool) -> None:
        self.files, self.settings = files, settings
        first = files[0]
        self.path = first.target.with_name(first.target.name + ".partial.npz")
        kept = [path for path in (*(file.partial for file in files), self.path) if path.exists()]
        if kept and not resume:
            raise OutputError(
                f"{kept[0]}: left by an interrupted run. Continue it with resume, or delete it to start "
                "again."
            )
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the state, completely or not at all."""
        fresh = self.path.with_name(self.path.name + ".new")
        written = np.array([[file.n_frames, file.n_bytes] for file in self.files])
        with fresh.open("wb") as file:
            np.savez(file, **{**arrays, "settings": json.dumps(self.settings), "written": written})  # type: ignore[arg-type]
        fresh.replace(self.path)
        self._saved = time.monotonic()

    def load(self) -> dict[str, NDArray[Any]] | None:
        """The saved arrays, or None if there is no saved state.

        Raises
        ------
        ValueError
            The state belongs to other arguments, or a partial file is shorter than the state says.
        """
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as saved:
            before = json.loads(str(saved["settings"]))
            other = [name for name in self.settings if before.get(name) != self.settings[name]]
            if other:
                name = other[0]
                raise ValueError(
                    f"{self.path} is of a run with {name} {before.get(name)}, not {self.settings[name]}: "
                    "resume with the same arguments, or delete it to start again."
                )
            arrays = {name: saved[name] for name in saved.files if name not in ("settings", "written")}
            written = saved["written"].tolist()
        for file, (n_frames, n_bytes) in zip(self.files, written, strict=True):
            file.n_frames, file.n_bytes = n_frames, n_bytes
            if n_frames and (not file.partial.exists() or file.partial.stat().st_size < n_bytes):
                raise ValueError(
                    f"{file.partial} is missing or shorter than {self.path} says; delete both to start again."
                )
        return arrays

    def finish(self) -> None:
        """End the run: rename the files and remove the state."""
        for file in self.files:
            file.finish()
        self.path.unlink(missing_ok=True)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Add a note on the kept files to the message of an interruption or a failure."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._kept()) from None
        except RuntimeError as error:
            raise RuntimeError(f"{error} {self._kept()}") from error

    def _kept(self) -> str:
        if not self.path.exists():
            return "Nothing was kept."
        n, partial = self.files[0].n_frames, self.files[0].partial
        frames = f"Kept {n} frame{'' if n == 1 else 's'} in {partial}" if n else "No frame was written yet"
        return f"{frames}; the same arguments with resume continue from {self.path}."
