"""`phaseseg doctor`: what is installed, what is missing for which purpose, and whether it works."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from time import perf_counter
from typing import Any

import typer

from phaseseg.terminal.errors import FAILURE, exit_codes
from phaseseg.terminal.options import AsJson
from phaseseg.version import __version__

DISTRIBUTION = "ovito-phaseseg"
# What each extra is for. Extras without an entry are shown by their name.
PURPOSES: Mapping[str, str] = {
    "": "labels, metrics, predictions, ASE, the command line",
    "ovito": "modifiers in OVITO",
    "simulate": "phaseseg simulate",
    "train": "phaseseg train, --device torch and cuda",
    "pyg": "networks as modules of PyTorch Geometric",
    "gsd": "GSD files",
    "parquet": "labels as Parquet files",
    "dask": "frames on a cluster",
    "map": "maps of data sets for chemiscope",
}
VARIABLES = (
    "NUMBA_CACHE_DIR",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PHASESEG_SIMD",
    "PHASESEG_STRUCTURES",
)


def doctor_command(as_json: AsJson = False) -> None:
    """Show what is installed, what is missing for which purpose, folders, memory, and a self-test."""
    failed = False
    with exit_codes():
        from phaseseg.terminal.show import note, show_json, work_bar

        packages = list(_packages())
        checkpoints, damaged = _checkpoints()
        with work_bar(as_json):
            test = _self_test()
        failed = bool(damaged or test["error"])
        found = {
            "phaseseg": __version__, "python": sys.version.split()[0], "executable": sys.executable,
            "system": platform.platform(), "installed at": str(Path(__file__).resolve().parents[1]),
            "packages": packages, "machine": _machine(), "folders": _folders(),
            "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
            "checkpoints": checkpoints, "damaged checkpoints": damaged, "self-test": test,
        }  # fmt: skip
        if as_json:
            show_json(found)
        else:
            _show(found)
        if failed and not as_json:
            note("Something does not work; the lines above say what.")
    if failed:
        raise typer.Exit(FAILURE)


def _packages() -> Iterator[dict[str, str]]:
    """Yield the requirements of each extra, with the installed version or "missing"."""
    try:
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # the sources are on the path, but not installed
        return
    for text in requirements:
        requirement, _, marker = text.partition(";")
        extra = marker.partition("extra ==")[2].strip(" '\"")
        name = requirement.strip()
        for mark in "[<>=!~( ":
            name = name.partition(mark)[0]
        if extra == "all":  # what the other extras name
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing"
            if marker and not extra:  # needed by other systems or versions of Python
                continue
        yield {"for": PURPOSES.get(extra, extra), "extra": extra, "package": name, "version": found}


def _machine() -> dict[str, Any]:
    """Return cores and memory; the values that the system does not tell are left out."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"processor": platform.machine(), "cores": cores}
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        found["memory, GB"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    return found


def _folders() -> list[dict[str, Any]]:
    """Return the folders in which files are kept between runs, with their size."""
    from phaseseg.compiled.jit import code_folder
    from phaseseg.training.files import cache_folder

    package, code = Path(__file__).resolve().parents[1], code_folder()
    if code is not None and package in code.parents:  # next to the sources, in many folders
        code = package
    wanted = {
        "compiled code": (code, (".nbi", ".nbc")),
        "arrays of trainings, places of frames": (cache_folder(), ("",)),
    }
    if structures := os.environ.get("PHASESEG_STRUCTURES"):
        wanted["minimized structures and cages"] = (Path(structures), ("",))
    return [
        {"what": what, "folder": None if folder is None else str(folder),
         "MB": round(_size(folder, endings) / 1e6, 1), "writable": folder is not None and _writable(folder)}
        for what, (folder, endings) in wanted.items()
    ]  # fmt: skip


def _size(folder: Path | None, endings: tuple[str, ...]) -> int:
    """Return the bytes of the files in a folder; those that cannot be read are not counted."""
    total = 0
    for parent, _, names in os.walk(folder) if folder is not None else ():
        for name in names:
            if name.endswith(endings):
                with suppress(OSError):
                    total += (Path(parent) / name).stat().st_size
    return total


def _writable(folder: Path) -> bool:
    """Whether files can be written to a folder, or the folder can be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _checkpoints() -> tuple[int, list[str]]:
    """Return the number of bundled checkpoints, and the sentences about those that are damaged."""
    from phaseseg.checkpoint import CheckpointError, bundled_checkpoints, load_checkpoint

    paths = bundled_checkpoints()
    damaged = []
    for name in paths:
        try:
            load_checkpoint(name)
        except CheckpointError as error:
            damaged.append(str(error))
    return len(paths), damaged


def _self_test() -> dict[str, Any]:
    """Label a slab between two liquids whose phases are known."""
    import numpy as np

    begin = perf_counter()
    try:
        from phaseseg import Frame, label_phases

        grid = np.stack(np.meshgrid(*[np.arange(0, 24, 2.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        names = np.where(grid[:, 0] < 12, "Fe", "Mg")
        frame = Frame(grid + 0.5, np.eye(3) * 24, np.ones(3, dtype=bool), names.tolist())
        fields = label_phases(frame, species="Fe", sigma=2.0)
        inner = np.abs(fields["interface_distance"]) > 2
        right = (fields["phase"] == 1) == (names == "Fe")
        if not (right[inner].all() and fields["n_phases"] == 2):
            return {"seconds": perf_counter() - begin, "error": "a slab of iron was labeled wrongly"}
    except Exception as error:
        return {"seconds": perf_counter() - begin, "error": f"{type(error).__name__}: {error}"}
    return {"seconds": perf_counter() - begin, "error": ""}


def _show(found: dict[str, Any]) -> None:
    from phaseseg.report import TextTable
    from phaseseg.terminal.show import show

    lines = [
        f"phaseseg {found['phaseseg']}, Python {found['python']}, {found['system']}",
        f"Installed at {found['installed at']}; run by {found['executable']}",
        ", ".join(f"{name} {value}" for name, value in found["machine"].items()),
    ]
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    for one in found["packages"]:
        rows.setdefault((one["for"], one["extra"]), []).append(one)
    table = [
        (
            purpose,
            ", ".join(f"{one['package']} {one['version']}" for one in own if one["version"] != "missing"),
            ", ".join(one["package"] for one in own if one["version"] == "missing"),
            f'pip install "{DISTRIBUTION}{f"[{extra}]" if extra else ""}"'
            if any(one["version"] == "missing" for one in own) else "",
        )
        for (purpose, extra), own in rows.items()
    ]  # fmt: skip
    show(lines)
    if table:
        show([TextTable("Packages", ("for", "installed", "missing", "to install"), table, n_labels=4)])
    else:
        show(["Run from the sources: the list of required packages is not known."])
    folders = [
        (
            one["what"],
            one["folder"] or "none can be written",
            f"{one['MB']} MB",
            "yes" if one["writable"] else "no",
        )
        for one in found["folders"]
    ]
    show([TextTable("Folders", ("what", "folder", "size", "writable"), folders, n_labels=2)])
    for name, value in found["environment"].items():
        show([f"{name}={value}"])
    damaged, test = found["damaged checkpoints"], found["self-test"]
    show(damaged or [f"{found['checkpoints']} checkpoints are complete."])
    seconds = f"{test['seconds']:.1f} s"
    show([f"Self-test failed after {seconds}: {test['error']}." if test["error"] else
          f"Self-test: a slab of 1728 atoms was labeled correctly in {seconds}."])  # fmt: skip
