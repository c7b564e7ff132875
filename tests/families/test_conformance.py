"""The conformance suite: small networks of every family pass it, and each of its checks can fail."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import dummy_family
from phaseseg.families import register
from phaseseg.fields import Fields
from phaseseg.specs import FieldSpec
from phaseseg.testing import AWKWARD, CONFORMANCE, check_conformance, check_family, check_fields, slab
from samples import disordered_mixture, random_glass_checkpoint, share_checkpoint, unregister

CNN = {
    "architecture": "cnn", "image_size": 48, "pixels_per_sigma": 8.0, "kernels": (3, 4),
    "kernel_sizes": (5, 3), "dense": 10,
}  # fmt: skip


def melt():
    return slab(cell=(24.0, 12.0, 12.0), low=6.3, high=17.8, spacing=2.2)


NETWORKS = {
    "one of two liquids": (share_checkpoint, {}, melt),
    "two liquids": (share_checkpoint, {"n_members": 3}, melt),
    "two liquids, attention": (share_checkpoint, {"architecture": "gat"}, melt),
    "two liquids, learned boundary": (share_checkpoint, {"outputs": 3}, melt),
    "glass": (random_glass_checkpoint, {}, disordered_mixture),
    "glass, attention": (random_glass_checkpoint, {"attention": True, "n_members": 2}, disordered_mixture),
    "glass in space": (
        random_glass_checkpoint,
        {"dimensions": 3, "k": 4},
        lambda: disordered_mixture(343, 3),
    ),
    "images of glass": (random_glass_checkpoint, CNN, disordered_mixture),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_family_keep_the_contract(name):
    make, settings, frame = NETWORKS[name]
    check_conformance(make(**settings), frame(), without=("workers",))


# Each check can fail ------------------------------------------------------------------------------


@pytest.fixture
def crowding(monkeypatch):
    """`crowding(run=...)`: a model of a family that is sound but for what is put in its place."""
    dummy_family.register_all()

    def broken(**changes):
        for name, value in changes.items():
            monkeypatch.setattr(dummy_family.CrowdingModel, name, value)
        return dummy_family.CrowdingModel(dummy_family.checkpoint_of("crowding/two-v1"))

    yield broken
    unregister("crowding")
    unregister("centered")


RUN, FIELDS, RULE = (getattr(dummy_family.CrowdingModel, name) for name in ("run", "fields", "rule"))


def refuse(text):
    raise ValueError(text)


def nothing(frame):
    refuse(f"{frame.error_prefix}there are no atoms.")


def runs(change):
    """`run` with a change of its output by the frame."""
    return {"run": lambda self, f, r=None, **options: change(RUN(self, f, r, **options), f)}


def reads(**changes):
    """`fields` with changes of its values."""

    def fields(self, frame, output, rule=None, **options):
        found = FIELDS(self, frame, output, rule, **options)
        return Fields({**found, **{k: f(found.get(k)) for k, f in changes.items()}}, found.messages)

    return {"fields": fields}


def rules(keep):
    """`rule` that leaves out some options."""
    return {"rule": lambda self, **options: RULE(self, **{k: v for k, v in options.items() if keep(k, v)})}


def moves_an_atom(output, frame):
    frame.positions[0] += 1e-3
    return output


def reads_and_writes(self, frame, output, rule=None, **options):
    output *= np.float32(1.5)
    return FIELDS(self, frame, output, rule, **options)


def merges_the_halo(self, frame, parts):
    out = np.zeros(frame.n_atoms, dtype=np.float32)
    for part in parts:
        out[part.atoms] = part.output
    return out


def goes_back(self, frame, rule=None, *, device="auto", progress=None):
    for fraction in (0.9, 0.1) if progress else ():
        progress(fraction, "again")
    return RUN(self, frame, rule, device=device)


def never_stops(self, frame, rule=None, *, device="auto", progress=None):
    def report(*line):
        with suppress(Exception):
            progress(*line)

    return RUN(self, frame, rule, device=device, progress=progress and report)


DICE = np.random.default_rng(0)
BROKEN = {
    "a frame that is changed": ("output", runs(moves_an_atom), "frame was changed"),
    "dice": ("output", runs(lambda x, f: x + DICE.random(len(x)).astype("f4")), "not equal"),
    "a field of another family": ("output", reads(interface_area=lambda v: 1.0), "not declared"),
    "a number of NumPy": ("output", reads(mean_crowding=np.float64), "mean_crowding is"),
    "an atom too few": ("output", reads(crowding=lambda v: v[1:].copy()), "has the shape"),
    "integers": ("output", reads(crowding=lambda v: v.astype(int)), "is int64"),
    "one atom": ("awkward frames", runs(lambda x, f: x if len(x) > 1 else np.zeros(2, "f4")), "one atom"),
    "no frame will do": ("awkward frames", {"run": lambda *a, **k: refuse("no frame will do.")}, "no frame"),
    "reading that writes": ("options", {"fields": reads_and_writes}, "not equal"),
    "any option": ("options", rules(lambda name, value: name == "limit"), "unknown option was taken"),
    "any value": ("options", rules(lambda name, v: v is None or v > 0), "weight=nan was taken"),
    "any frame": ("refusals", {"check_frame": lambda self, f: len(f) or nothing(f)}, "was taken"),
    "no place": ("refusals", {"check_frame": lambda self, frame: refuse("other units, sorry.")}, "where"),
    "positions": ("symmetries", runs(lambda x, f: x + f.positions[:, 0].astype("f4")), "after"),
    "numbers": ("symmetries", runs(lambda x, f: x + np.arange(len(x), dtype="f4")), "after permutation"),
    "size": ("symmetries", runs(lambda x, f: x + np.float32(len(x))), "after repetition"),
    "direction": ("symmetries", runs(lambda x, f: x + np.float32(f.cell[0, 0])), "after"),
    "a thin halo": ("slabs", {"halo": property(lambda self: 1.0)}, "cutting across axis"),
    "the halo is merged": ("slabs", {"merge": merges_the_halo}, "cutting across axis"),
    "progress goes back": ("progress", {"run": goes_back}, "the fractions are"),
    "no way to stop": ("progress", {"run": never_stops}, "went on"),
}


def test_a_sound_family_passes(crowding):
    frames = [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]
    assert check_conformance(crowding(), *frames, without=("workers",)) == {}


def test_a_model_that_learns_from_all_frames_passes(crowding):
    crowding()
    frames = [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]
    model = dummy_family.CenteredModel(dummy_family.checkpoint_of("centered/mean-v1"))
    assert set(check_conformance(model, *frames, without=("workers",))) == {"file"}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_contract_is_found(crowding, name):
    check, changes, said = BROKEN[name]
    model = crowding(**changes)
    with pytest.raises(AssertionError, match=said):
        CONFORMANCE[check](model, [AWKWARD["orthogonal"]()])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "dummy_family"}, "dummy_family is not there"),
        ({"fit": "phaseseg.nowhere:fit"}, "phaseseg.nowhere:fit is not there"),
        ({"symmetries": frozenset({"inversion"})}, "unknown symmetries"),
        ({"invariant": ("phase",)}, "not among the fields"),
        ({"options": (dummy_family.OPTIONS[0],) * 2}, "an option is there twice"),
        ({"options": (replace(dummy_family.OPTIONS[0], default="much"),)}, "weight: default"),
        ({"fields": (FieldSpec("grade", "Grade", "", "atom", "class", "a class"),)}, "grade has no classes"),
    ],
)
def test_a_declaration_that_is_not_sound_is_found(change, said):
    family = replace(dummy_family.CROWDING, name="unsound", **change)
    register(family)
    try:
        with pytest.raises(AssertionError, match=said):
            check_family(family)
    finally:
        unregister("unsound")


def test_the_check_of_a_family_is_called():
    """Phases that contradict their distances pass all but the family's own check."""
    from phaseseg import label_phases

    frame = AWKWARD["orthogonal"]()
    fields = label_phases(frame, "Fe", phases=2, min_volume=0)
    check_fields(frame, fields)
    assert fields["n_phases"] == 2
    wrong = Fields({**fields, "phase": (1 - fields["phase"].clip(0, 1)).astype(np.int8)}, fields.messages)
    with pytest.raises(AssertionError):
        check_fields(frame, wrong)
