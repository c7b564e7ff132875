"""Results of slabs in a folder, with which an interrupted run continues, and other machines help."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.io.write import OutputError, atomic_output

ABOUT = "run.json"
NAMED = "with --resume"
"""How the folder is named, for messages."""
ARRAYS = ".arrays-"
"""Folders of arrays that machines share while a frame is worked on."""
Tasks = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a function with each item on machines that share the folder, in order; `Cluster.map` is one."""


@dataclass(frozen=True)
class Kept:
    """Arrays by name in the files of a folder, for one frame; without a folder, nothing is kept.

    A result that is there is read and not made again. Files appear whole or not at all, so a run may end at
    any time, also by force.

    prefix : of the names, for one of several frames
    file : number of the file, for one of several
    tasks : how other machines make results, if there are any
    """

    folder: Path | None = None
    prefix: str = ""
    file: int = 0
    tasks: Tasks | None = None

    @classmethod
    def of_run(cls, folder: Path, about: Mapping[str, Any], tasks: Tasks | None = None) -> Kept:
        """Make the folder, or continue with that of an interrupted run.

        about : on what the results depend (numbers, texts)

        Raises
        ------
        ValueError
            If the folder holds anything but the results of the same run.
        OutputError
            If the folder cannot be made or written.
        """
        about = json.loads(json.dumps(about, default=str))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise OutputError(f"{folder}: the folder cannot be made ({error.strerror}).") from error
        if not there:
            with atomic_output(folder / ABOUT) as fresh:
                fresh.write_text(json.dumps(about, indent=1), "utf-8")
            return cls(folder, tasks=tasks)
        before = _about(folder) if ABOUT in there else None
        if before is None or [name for name in there if name != ABOUT and not name.startswith("frame-")]:
            raise ValueError(
                f"{folder} holds other files than those of an interrupted run; name a new folder."
            )
        if changed := [name for name in {**before, **about} if before.get(name) != about.get(name)]:
            raise ValueError(
                f"{folder} is of a run that differs in: {', '.join(changed)}. Remove the folder, or name "
                "another one."
            )
        for arrays in folder.glob(f"{ARRAYS}*"):  # of a process that was killed
            shutil.rmtree(arrays, ignore_errors=True)
        return cls(folder, tasks=tasks)

    def of_frame(self, index: int) -> Kept:
        """The results of one frame."""
        return replace(self, prefix=f"frame-{index}-" + (f"of-{self.file}-" if self.file else ""))

    def of_file(self, number: int) -> Kept:
        """The results of one of several files."""
        return replace(self, file=number)

    def for_others(self) -> Kept:
        """The same, to be sent to another machine."""
        return Kept(None if self.folder is None else self.folder.absolute(), self.prefix)

    def path(self, name: str) -> Path:
        """The file of a result."""
        assert self.folder is not None
        return self.folder / f"{self.prefix}{name}.npz"

    def new_folder(self) -> Path:
        """A new folder for arrays that all machines see."""
        assert self.folder is not None
        return Path(tempfile.mkdtemp(prefix=ARRAYS, dir=self.folder.absolute()))

    def has(self, name: str) -> bool:
        """Whether the result is there."""
        return self.folder is not None and self.path(name).is_file()

    def __call__(
        self, name: str, make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        """The arrays of this name, which are made and written if they are not there."""
        if self.has(name):
            return self.read(name)
        if self.folder is None:
            return make()
        found = make()
        self.write(name, found)
        return found

    def read(self, name: str) -> Mapping[str, NDArray[Any]]:
        """Arrays that are there."""
        path = self.path(name)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except FileNotFoundError:
            raise not_seen(path) from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} cannot be read ({error}); remove this file.") from None

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays."""
        parts: dict[str, Any] = dict(arrays)
        with atomic_output(self.path(name)) as fresh:
            np.savez(fresh, **parts)

    def remove_one(self, name: str) -> None:
        """Remove a result, if it is there."""
        self.path(name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the files, and the folder if nothing else is in it."""
        if self.folder is None:
            return
        # Files with a point in front were being written by a process that was killed.
        for name in ("frame-*.npz", ".*-frame-*.npz", ABOUT, f".*-{ABOUT}"):
            for path in self.folder.glob(name):
                path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def not_seen(path: Path | str) -> OutputError:
    """The error of a machine that does not see a file of the folder."""
    return OutputError(
        f"{path}: there is no such file on {platform.node()}. All machines must see the folder of --resume "
        "under the same name."
    )


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / ABOUT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
