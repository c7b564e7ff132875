"""Results of slabs in a folder, with which an interrupted run continues."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.io.write import OutputError, atomic_output

ABOUT = "run.json"


class Kept:
    """Arrays by name in the files of a folder, for one frame; without a folder, nothing is kept.

    A result that is there is read and not made again. Files appear whole or not at all, so a run may end at
    any time, also by force.

    folder : made if it is missing; None to keep nothing
    about : on what the results depend (numbers, texts); a folder with results of something else is refused
    prefix : of the names, for one of several frames

    Raises
    ------
    ValueError
        If the folder holds anything but the results of the same run.
    OutputError
        If the folder cannot be made or written.
    """

    def __init__(
        self, folder: Path | None = None, about: Mapping[str, Any] | None = None, prefix: str = ""
    ) -> None:
        self.folder, self._prefix = folder, prefix
        if folder is None or prefix:
            return
        about = json.loads(json.dumps(about or {}, default=str))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise OutputError(f"{folder}: the folder cannot be made ({error.strerror}).") from error
        if not there:
            with atomic_output(folder / ABOUT) as fresh:
                fresh.write_text(json.dumps(about, indent=1), "utf-8")
            return
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

    def of_frame(self, index: int) -> Kept:
        """The results of one frame."""
        return Kept(self.folder, prefix=f"frame-{index}-")

    def __call__(
        self, name: str, make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        """The arrays of this name, which are made and written if they are not there."""
        if self.folder is None:
            return make()
        path = self.folder / f"{self._prefix}{name}.npz"
        if path.is_file():
            try:
                with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                    return {key: file[key] for key in file.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{path} cannot be read ({error}); remove this file.") from None
        found: dict[str, Any] = dict(make())
        with atomic_output(path) as fresh:
            np.savez(fresh, **found)
        return found

    def remove(self) -> None:
        """Remove the files, and the folder if nothing else is in it."""
        if self.folder is None:
            return
        for path in [*self.folder.glob("frame-*.npz"), self.folder / ABOUT]:
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / ABOUT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
