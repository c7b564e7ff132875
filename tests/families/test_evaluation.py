"""Evaluation: planted answers give the numbers that they must, and counts add up."""

import json

import numpy as np
import pytest

from phaseseg.families.segmentation.comparison import Case, Comparison, Comparisons, cases_of, compare
from phaseseg.families.segmentation.evaluation import evaluate
from phaseseg.families.segmentation.evaluation_figures import evaluation_figures
from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.methods import (
    WIDTHS,
    Column,
    Prediction,
    Segmentation,
    WeakLabels,
    one_member,
)
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.frame import Frame
from phaseseg.metrics import roc_curve
from phaseseg.report import png

RULE = LabelRule("Fe", sigma=2.0, threshold=0.04).fixed()


class Planted:
    """A method whose distances are those of a plane at x = 10 Å, moved by `shift`."""

    def __init__(self, name="planted", shift=0.0, probability=None):
        self.name, self.shift, self.probability = name, shift, probability

    def __call__(self, frame, widths):
        distance = 10.0 + self.shift - frame.positions[:, 0]
        return Segmentation.of_distance(
            distance, widths, n_domains=1, score=distance, probability=self.probability
        )


def box(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    positions = rng.random((n, 3)) * [20, 10, 10]
    names = np.where(positions[:, 0] < 10, "Fe", "O")
    names[rng.random(n) < 0.05] = "Si"
    return Frame(positions, [20.0, 10.0, 10.0], True, names, source="box", timestep=7)


def one(frame, method, widths=WIDTHS):
    return compare(cases_of([frame], Planted(), group="box", widths=widths), [method], widths=widths)


def test_a_method_against_itself_is_perfect():
    numbers = one(box(), Planted()).pooled().numbers()
    assert numbers["error"] == 0 and numbers["auc"] == 1 and numbers["shift"] == numbers["rms"] == 0
    for width in WIDTHS:
        assert numbers[f"macro {width:g}"] == numbers[f"boundary {width:g}"] == 1
    assert numbers["verdicts"] == 1


def test_a_moved_plane_has_the_numbers_of_its_shift():
    frame, shift = box(), 0.3
    result = one(frame, Planted("moved", shift))
    pooled, numbers = result.pooled(), result.pooled().numbers()
    x = frame.positions[:, 0]
    assert numbers["error"] == pytest.approx(((x >= 10) & (x < 10.3)).mean())
    assert numbers["shift"] == pytest.approx(0.3, abs=1e-5)
    assert numbers["rms"] == pytest.approx(0, abs=1e-3)
    truth = np.where(np.abs(10 - x) <= 0.34, BOUNDARY, np.where(x < 10, RICH, POOR))
    found = np.where(np.abs(10.3 - x) <= 0.34, BOUNDARY, np.where(x < 10.3, RICH, POOR))
    for row in range(3):
        for column in range(3):
            assert pooled.confusion[0.68][row, column] == ((truth == row) & (found == column)).sum()
    assert numbers["auc"] == roc_curve(x < 10, 10.3 - x).auc


def test_contents_are_those_of_the_atoms_counted_by_hand():
    from ase.data import atomic_masses, atomic_numbers

    frame = box()
    contents = one(frame, Planted("moved", 0.5)).content_table()
    rows = {(row["phase"], row["element"]): row for row in contents.rows()}
    names = np.array(frame.species_names)[frame.species]
    mass = np.array([atomic_masses[atomic_numbers[name]] for name in names])
    x = frame.positions[:, 0]
    for phase, inside in (("rich", x < 10.5 - 0.34), ("poor", x > 10.5 + 0.34)):
        for element in ("Fe", "Si", "O"):
            expected = 100 * mass[inside & (names == element)].sum() / mass[inside].sum()
            assert rows[phase, element]["prediction (wt%)"] == pytest.approx(expected)
    assert {key for key, row in rows.items() if row["minority"]} == {
        ("poor", "Fe"), ("rich", "Si"), ("rich", "O")
    }  # fmt: skip
    # Iron beyond the plane of the reference counts nowhere there: what is nothing has no relative error.
    partition = {row["element"]: row for row in one(frame, Planted()).pooled().partition().rows()}
    assert partition["Si"]["D, reference"] == partition["Si"]["D, prediction"]


def test_frames_add_up_and_their_spread_is_given():
    frames = [box(seed=k) for k in range(3)]
    cases = list(cases_of(frames, Planted(), group="a")) + list(cases_of(frames[:1], Planted(), group="b"))
    result = compare(cases, [Planted("moved", 0.4), Planted("worse", 1.0)])
    whole = result.pooled()
    assert whole.n_frames == 4 and whole.n_atoms == sum(len(case.frame) for case in cases)
    assert result.pooled(group="b").n_frames == 1 and result.groups() == ["a", "b"]
    parts = [row.comparisons["moved"] for row in result.rows]
    again = Comparison.pooled([Comparison.pooled(parts[:2]), Comparison.pooled(parts[2:])])
    assert again.numbers() == whole.numbers()
    errors = [part.numbers()["error"] for part in parts]
    assert result.over_frames()["error"].deviation == pytest.approx(np.std(errors, ddof=1))
    scores = {row["method"]: row for row in result.score_table().rows()}
    assert scores["moved"]["two-class error"] < scores["worse"]["two-class error"]
    assert len(result.group_table()) == 4 and len(result.frame_table()) == 4
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["frames"] == 4


def test_atoms_outside_of_a_mask_do_not_count():
    frame = box()
    inside = frame.positions[:, 0] > 10.3
    case = Case("box", frame, Planted()(frame, WIDTHS), inside)
    pooled = compare([case], [Planted("moved", 0.3)]).pooled()
    assert pooled.n_atoms == inside.sum() and pooled.numbers()["error"] == 0
    assert pooled.verdicts[1, 1] == 1  # the frame as a whole has two phases


def test_a_frame_of_one_phase():
    frame = box()
    none = Segmentation.of_distance(np.full(len(frame), -np.inf), WIDTHS)
    assert none.n_phases == 1 and np.isnan(none.distance).all()
    same = compare([Case("one", frame, none)], [Planted("moved", -20.0)])
    numbers = same.pooled().numbers()
    assert numbers["error"] == 0 and numbers["verdicts"] == 1 and numbers["macro 0.68"] == 1
    assert np.isnan(numbers["shift"]) and np.isnan(numbers["auc"]) and np.isnan(numbers["rich 0.68"])
    assert compare([Case("one", frame, none)], [Planted()]).pooled().numbers()["verdicts"] == 0
    assert "roc" not in same.tables() and json.dumps(same.to_dict(), allow_nan=False)
    for _, _, figure in evaluation_figures(same):
        png(figure, dpi=20)


def test_calibration_of_a_planted_probability():
    frame = box(20000)
    rich = frame.positions[:, 0] < 10
    p = np.where(rich, 0.8, 0.3).astype(np.float32)
    result = one(frame, Planted(probability=p))
    assert result.pooled().numbers()["calibration"] == pytest.approx(
        0.2 * rich.mean() + 0.3 * (~rich).mean(), abs=1e-6
    )
    filled = [row for row in result.tables()["reliability"].rows() if row["atoms"]]
    assert [row["share that is rich"] for row in filled] == [0, 1]


def test_weak_labels_as_a_method_are_the_labels(small):
    frame = small[3000][0]
    found = WeakLabels(RULE)(frame, (2.7, 0.68))
    for width in (2.7, 0.68):
        fields = label_frame(frame, RULE.replace(boundary_width=width))
        assert np.array_equal(found.phase[width], fields["phase"])
    assert np.array_equal(found.rich, fields["domain"] > 0) and found.n_phases == 2
    assert found.seconds["weak labels"] > 0


def test_predictions_and_members(make_checkpoint, small):
    frame = small[3000][0]
    model = SegmentationModel(make_checkpoint(n_members=3))
    whole = Prediction(model)
    found = whole(frame, WIDTHS)
    scores = model.score(frame)
    for width in WIDTHS:
        assert np.array_equal(found.phase[width], model.fields(frame, scores, boundary_width=width)["phase"])
    assert np.array_equal(found.probability, scores.probability)
    members = whole.members()
    assert [member.name for member in members] == ["member 1", "member 2", "member 3"]
    rich = [member(frame, WIDTHS).rich.sum() for member in members]
    assert rich[0] > rich[2]  # the cut of the third is higher
    alone = one_member(scores, 1, 0.4)
    assert np.allclose(alone.probability, 1 / (1 + np.exp(-scores.members[1] / 0.4)), atol=1e-6)
    assert not alone.uncertainty.any()


@pytest.mark.slow
def test_evaluate_a_model_with_everything(make_checkpoint, small, tmp_path):
    model = SegmentationModel(make_checkpoint(n_members=2, cut=0.33))
    runs = {f"{t} K": small[t][:2] for t in (3000, 4000)}
    result = evaluate(runs, model, members=True)
    assert [row.group for row in result.rows] == ["3000 K", "3000 K", "4000 K", "4000 K"]
    assert result.methods == (model.name, "member 1", "member 2")
    numbers = result.pooled().numbers()
    assert numbers["error"] < 0.06 and numbers["auc"] > 0.95
    stages = {row["stage"] for row in result.tables()["time"].rows() if row["method"] == model.name}
    assert stages == {"network", "decoding", "weak labels"}
    page = result.write(tmp_path / "report", {"version": "x"})
    names = {path.name for path in page.parent.iterdir()}
    assert {"report.html", "metrics.json", "scores.csv", "roc.png", "confusion.png", "slices_0.68.png",
            "reliability.png", "composition.png", "confusion_2.7.csv"} <= names  # fmt: skip
    metrics = json.loads((page.parent / "metrics.json").read_text("utf-8"))
    assert metrics["version"] == "x" and metrics["methods"][model.name]["scores"]["error"] < 0.06


@pytest.mark.parametrize("widths", [(), (-1.0,), (float("nan"),)])
def test_bad_widths_are_refused(make_checkpoint, small, widths):
    model = SegmentationModel(make_checkpoint())
    with pytest.raises(ValueError, match="boundary widths"):
        evaluate({"a": small[3000][:1]}, model, boundary_width=widths)


def test_no_frames(make_checkpoint):
    with pytest.raises(ValueError, match="no frames"):
        evaluate({"a": []}, SegmentationModel(make_checkpoint()))
    with pytest.raises(ValueError, match="no methods"):
        compare([], [])


def test_labels_of_a_column_with_distances_are_used_as_they_are(small):
    frame = small[3000][0]
    fields = label_frame(frame, RULE)
    given = frame.replace(fields={name: fields[name] for name in ("phase", "interface_distance")})
    reference = Column("phase")(given, WIDTHS)
    assert np.array_equal(reference.phase[0.68], fields["phase"])
    assert np.array_equal(reference.rich, fields["domain"] > 0)
    assert (reference.phase[2.7] == BOUNDARY).sum() > (reference.phase[0.68] == BOUNDARY).sum()


def test_a_column_of_two_classes_gets_an_interface(small):
    frame = small[3000][0]
    labels = WeakLabels(RULE)(frame, WIDTHS)
    given = frame.replace(fields={"mine": labels.rich.astype(int)})
    reference = Column("mine")(given, WIDTHS)
    assert np.array_equal(reference.rich, labels.rich)
    near = np.abs(labels.distance) < 1.5
    assert np.abs(reference.distance[near] - labels.distance[near]).mean() < 0.4
    same = (reference.phase[2.7] == labels.phase[2.7]).mean()
    assert same > 0.85


def test_a_column_of_three_classes_is_the_same_at_every_width(small):
    frame = small[3000][0]
    labels = WeakLabels(RULE)(frame, WIDTHS)
    given = frame.replace(fields={"mine": labels.phase[2.7]})
    reference = Column("mine")(given, WIDTHS)
    for width in WIDTHS:
        assert np.array_equal(reference.phase[width], labels.phase[2.7])
    assert (reference.rich == labels.rich).mean() > 0.95


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [("other", None, "there is no column 'other'; the columns are mine"), ("mine", 3, "0 .poor., 1 .rich.")],
)
def test_a_column_that_cannot_be_used(small, column, values, words):
    frame = small[3000][0]
    given = frame.replace(fields={"mine": np.full(len(frame), values or 0)})
    with pytest.raises(ValueError, match=words):
        Column(column)(given, WIDTHS)


def test_the_roc_table_holds_the_ends_and_the_bend():
    frame = box()
    table = one(frame, Planted("moved", 2.0)).tables()["roc"]
    x, y = table.columns["false positive rate"], table.columns["true positive rate"]
    assert len(table) <= 250 and (x[0], y[0]) == (0, 0) and (x[-1], y[-1]) == (1, 1)
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    assert isinstance(one(frame, Planted()), Comparisons)
