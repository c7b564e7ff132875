"""Where networks run: the processor without torch, torch on the processor, or torch on a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

Device = Literal["auto", "cpu", "torch", "cuda"]


def check_device(device: str) -> None:
    """Raise ValueError for an unknown device."""
    if device not in ("auto", "cpu", "torch", "cuda"):
        raise ValueError(f"device must be auto, cpu, torch or cuda, found {device!r}.")


def device_kind(device: str) -> Literal["cpu", "torch", "cuda"]:
    """ "cpu", "torch" or "cuda" of a device; "auto" is the processor without torch.

    Raises
    ------
    ValueError
        For an unknown device.
    ImportError
        For a device that needs torch where that is not installed.
    """
    check_device(device)
    if device in ("auto", "cpu"):
        return "cpu"
    if find_spec("torch") is None:
        raise ImportError(
            f"device {device} needs torch, which is not installed: pip install 'ovito-phaseseg[train]'."
        )
    return "cuda" if device == "cuda" else "torch"
