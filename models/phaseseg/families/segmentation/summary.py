"""What `phaseseg label` and `phaseseg predict` print and write of the frames of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phaseseg.families.segmentation.rules import Rule
from phaseseg.families.segmentation.trajectory_statistics import (
    BoundaryScan,
    TrajectorySummary,
    boundary_message,
)
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame


class RunSummary(TrajectorySummary):
    """A `TrajectorySummary` with the frame that figures show and, on request, a scan of boundary widths.

    Parameters
    ----------
    rule : how the frames are labeled or predicted
    source : name of the file
    average : ±ps over which densities were averaged
    scan : whether boundary widths are compared
    """

    def __init__(
        self, rule: Rule, source: str = "", *, average: float | None = None, scan: bool = False
    ) -> None:
        super().__init__(rule, source)
        self.average = average
        self.scan = BoundaryScan(rule.species) if scan else None
        self._example: tuple[Frame, Fields] | None = None

    def add(self, frame: Frame, fields: Fields) -> None:
        super().add(frame, fields)
        if self.scan is not None:
            self.scan.add(frame, fields)
        if self._example is None or fields["n_domains"] or not self._example[1]["n_domains"]:
            self._example = frame, fields

    @property
    def example(self) -> tuple[Frame, Fields]:
        """The frame that figures show: the last one with two phases, if there is any.

        Raises
        ------
        ValueError
            If there are no frames.
        """
        if self._example is None:
            raise ValueError("there are no frames to show.")
        return self._example

    @property
    def messages(self) -> tuple[Message, ...]:
        found = super().messages
        return found if self.scan is None else (*found, boundary_message(self.scan.table()))

    def tables(self) -> dict[str, Table]:
        """Those of `TrajectorySummary`, and `boundary_scan` on request."""
        return super().tables() | ({} if self.scan is None else {"boundary_scan": self.scan.table()})

    def write_report(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write page, figures and tables into a folder; gives the page.

        about : `seconds` that the work took

        Raises
        ------
        OutputError
            If something cannot be written.
        """
        from phaseseg.families.segmentation.report import write_report

        return write_report(folder, self, about["seconds"])
