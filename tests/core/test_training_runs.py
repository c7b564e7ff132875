"""What families share in training: runs and their division, the search, and the cache of arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from phaseseg import Frame, write_frames
from phaseseg.display import Message
from phaseseg.io import InputError
from phaseseg.training.files import ArrayCache
from phaseseg.training.loop import Task
from phaseseg.training.runs import Run, RunFile, fold_of_runs, read_runs, refuse_copies, split_by_time
from phaseseg.training.search import NestedSearch
from phaseseg.training.settings import Settings


def frame(number=0, **info):
    positions = np.random.default_rng(number).random((4, 3))
    return Frame(positions, [5.0] * 3, True, ["Fe"] * 4, info=info)


def test_runs_of_frames_have_numbers_groups_and_labels():
    one = [frame(k, seed=7.0, hot=float(k > 1)) for k in range(5)]
    other = [frame(k + 9) for k in range(3)]
    first, second = read_runs([one, iter(other)], every=2, what="melt")
    assert (first.name, second.name) == ("melt 1", "melt 2") and second.group == "melt 2"
    assert first.group == "seed 7" and first.frames == one[::2] and first.labels == ()
    (alone,) = read_runs(one, lambda frame: bool(frame.info["hot"]) or None)
    assert alone.frames == one[2:] and alone.labels == (True,) * 3 and alone.count(True) == 3


def test_names_in_the_files_of_runs(tmp_path):
    path = tmp_path / "a.dump"
    write_frames(path, [frame(), frame(1)])
    for options in ({"types": "Ni", "names": "Ni=A"}, {"names": {"Fe": "A"}}, {"names": ("Fe=A",)}):
        [run] = read_runs(path, **options)
        assert [one.species_names for one in run.frames] == [("A",)] * 2


def test_files_that_need_more_to_be_read(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("2\nno cell\nFe 1 2 3\nO 2 3 4\n")
    with pytest.raises(InputError, match=r"plain\.txt"):
        read_runs(path)
    [run] = read_runs([RunFile(path, cell="9,9,9", file_format="extxyz")])
    assert run.name == "plain.txt" and run.group == str(path)
    assert_array_equal(run.frames[0].cell, np.eye(3) * 9)


def test_a_message_of_the_reader_comes_once():
    odd = (Message("The file is odd.", "odd"),)
    lines = []
    read_runs(
        [[frame(k).replace(messages=odd) for k in range(3)]], note=lambda done, line: lines.append(line)
    )
    assert lines == ["run 1: The file is odd."]


def test_the_digest_of_a_run_is_that_of_its_content():
    run = Run("one", [frame(0), frame(1)], labels=(True, False))
    assert Run("other", [frame(0), frame(1)], labels=(True, False)).digest == run.digest
    for changed in (
        Run("one", [frame(1), frame(0)], labels=(True, False)),
        Run("one", [frame(0), frame(1)], labels=(False, True)),
        Run("one", [frame(0), frame(1)]),
        Run("one", [frame(0), frame(1).replace(pbc=False)], labels=(True, False)),
    ):
        assert changed.digest != run.digest


def test_copies_are_refused_only_in_different_groups():
    refuse_copies([Run("a", [frame(0)], "seed 1"), Run("b", [frame(0)], "seed 1")])
    with pytest.raises(ValueError, match="b and a hold the same configuration"):
        refuse_copies([Run("a", [frame(0)], "seed 1"), Run("b", [frame(0)], "seed 2")])


def test_the_last_frames_of_each_run_validate():
    runs = [Run("long", [frame(k) for k in range(10)], labels=tuple(range(10))), Run("short", [frame(11)])]
    trained, held = split_by_time(runs)
    assert [run.labels for run in held] == [(8, 9)] and trained[0].labels == tuple(range(8))
    assert [len(run.frames) for run in trained] == [8, 1]


def test_folds_of_three_states():
    """Groups with one state each, and one with all: every fold gets every state."""
    runs = [Run(name, [None] * len(name), name, tuple(name)) for name in ("aa", "b", "c", "abc", "c")]
    runs[4] = Run("d", [None], "d", ("c",))
    fold = fold_of_runs(runs, 2, {"a": "one", "b": "two", "c": "three"})
    for k in range(2):
        assert {label for run, of in zip(runs, fold, strict=True) if of == k for label in run.labels} == set(
            "abc"
        )
    with pytest.raises(ValueError, match="2 independent runs hold two, and 3 folds need one each"):
        fold_of_runs(runs, 3, {"c": "three", "b": "two"})


def test_arrays_are_made_once(tmp_path):
    cache, made = ArrayCache(tmp_path / "cache"), []

    def make():
        made.append(1)
        return np.arange(3, dtype=np.float32)

    for key, shape, times in (
        ({"a": 1}, (3,), 1),
        ({"a": 1}, (3,), 1),
        ({"a": 2}, (3,), 2),
        ({"a": 1}, (4,), 3),
    ):
        assert cache.array(key, make, shape).tolist() == [0, 1, 2] and len(made) == times
    (tmp_path / "file").write_text("in the way")
    nowhere = ArrayCache(tmp_path / "file")
    assert nowhere.array(1, make, (3,)).tolist() == nowhere.array(1, make, (3,)).tolist() and len(made) == 5


# A search of another family ---------------------------------------------------------------------


class OneNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(0.0))


def parabola(parameters, outer, inner):
    """A network finds the minimum of (x - width)²; the validation loss is lowest for a width of 3."""
    width = parameters["width"]

    def task(fold):
        return Task(
            build=OneNumber,
            batches=lambda rng: [0] * 5,
            loss=lambda network, batch: (network.x - width) ** 2,
            validate=lambda network: ((width - 3) ** 2 + 0.01 * fold, 0.0),
        )

    return width, [task(fold) for fold in inner], Settings(2, 1, 0.1, tuple(range(len(inner))), 2)


@pytest.mark.slow
def test_any_family_can_search(tmp_path):
    def search(**options):
        return NestedSearch(12, 3, **options).run(
            {"width": (0.0, 6.0, 0.5)},
            parabola,
            lambda width, members, outer: {"items": 4, "error": abs(width - 3) + outer},
            seed=1, fixed={"depth": 2}, described={"data": "parabola"},
        )  # fmt: skip

    found, lines = search(), []
    assert found.chosen["depth"] == 2 and abs(found.chosen["width"] - 3) <= 0.5
    assert [fold.test["error"] - abs(fold.best.parameters["width"] - 3) for fold in found.folds] == [0, 1, 2]
    card = found.card()
    assert set(card) >= {"trials", "given_up_early", "chosen", "test_error"}
    assert card["folds"]["columns"][-1] == "test error" and "test_items" not in card

    def stop(done, line):
        lines.append(line)
        if line.startswith("fold 2/3, trial 3/12"):
            raise KeyboardInterrupt

    record = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt, match="14 finished trials lie in"):
        search(record=record, progress=stop)
    again = search(record=record, resume=True)
    assert again.chosen == found.chosen
    assert [[trial.parameters for trial in fold.trials] for fold in again.folds] == [
        [trial.parameters for trial in fold.trials] for fold in found.folds
    ]
