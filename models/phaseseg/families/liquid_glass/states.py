"""Known states of configurations, from the temperature or from a label in the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any

from phaseseg.frame import Frame

Label = Callable[[Frame], bool | None]
"""Whether a configuration is glass; None leaves it out."""


def info_of(frame: Frame, key: str) -> Any:
    """Return the value of a key of `Frame.info`; a ValueError lists the keys of the file."""
    if key not in frame.info:
        known = ", ".join(frame.info) or "nothing"
        raise ValueError(
            f"{frame.error_prefix or 'a frame: '}there is no {key!r} among the keys of the configuration "
            f"({known}); write {key}=... into the comment line of extended XYZ, or name "
            "another key."
        )
    return frame.info[key]


def number_of(frame: Frame, key: str) -> float:
    """Return a value of `info_of` that must be a finite number."""
    value = info_of(frame, key)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise ValueError(f"{frame.error_prefix}{key!r} must be a finite number, found {value!r}.")
    return number


def temperature_label(glass_below: float, liquid_above: float, key: str = "temperature") -> Label:
    """Glass at or below one temperature, liquid at or above another, and neither in between.

    key : of the temperature in `Frame.info`; when called, a frame without it raises ValueError
    """
    if not glass_below < liquid_above:
        raise ValueError(
            f"the glass must be colder than the liquid, found glass at T <= {glass_below:g} and liquid at "
            f"T >= {liquid_above:g}."
        )
    return partial(_at_temperature, glass_below, liquid_above, key)


def _at_temperature(glass_below: float, liquid_above: float, key: str, frame: Frame) -> bool | None:
    temperature = number_of(frame, key)
    return True if temperature <= glass_below else False if temperature >= liquid_above else None


def named_label(key: str) -> Label:
    """The label under a key of `Frame.info`: 1 or "glass", 0 or "liquid".

    When called it raises ValueError for a frame without the key, or with another value.
    """
    return partial(_named, key)


def _named(key: str, frame: Frame) -> bool:
    value = info_of(frame, key)
    name = value.strip().lower() if isinstance(value, str) else value
    if name in ("glass", "1", 1):
        return True
    if name in ("liquid", "0", 0):
        return False
    raise ValueError(f"{frame.error_prefix}{key!r} must be 1 or glass, 0 or liquid, found {value!r}.")


def label_of(
    label: Label | None, glass_below: float | None, liquid_above: float | None, temperature: str
) -> Label:
    """The label from temperatures or from a key; a ValueError for both or neither."""
    if label is not None:
        if glass_below is not None or liquid_above is not None:
            raise ValueError("give either the temperatures of glass and liquid or a label, not both.")
        return label
    if glass_below is None or liquid_above is None:
        raise ValueError(
            "give the temperature at or below which configurations are glass (glass_below), and the one at "
            "or above which they are liquid (liquid_above)."
        )
    return temperature_label(glass_below, liquid_above, temperature)
