"""The recipes of the mobility checkpoints at both temperatures, on small systems."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mobility_samples import liquid
from phaseseg.checkpoint import bundled_checkpoints, load_checkpoint
from phaseseg.recipes.mobility import cards, samples, study, train
from phaseseg.recipes.mobility.systems import STATES, System, systems_at


def small_systems(state, count=4):
    """Systems whose propensity is the local crowding, with some noise in each half of the runs."""
    found = []
    for seed in range(count):
        frame = liquid(216, seed=seed, info={"temperature": state.temperature})
        rng = np.random.default_rng(seed)
        step = frame.positions[:, None] - frame.positions[None]
        edges = np.diag(frame.cell)
        step -= edges * np.round(step / edges)
        signal = (np.linalg.norm(step, axis=2) < 1.5).sum(axis=1).astype(float)
        halves = 5 + signal + rng.normal(0, 0.5, (2, frame.n_atoms))
        found.append(System(f"s{seed:03d}", frame, halves.mean(axis=0), halves))
    return found


def test_states_keep_the_demonstration_out(tmp_path):
    state = STATES[0.64]
    for name in ("s001", "s002", "s010"):
        frame = liquid(64, seed=1)
        np.savez(
            tmp_path / f"ka3d_t064_{name}.npz", positions=frame.positions, types=frame.species,
            box=np.diag(frame.cell), propensity=np.ones(64), propensity_half=np.ones((2, 64)),
        )  # fmt: skip
    used, held = systems_at(state, tmp_path)
    assert [one.name for one in used] == ["ka3d_t064_s002", "ka3d_t064_s010"]
    assert [one.name for one in held] == ["ka3d_t064_s001"]
    (tmp_path / "ka3d_t064_s010.npz").unlink()
    with pytest.raises(SystemExit, match="has 1 of the systems"):
        systems_at(state, tmp_path)


def test_from_training_to_the_card(tmp_path, monkeypatch):
    state = STATES[0.64]
    config, training = samples.VARIANTS["thermal positions"], train.LearnerTraining(folds=3)
    plan = train.Plan(state, config, training, "by a test.")
    monkeypatch.setattr(train, "PLANS", {"thermal-v1": plan})
    monkeypatch.setattr(study, "PLANS", train.PLANS)
    monkeypatch.setattr(cards, "PLANS", train.PLANS)
    monkeypatch.setattr(study, "bundled_checkpoints", lambda family: {})
    *systems, last = small_systems(state)
    work, nets = tmp_path / "work", tmp_path / "nets"
    for folder in (work, nets):
        folder.mkdir()
    checkpoint, trained = train.train("thermal-v1", plan, systems, work, nets)
    assert trained is not None
    assert checkpoint.config["targets"][0]["time"] == 16.5
    target = nets / "study-0.64.json"
    parts = ("checkpoints", "held", "transfer", "learning curve")
    monkeypatch.setattr(study, "CONFIGS", {t: {"ridge": config} for t in STATES})
    found = study.study(systems, [last], state, work, nets, target, parts)
    # The scores are those of the training; the held system is scored by the whole checkpoint.
    (row,) = found["checkpoints"]
    assert row["A"] == pytest.approx(trained.scores["blend"][:, 0, 0].mean(), abs=1e-6)
    assert 0.3 < row["A"] / row["A / ceiling"] <= 1
    assert found["held"][0]["± A"] is None
    assert found["transfer"] == []
    assert found["learning curve"][-1]["systems"] == 2
    # What was measured before stays, unless there are other systems.
    again = study.study(systems, [last], state, work, nets, target, ("transfer",))
    assert again["checkpoints"] == found["checkpoints"]
    assert json.loads(target.read_text("utf-8")) == again
    assert "checkpoints" not in study.study(systems[:2], [], state, work, nets, target, ("transfer",))
    # The other temperature takes this checkpoint as a stranger.
    cold = STATES[0.44]
    other = study.study(systems, [], cold, work, nets, nets / "study-0.44.json", ("transfer", "held"))
    assert [row["method"] for row in other["transfer"]] == ["mobility/thermal-v1"]
    assert other["transfer"][0]["A"] > row["A"]  # it has seen these systems

    card = cards.card_of(load_checkpoint(nets / "thermal-v1.safetensors"), {0.64: found, 0.44: other})
    tables = card["metrics"]
    assert {"validation", "ceiling", "held", "learning_curve", "transfer"} <= set(tables)
    assert "others" not in tables  # its parts were not measured
    assert max(row["A"] for row in cards.rows_of(tables["published"])) == 0.678
    assert cards.rows_of(tables["transfer"])[0]["temperature"] == 0.44
    assert "T = 0.64" in card["limits"][0]
    # Without any study the old tables stay.
    assert cards.card_of(checkpoint, {})["metrics"] == checkpoint.card["metrics"]


def test_networks_of_message_passing_stand_in_the_table_of_other_ways():
    bundled = bundled_checkpoints("mobility")
    net, warm, messages = (
        load_checkpoint(bundled[f"mobility/{name}"])
        for name in ("net-ka3d-v1", "net-ka3d-t064-v1", "bapst-ka3d-v1")
    )
    row = cards.rows_of(messages.card["metrics"]["ceiling"])[0]
    tables = cards.card_of(net, {}, [messages])["metrics"]
    rows = cards.rows_of(tables["others"])
    assert [r["A"] for r in rows if r["method"] == messages.name] == [row["A"]]
    kinds = [r["kind"] for r in rows]
    assert kinds == sorted(kinds, key=kinds.index)
    # The same table is in the bundled card. Once more changes nothing.
    again = replace(net, card={**net.card, "metrics": tables})
    assert cards.card_of(again, {}, [messages])["metrics"]["others"] == tables["others"]
    assert tables["others"] == net.card["metrics"]["others"]
    # Networks of another temperature do not belong there; one that is not bundled has no name.
    assert cards.card_of(warm, {}, [messages])["metrics"] == warm.card["metrics"]
    own = replace(messages, name="mobility/other-v1")
    rows = cards.rows_of(cards.card_of(net, {}, [own])["metrics"]["others"])
    assert [r["method"] for r in rows if r["kind"] == cards.MESSAGES] == [
        "thermal positions; not among the checkpoints"
    ]


def test_every_card_compares_with_the_other_ways():
    wanted = {"ceiling", "others", "learning_curve", "transfer", "published"}
    for name, path in bundled_checkpoints("mobility").items():
        assert wanted <= set(load_checkpoint(path).card["metrics"]), name
