"""Every checkpoint that ships: whole, as recorded, and true to the contract."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from checkpoints import record
from phaseseg import list_checkpoints, load_checkpoint, load_model
from phaseseg.checkpoint import verify_checkpoint
from phaseseg.families import DEFAULT, FAMILIES
from phaseseg.families.mobility.structure import structure_of
from phaseseg.testing import CONFORMANCE, check_family, refused_frames

NAMES = [entry.name for entry in list_checkpoints()]
DEFAULTS = {FAMILIES[DEFAULT].default}
EACH = [name if name in DEFAULTS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
OF_WEIGHTS = {"output", "refusals", "symmetries"}
"""Checks that depend on the weights, not on the kind of network alone."""
CARD = {"summary", "data", "split", "training", "metrics", "limits"}


def kinds():
    """A checkpoint of every kind of network: others have other weights, or fewer scalars."""
    found = {}
    for name in NAMES:
        config = load_checkpoint(name).config
        settings = dict(config.get("network", {}))
        scalars = settings.pop("scalars", [])
        settings.pop("penalty", None)
        kind = (name.split("/")[0], repr(config.get("method")), repr(settings)) if settings else name
        found[kind] = max(found.get(kind, (-1, "")), (len(scalars), name), key=lambda entry: entry[0])
    return {name for _, name in found.values()}


KINDS = kinds()
CHECKS = [
    pytest.param(name, check, marks=pytest.mark.slow)
    for name in NAMES
    for check in CONFORMANCE
    if check not in ("workers", "awkward frames") and (name in KINDS or check in OF_WEIGHTS)
]


def frames_of(name):
    checkpoint = load_checkpoint(name)
    return list(record.module_of(checkpoint.family).frames(checkpoint).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_what_it_declares(family):
    check_family(FAMILIES[family])
    shipped = {name.split("/")[1] for name in NAMES if name.startswith(f"{family}/")}
    assert shipped == record.module_of(family).SHIPPED


@pytest.mark.parametrize("name", NAMES)
def test_is_whole_and_has_its_card(name):
    checkpoint = load_checkpoint(name)
    verify_checkpoint(checkpoint.path)
    assert checkpoint.name == name and checkpoint.units in FAMILIES[checkpoint.family].units
    assert set(checkpoint.card) >= CARD | record.module_of(checkpoint.family).CARD
    assert checkpoint.path.stat().st_size < 1_500_000


@pytest.mark.parametrize("name", EACH)
def test_says_what_was_recorded(name):
    assert record.path_of(name).is_file(), f"record it: make record NAMES={name}"
    with np.load(record.path_of(name)) as recorded:
        assert_allclose(
            record.digest(name), recorded["weights"], rtol=1e-6, err_msg="another network: give it a new name"
        )
        found = record.outputs(name)
        assert set(found) == set(recorded) - {"weights"}
        for key, values in found.items():
            if values.dtype.kind == "i":
                # One atom of 520 may sit on the edge of the boundary by rounding.
                assert (values != recorded[key]).sum() <= 1, key
            else:
                assert_allclose(values, recorded[key], rtol=0, atol=2e-3, err_msg=key)


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_keeps_the_contract(name, check, monkeypatch):
    # The fewest steps: what simulations give does not matter here.
    monkeypatch.setitem(structure_of.__kwdefaults__, "steps", 520)
    if reason := CONFORMANCE[check](name, frames_of(name)[:1]):
        pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name].default])
def test_workers_give_the_same(family):
    assert not CONFORMANCE["workers"](FAMILIES[family].default, frames_of(FAMILIES[family].default))


@pytest.mark.parametrize("name", EACH)
def test_awkward_frames_are_refused_for_a_reason(name):
    checkpoint = load_checkpoint(name)
    expected = record.module_of(checkpoint.family).refused(checkpoint)
    assert set(refused_frames(load_model(name), frames_of(name)[0])) == expected
