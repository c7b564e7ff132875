"""Figures and report: made for any cell, self-contained, and without touching matplotlib's global state."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from phaseseg import __version__, testing
from phaseseg.display import value_and_error
from phaseseg.families.segmentation import figures
from phaseseg.families.segmentation.labels.composition import composition_in
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.report import RunSummary
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.slices import _Plane, figure_slices
from phaseseg.fields import Column, Grid, Table
from phaseseg.frame import Frame, length_unit
from phaseseg.io import OutputError
from phaseseg.report import duration, png

PNG = b"\x89PNG\r\n\x1a\n"
RULE = LabelRule("Fe", sigma=1.5).fixed()


def slab(seed: int = 0, *, cell: np.ndarray | None = None, pbc: object = True, mixed: bool = False) -> Frame:
    """2,400 atoms at melt density; iron in the left half of the cell, or everywhere."""
    rng = np.random.default_rng(seed)
    cell = np.diag([40.0, 24.0, 24.0]) if cell is None else cell
    fractions = rng.random((2400, 3))
    share = 0.5 if mixed else np.where(fractions[:, 0] < 0.5, 0.9, 0.03)
    iron = rng.random(2400) < share
    return Frame(
        fractions @ cell, cell, pbc, np.where(iron, "Fe", np.where(rng.random(2400) < 0.4, "Mg", "O")),
        timestep=10 * seed, time=0.01 * seed, source=f"slab <{seed}>",
    )  # fmt: skip


def summary_of(frames: list[Frame], rule: LabelRule = RULE, *, scan: bool = False) -> RunSummary:
    summary = RunSummary(rule, "a <b> & c.dump", scan=scan)
    for frame in frames:
        summary.add(frame, label_frame(frame, rule))
    return summary


def test_messages_name_the_unit_of_the_frame():
    """In reduced units no message gives a length in Å, and otherwise none in σ."""
    rule = LabelRule("Fe", sigma=0.8, voxel=1.0, phases=2, min_volume=50).fixed()
    for units, other in (("lj", "Å"), ("metal", "σ")):
        messages = summary_of([slab().replace(units=units)], rule).messages
        assert {"coarse-voxels", "dropped-domains", "interface-area"} <= {one.code for one in messages}
        assert not [str(one) for one in messages if other in str(one)]
        with pytest.raises(ValueError, match=f"[0-9] {length_unit(units)}[ ;]"):
            label_frame(slab().replace(units=units), LabelRule("Fe", sigma=20.0).fixed())


TRICLINIC = np.array([[40.0, 0, 0], [9.0, 24.0, 0], [-6.0, 5.0, 24.0]])
TURNED = np.array([[0, 30.0, 0], [0, 0, 28.0], [26.0, 0, 4.0]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "frame",
    [
        slab(),
        slab(cell=TRICLINIC),
        slab(cell=TURNED),
        slab(pbc=[True, True, False]),
        slab(cell=TRICLINIC, pbc=[False, True, True]),
        slab(mixed=True),
    ],
    ids=["box", "triclinic", "turned", "open", "triclinic open", "one phase"],
)
def test_slices_are_drawn_for_any_cell(frame: Frame) -> None:
    fields = label_frame(frame, RULE)
    for axis in (None, 0, 1, 2):
        assert png(figure_slices(frame, fields, RULE, axis=axis), dpi=30).startswith(PNG)
    assert png(figures.figure_histogram(fields, RULE), dpi=30).startswith(PNG)


def test_slice_of_a_flat_box_shows_every_atom() -> None:
    frame = slab(cell=np.diag([60.0, 50.0, 1.0]))
    flat = frame.replace(positions=frame.positions * [1, 1, 0])
    fields = label_frame(flat, RULE)
    figure = figure_slices(flat, fields, RULE)
    atoms = [item for ax in figure.axes for item in ax.collections if len(item.get_offsets()) == 2400]
    assert len(atoms) == 1


def plane(cell: np.ndarray, axis: int) -> _Plane:
    grid = Grid(np.zeros((8, 10, 12), np.float32), cell, np.array([1.0, 2.0, 3.0]), np.ones(3, bool))
    return _Plane(grid, axis)


@pytest.mark.parametrize("cell", [np.diag([40.0, 24.0, 20.0]), TRICLINIC, TURNED])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_keep_lengths_and_angles(cell: np.ndarray, axis: int) -> None:
    one = plane(cell, axis)
    corners = one.outline()
    first, second = cell[one.u], cell[one.v]
    assert np.allclose(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(first))
    assert np.allclose(np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(second))
    assert np.allclose((corners[1] - corners[0]) @ (corners[3] - corners[0]), first @ second)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_atoms_of_a_slab_are_those_near_the_plane_across_the_cell_face_too(axis: int) -> None:
    rng = np.random.default_rng(1)
    one = plane(TRICLINIC, axis)
    positions = (rng.random((3000, 3)) * 3 - 1) @ TRICLINIC + one.grid.origin
    chosen, places = one.near(positions, 0.02, 1.0)
    normal = np.cross(TRICLINIC[one.u], TRICLINIC[one.v])
    normal /= np.linalg.norm(normal)
    height = TRICLINIC[axis] @ normal
    depth = (positions - one.grid.origin) @ normal - 0.02 * height
    depth -= np.round(depth / height) * height
    assert np.array_equal(chosen, np.flatnonzero(np.abs(depth) <= 1.0))
    (left, right), (bottom, top) = one.extent()
    assert (places[:, 1] > bottom - 1).all() and (places[:, 1] < top + 1).all()
    assert (places[:, 0] > left - 10).all() and (places[:, 0] < right + 10).all()


class _Page(HTMLParser):
    """Collects what a browser would fetch, and whether every element is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_report_is_self_contained_and_says_how_it_was_made(tmp_path: Path) -> None:
    rule = LabelRule("Fe", sigma=1.6, threshold="two-means").fixed()
    page = summary_of([slab(k) for k in range(5)], rule, scan=True).write_report(tmp_path / "new" / "report")
    text = page.read_text(encoding="utf-8")
    parsed = _Page()
    parsed.feed(text)
    assert parsed.open == []
    assert len(parsed.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert not re.search(r"https?://|url\(|<script|@import", text)
    assert "a &lt;b&gt; &amp; c.dump" in text and "a <b>" not in text
    assert f"phaseseg {__version__}" in text
    assert "<code>sigma</code></td><td>1.6 Å" in text and "<code>voxel</code></td><td>0.8 Å" in text
    assert "two-means" in text and "5 frames of 2,400 atoms" in text
    assert "varies least at a boundary width" in text
    for sentence in summary_of([slab(k) for k in range(5)], rule).messages:
        assert sentence.replace("&", "&amp;") in text


@pytest.mark.slow
def test_report_writes_figures_and_tables_beside_the_page(tmp_path: Path) -> None:
    summary_of([slab(k) for k in range(3)], scan=True).write_report(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    shown = {"slices", "histogram", "composition", "proxigram", "time_series", "boundary_scan"}
    assert {f"{name}.png" for name in shown} <= names
    tables = {"composition", "partition", "scalars", "time_series", "proxigram", "boundary_scan"}
    assert {f"{name}.csv" for name in tables} | {"tables.json", "report.html"} <= names
    assert set(json.loads((tmp_path / "tables.json").read_text())) == tables
    assert not [name for name in names if name.startswith(".")]


@pytest.mark.slow
def test_report_of_a_single_frame_and_of_one_phase(tmp_path: Path) -> None:
    page = summary_of([slab()]).write_report(tmp_path / "one")
    text = page.read_text(encoding="utf-8")
    assert "Rich domains" in text and "Along the trajectory" not in text and "<small>±" not in text
    page = summary_of([slab(mixed=True)] * 2, scan=True).write_report(tmp_path / "mixed")
    text = page.read_text(encoding="utf-8")
    assert "Too few frames with two phases" in text and "Partition coefficients" not in text
    assert not (tmp_path / "mixed" / "proxigram.png").exists()


@pytest.mark.slow
def test_names_that_are_no_elements_have_no_weights(tmp_path: Path) -> None:
    frame = slab()
    frame = frame.replace(species_names=tuple("A" if n == "Mg" else n for n in frame.species_names))
    page = summary_of([frame]).write_report(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "A (at%)" in text and "No wt%: A" in text


def test_a_sentence_describes_the_interface() -> None:
    """What the surface borders on: the poor liquid, a void, or both."""

    def sentence(frame: Frame, rule: LabelRule = RULE) -> str:
        return " ".join(m for m in summary_of([frame], rule).messages if m.code == "interface-area")

    blurred = testing.slab(s=2.0)
    assert re.search(r"an area of \d+ Å\^2\. Its 10–90 width is [\d.]+ ± [\d.]+ Å\.$", sentence(blurred))
    frame = slab()
    assert re.search(r"an area of \d+ Å\^2\.$", sentence(frame))  # its faces are steps
    iron = frame.take(frame.species_mask("Fe") & (frame.positions[:, 0] < 20))
    assert "all of it toward a void" in sentence(iron, LabelRule("Fe", sigma=4.0).fixed())
    assert sentence(slab(mixed=True)) == "" and RunSummary(RULE).messages == ()
    several = summary_of([slab(0), slab(1), slab(2)]).messages
    assert any(re.search(r"an area of \d+ ± \d+ Å\^2", m) for m in several), several


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError, match="the folder of the report cannot be created"):
        summary_of([slab()]).write_report(tmp_path / "file")


@pytest.mark.slow
def test_figures_leave_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    summary_of([slab()]).write_report(tmp_path)
    assert dict(mpl.rcParams) == before
    first = png(figure_slices(slab(), label_frame(slab(), RULE), RULE))
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red"}):
        again = png(figure_slices(slab(), label_frame(slab(), RULE), RULE))
    assert first == again


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (91.634, 0.123, "91.63 ± 0.12"),
        (91.634, 0.0996, "91.63 ± 0.10"),
        (1234.5, 12.3, "1234 ± 12"),
        (0.0, 0.0, "0"),
        (22.4, 0.0, "22.4"),
        (0.0383, 0.0002, "0.03830 ± 0.00020"),
        (5e-17, 4e-18, "5e-17 ± 4e-18"),
        (91.634, np.nan, "91.6"),
        (1.1, np.nan, "1.10"),
        (3.0, np.nan, "3"),
        (100 - 2e-14, np.nan, "100"),
        (np.nan, np.nan, "–"),
        (np.inf, np.nan, "∞"),
    ],
)
def test_values_are_written_to_the_digits_of_their_error(value: float, error: float, text: str) -> None:
    assert value_and_error(value, error) == text


def test_durations() -> None:
    assert [duration(s) for s in (0.0412, 12.3, 200.4)] == ["0.041 s", "12 s", "0:03:20"]


def test_rows_of_a_few_atoms_are_not_shown() -> None:
    columns = {
        "phase": np.array(["all", "poor", "rich bulk", "poor bulk", "rich"]),
        "atoms": np.array([500, 300, 4, 60, 20]),
        "mass fraction": np.array([1, 0.5, 0.01, 0.1, 0.4]),
        Column("Fe", "wt%"): np.array([50.0, 3.0, 99.0, 2.0, np.nan]),
    }
    shown = composition_in(Table("Composition", columns), "wt%")
    assert shown.columns["phase"].tolist() == ["poor", "poor bulk", "all"]
    averaged = Table("Composition", {**columns, "frames": np.full(5, 20)})
    assert "rich bulk" in composition_in(averaged, "wt%").columns["phase"]
