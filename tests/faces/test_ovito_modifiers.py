"""What all modifiers share: parameters, what is run again, sessions, progress, and a family of one's own."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.modifiers import ExpressionSelectionModifier
from traits.api import TraitError

import ovito_phaseseg
from faces.ovito_data import collection, collection_of, evaluate, imported, pipeline_of, python
from mobility_samples import liquid
from ovito_phaseseg import Mobility, NetworkModifier, network_modifier
from phaseseg.checkpoint import Checkpoint, bundled_checkpoints, save_checkpoint
from phaseseg.compiled.threads import thread_count, usual_threads
from phaseseg.families import FAMILIES, Family, Option, register
from phaseseg.fields import Bonds, Fields, Grid, Message, Table
from phaseseg.nn.model import NetworkModel
from phaseseg.specs import ClassName, FieldSpec
from samples import unregister

LABELS = {
    "threshold": "midpoint", "threshold_value": 0.03, "phases": "2", "at": "voxel", "by": "atom",
    "keep": "largest",
    "min_volume": 100.0, "boundary_width": 2.0, "bulk_distance": 3.0, "color_by_phase": True,
    "interface_mesh": False, "voxel_grid": False, "table_attributes": True,
}  # fmt: skip
SEGMENTATION = {
    "threshold": 0.3, "keep": "largest", "min_volume": 10.0, "boundary": "voxels", "boundary_width": 2.0,
    "by": "atom",
    "bulk_distance": 3.0, "color_by": "phase", "interface_mesh": False, "voxel_grid": False,
    "table_attributes": True,
}  # fmt: skip
METRICS = {
    "bonds": False, "bb_bonds_only": True, "color_by": "graph", "trajectory_table": True, "temperature": "T"
}  # fmt: skip
CLASSIFIER = {
    "threshold": 0.3, "attention_threshold": 1.1, "bonds": False, "kept_bonds_only": False,
    "color_by": "attention", "trajectory_table": True, "temperature": "T",
}  # fmt: skip
MOBILITY = {"time": 10.0, "mobile_share": 0.3, "color_by": "mobile", "target": "propensity"}
TABLE = str(Path(__file__).parent / "mixture.txt")
# Parameters that only read the output anew, those that need a new one, and properties that show it.
CASES = {
    "WeakPhaseLabels": (
        LABELS,
        {
            "sigma": 1.6, "voxel": 1.0, "field": "mole-fraction", "species": "O", "types": "Fe,O",
            "names": "X=Y",
        },
        ("Phase", "Phase Density", "Interface Distance", "Domain"),
    ),
    "PhaseSegmentation": (
        SEGMENTATION, {"types": "Fe,O", "names": "X=Y", "device": "cpu"},
        ("Phase", "Interface Distance", "Phase Probability"),
    ),
    "GlassMetrics": (
        METRICS, {"b": "A", "types": "A,B", "names": "X=Y", "k": 3, "rule": "b-only"},
        ("Graph ID", "Isolated", "B-B Degree"),
    ),
    "GlassClassifier": (
        CLASSIFIER, {"b": "A", "types": "A,B", "names": "X=Y", "device": "cpu"},
        ("Glass Probability", "Attention"),
    ),
    "Mobility": (
        MOBILITY,
        {"b": "A", "types": "A,B", "names": "X=Y", "device": "cpu", "temperature": 0.5, "seed": 3,
         "potential": TABLE},
        ("Propensity", "Propensity Uncertainty", "Mobile"),
    ),
}  # fmt: skip
NAMES = [*CASES, "RestorePhaseTypes"]


@pytest.fixture
def case(request, make_drops, make_disorder, pair_file, glass_file, mobility_file):
    """A modifier class, its data and the checkpoint that it needs."""
    name = request.param
    if "Glass" in name:
        data = collection_of(make_disorder(289))
    else:
        data = collection_of(liquid(216)) if name == "Mobility" else collection(*make_drops())
    files = {"PhaseSegmentation": pair_file, "GlassClassifier": glass_file, "Mobility": mobility_file}
    file = files.get(name)
    return getattr(ovito_phaseseg, name), data, {} if file is None else {"model_file": file}


every_modifier = pytest.mark.parametrize("case", CASES, indirect=True)


@every_modifier
def test_only_some_parameters_make_the_output_anew(case, runs):
    cls, data, options = case
    kept, anew, titles = CASES[cls.__name__]
    modifier = cls(**options)
    assert (
        {*kept, *anew, *options} | {"model", "units", "threads"}
        >= set(modifier.parameters())
        >= {*kept, *anew}
    )
    pipeline = pipeline_of(data, ExpressionSelectionModifier(expression="0"), modifier)

    def compute():
        """The data, and how often the expensive half has run for them."""
        runs.clear()
        return pipeline.compute(), len(runs)

    before, n_runs = compute()
    assert n_runs == 1
    for name, value in kept.items():
        assert getattr(modifier, name) != value
        setattr(modifier, name, value)
        now, n_runs = compute()
        assert n_runs == 0, name
    fresh = evaluate(data, cls(**options, **kept))
    for title in titles:
        np.testing.assert_array_equal(now.particles[title], fresh.particles[title])
    np.testing.assert_equal({name: now.attributes[name] for name in fresh.attributes}, dict(fresh.attributes))
    assert dict(before.attributes) != dict(now.attributes) and set(now.tables) == set(fresh.tables)
    for name, value in anew.items():
        setattr(modifier, name, value)
        now, n_runs = compute()
        assert n_runs == 1, name
    fresh = evaluate(data, cls(**options, **kept, **anew))
    for title in titles:
        np.testing.assert_array_equal(now.particles[title], fresh.particles[title])
    pipeline.modifiers[0].expression = "1"
    assert compute()[1] == 1


@every_modifier
def test_status_and_progress(case):
    cls, data, options = case
    steps = list(cls(**options).modify(data, frame=0))
    texts = [step for step in steps if isinstance(step, str)]
    numbers = [step for step in steps if not isinstance(step, str)]
    assert any(f" {data.particles.count:,} particles" in text for text in texts)
    assert numbers == sorted(numbers) and numbers[-1] == 1.0
    messages = next(data.attributes[name] for name in data.attributes if name.endswith(".messages"))
    assert texts[-1] == messages or not messages


@every_modifier
def test_an_evaluation_puts_nothing_on_the_modifier(case):
    """OVITO would save it in the session."""
    cls, data, options = case
    modifier = cls(**options)
    before = set(modifier.__dict__)
    evaluate(data, modifier)
    assert set(modifier.__dict__) <= before | set(modifier.trait_names())


@every_modifier
def test_the_input_is_left_as_it_was(case):
    cls, data, options = case
    before = data.clone()
    result = evaluate(data, cls(**options))
    assert set(result.particles) > set(data.particles) == set(before.particles) and not data.tables
    np.testing.assert_array_equal(data.particles.positions, before.particles.positions)


@pytest.mark.parametrize("name", [*NAMES, "EnvironmentClusters"])
def test_every_parameter_has_a_label_and_a_group_and_no_other_is_taken(name):
    cls = getattr(ovito_phaseseg, name)
    assert name in dir(ovito_phaseseg)
    for parameter in cls().parameters():
        assert cls().trait(parameter).label and cls().trait(parameter).ovito_group, parameter
    with pytest.raises(TypeError, match=rf"^{name} has no parameter simga; the parameters are .*"):
        cls(simga=1.0)
    with pytest.raises(TypeError, match="no parameter bond_vis"):
        cls(bond_vis=None)


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="Nothing"):
        _ = ovito_phaseseg.Nothing


@pytest.mark.parametrize("name", ["PhaseSegmentation", "GlassClassifier", "Mobility", "EnvironmentClusters"])
def test_the_bundled_checkpoints_stand_to_choose(name):
    modifier = getattr(ovito_phaseseg, name)()
    family = modifier.family
    assert modifier.model == family.default == modifier.trait("model").handler.values[0]
    assert set(modifier.trait("model").handler.values) == set(bundled_checkpoints(family.name))
    short = family.default.rpartition("/")[2]
    assert modifier.get_pipeline_short_info(None).startswith(short)
    modifier.model_file = "C:\\networks\\mine.safetensors"
    assert modifier.get_pipeline_short_info(None).startswith("mine.safetensors")


@pytest.mark.slow
def test_construction_is_light():
    out = python(
        """
        import sys
        import ovito.pipeline, ovito.traits, ovito.vis, traits.api
        import ovito_phaseseg
        for name in sys.argv[1:]:
            getattr(ovito_phaseseg, name)()
        heavy = ("torch", "numba", "scipy", "sklearn", "ase", "matplotlib", "safetensors")
        print([name for name in heavy if name in sys.modules])
        """,
        *NAMES,
    )
    assert out.strip() == "[]"


# Sessions

SESSIONS = Path(__file__).parent / "sessions"
LOOKS = {"interface_vis": "surface_transparency", "bonds_vis": "width"}
LOAD = """
    import json, sys, ovito
    ovito.scene.load(sys.argv[1])
    pipeline = ovito.scene.pipelines[0]
    for step in pipeline.modifiers:
        modifier = step.delegate
        given = {name: getattr(modifier, name) for name in modifier.parameters()}
        looks = [getattr(getattr(modifier, name), look) for name, look in json.loads(sys.argv[2]).items()
                 if hasattr(modifier, name)]
        print(json.dumps([type(modifier).__module__, type(modifier).__name__, given, looks]))
        step.enabled = type(modifier).__module__ == "ovito_phaseseg.modifiers"
    if sys.argv[3] == "compute":
        print(pipeline.compute().particles["Phase"][...].tolist())
"""
SAVE = """
    import json, sys, ovito, ovito_phaseseg
    from ovito.io import import_file
    pipeline = import_file(sys.argv[1])
    for name, given in json.loads(sys.argv[3]).items():
        modifier = getattr(ovito_phaseseg, name)(**given)
        for vis, look in json.loads(sys.argv[4]).items():
            if hasattr(modifier, vis):
                setattr(getattr(modifier, vis), look, 0.25)
        pipeline.modifiers.append(modifier)
        pipeline.modifiers[-1].enabled = type(modifier).__module__ == "ovito_phaseseg.modifiers"
    print(pipeline.compute().particles["Phase"][...].tolist())
    for step in pipeline.modifiers:
        step.enabled = True
    pipeline.add_to_scene()
    ovito.scene.save(sys.argv[2])
"""


def assert_loaded(session, expected, compute=""):
    """The parameters are those; gives what is computed."""
    lines = python(LOAD, session, json.dumps(LOOKS), compute).splitlines()
    n = len(expected)
    found = [json.loads(line) for line in lines[:n]]
    assert [name for _, name, *_ in found] == list(expected)
    for module, name, given, looks in found:
        assert module == getattr(ovito_phaseseg, name).__module__
        assert given == expected[name], name
        assert looks == pytest.approx([0.25] * len(looks))
    return lines[n:]


@pytest.fixture
def every_parameter():
    """Parameters of every modifier in version 0.1.0; all differ from their defaults."""
    return json.loads((SESSIONS / "version_0_1.json").read_text())


@pytest.mark.slow
def test_a_session_of_an_earlier_version(every_parameter):
    # These came later.
    for name in ("WeakPhaseLabels", "PhaseSegmentation"):
        every_parameter[name] |= {"table_attributes": False, "by": "auto"}
    for name in set(CASES) & set(every_parameter):
        every_parameter[name] |= {"names": "", "threads": 0}
    assert_loaded(SESSIONS / "version_0_1.ovito", every_parameter)


@pytest.mark.slow
def test_a_session_keeps_the_parameters_and_no_results(tmp_path, demo, pair_file, every_parameter):
    every_parameter["WeakPhaseLabels"] |= {"table_attributes": True, "by": "atom"}
    every_parameter["Mobility"] = {
        **MOBILITY,
        **CASES["Mobility"][1],
        "model": Mobility().model,
        "model_file": "m.ckpt",
        "units": "metal",
    }
    assert set(every_parameter) == set(NAMES)
    for name in CASES:
        every_parameter[name] |= {"names": "Mn=Fe", "threads": 2}
    every_parameter["PhaseSegmentation"] |= {
        "table_attributes": True, "by": "atom", "model_file": pair_file, "types": "O,Fe,O,O,O",
    }  # fmt: skip
    session, given = tmp_path / "session.ovito", json.dumps(every_parameter)
    computed = python(SAVE, demo("melt_small_3000K"), session, given, json.dumps(LOOKS)).splitlines()
    assert assert_loaded(session, every_parameter, "compute") == computed
    assert session.stat().st_size < 40_000


# A family of one's own

FIELDS = (
    FieldSpec("ring_kind", "Ring Kind", "", "atom", "class", "odd or even",
              (ClassName(0, "even", (1, 0, 0)), ClassName(1, "odd", (0, 0, 1)))),
    FieldSpec("ring_bonds", "Ring bonds", "", "bond", "scalar", "each atom to the next"),
    FieldSpec("n_steps", "Number of steps", "", "frame", "count", "how far the work came"),
    FieldSpec("ring_grid", "Ring Grid", "", "grid", "scalar", "ones"),
    FieldSpec("ring_table", "Rings", "", "table", "scalar", "one row a kind"),
)  # fmt: skip
OPTIONS = (
    Option("steps", int, 3, "Steps.", part="run", low=0, high=100, label="Steps", group="Work"),
    Option("names", tuple, None, "Names.", part="run", label="Names", group="Chosen", placeholder="X"),
    Option("hidden", int, 0, "Not shown.", part="run"),
    Option("strict", bool, False, "Flag.", label="Strict", group="Read"),
    Option("how", str, "well", "Choice.", choices=("badly", "well"), label="How", group="Read"),
    Option("word", str, None, "Word.", label="Word", group="Read"),
    Option("limit", float, None, "Limit.", label="Limit", group="Read"),
    Option("share", float, 0.5, "Share.", low=0, high=1, open=True, label="Share", group="Read"),
    Option("target", float, 0.0, "Only for evaluations.", part="evaluate", label="Target", group="Read"),
)


@dataclass(frozen=True)
class RingRule:
    model: str = ""
    steps: int = 3
    names: tuple[str, ...] | None = None
    hidden: int = 0
    strict: bool = False
    how: str = "well"
    word: str | None = None
    limit: float | None = None
    share: float = 0.5

    to_dict = asdict


class RingModel(NetworkModel):
    """Slow work in steps. It remembers its calls, and how far the work has come."""

    family, rule_type = "rings", RingRule
    calls: list = []  # noqa: RUF012

    def _read(self, checkpoint):
        pass

    def _make(self, kind):
        raise NotImplementedError

    def run(self, frame, rule=None, *, device="auto", progress=None):
        self.calls.append({"frame": frame, "thread": threading.current_thread(), "rule": rule, "step": 0})
        self.calls[-1]["threads"] = thread_count()
        for step in range(rule.steps):
            self.calls[-1]["step"] = step + 1
            time.sleep(0.06)
            progress((step + 1) / max(rule.steps, 1), f"step {step + 1}")
        if rule.word == "stop":
            raise ValueError("that is too much.")
        return rule.steps

    def fields(self, frame, output, rule=None, **options):
        kind = np.arange(frame.n_atoms, dtype=np.int32) % 2
        ends = np.stack([np.arange(frame.n_atoms - 1), np.arange(1, frame.n_atoms)], axis=1)
        bonds = Bonds(ends, np.zeros((len(ends), 3), np.int32), {"ring_size": np.ones(len(ends))})
        grid = Grid(np.ones((2, 2, 2), np.float32), frame.cell, frame.origin, frame.pbc)
        table = Table("Rings", {"kind": np.array(["even", "odd"]), "atoms": np.bincount(kind, minlength=2)})
        values = {
            "ring_kind": kind, "ring_bonds": bonds, "n_steps": output, "ring_grid": grid, "ring_table": table
        }  # fmt: skip
        return Fields(values, [Message(f"{rule.how}, {rule.word}.", "done")])


class LearningModel(RingModel):
    """It must have seen all frames first."""

    family, fitted, seen = "learning_rings", False, 0

    def fit_frames(self, frames, rule, *, progress=None):
        model = LearningModel(self.checkpoint)
        model.fitted, model.seen = True, len(list(frames))
        self.calls.append({"fit": model.seen})
        return model

    def run(self, frame, rule=None, *, device="auto", progress=None):
        self.calls.append({"run": self.seen})
        return self.seen


@pytest.fixture
def rings(tmp_path):
    """Make a modifier class for a family that was registered just now, and a file with its network."""
    RingModel.calls.clear()

    def make(name="rings", model="RingModel", **declared):
        declared = {"units": ("metal",), "options": OPTIONS} | declared
        family = Family(name, "Rings", "experimental", model=f"{__name__}:{model}", fields=FIELDS, **declared)
        register(family)
        path = tmp_path / f"{name}.safetensors"
        weights = {"member0.weight": np.ones(1, np.float32)}
        save_checkpoint(Checkpoint(name, f"{name}/mine-v1", {}, weights, units=declared["units"][0]), path)
        return network_modifier(name), str(path)

    yield make
    for name in ("rings", "learning_rings"):
        unregister(name)


@pytest.fixture
def chain():
    return collection([[n, 0.5, 0.5] for n in range(4)], ["Fe"] * 4, 4 * np.eye(3))


def test_a_modifier_for_any_family(rings, chain):
    cls, path = rings()
    assert cls.__name__ == "Rings" and issubclass(cls, NetworkModifier) and "Steps." in cls.__doc__
    modifier = cls(model_file=path, steps=0, names="P, Ni", how="badly", word="done")
    assert modifier.parameters() == [
        "model", "model_file", "device", "steps", "names", "types", "strict", "how", "word", "limit", "share",
        "threads",
    ]  # fmt: skip
    data = evaluate(chain, modifier)
    call = RingModel.calls[-1]
    assert call["rule"] == RingRule("rings/mine-v1", 0, ("P", "Ni"), how="badly", word="done")
    assert call["thread"] is not threading.main_thread()
    assert data.attributes["Rings.n_steps"] == 0 and data.attributes["Rings.model"] == "rings/mine-v1"
    assert data.attributes["Rings.messages"] == "badly, done."
    assert data.attributes["Rings.ring_kind_names"] == "0=even,1=odd"
    assert [kind.name for kind in data.particles["Ring Kind"].types] == ["even", "odd"]
    assert [kind.name for kind in data.particles.bonds.bond_types.types] == ["Ring bonds"]
    assert data.particles.bonds.count == 3 and set(data.particles.bonds["Ring Size"]) == {1}
    assert data.grids["ring-grid"].shape == (2, 2, 2)
    table = data.tables["rings-ring-table"]
    assert [row.name for row in table.x.types] == ["even", "odd"] and list(table.y) == [2, 2]
    assert tuple(table.x.types[1].color) == (0, 0, 1)


def test_the_number_of_threads(rings, chain, monkeypatch):
    """That of the parameter, or OVITO's own, or the usual one."""
    cls, path = rings()
    monkeypatch.delenv("OVITO_THREAD_COUNT", raising=False)
    evaluate(chain, cls(model_file=path, steps=0))
    assert RingModel.calls[-1]["threads"] == usual_threads()
    monkeypatch.setenv("OVITO_THREAD_COUNT", "5")
    evaluate(chain, cls(model_file=path, steps=0))
    evaluate(chain, cls(model_file=path, steps=0, threads=3))
    assert [call["threads"] for call in RingModel.calls[-2:]] == [5, 3]
    with pytest.raises(TraitError, match="threads"):
        cls(threads=-1)


def test_traits_follow_the_options(rings):
    cls, _ = rings(units=("lj", "metal"))
    modifier = cls()
    assert modifier.units == "lj" and "units" in modifier.parameters()
    assert (modifier.model, modifier.names, modifier.word, modifier.limit) == ("", "", "", None)
    for name, value in {"steps": 101, "share": 1.0, "how": "ill", "limit": "x", "strict": "x"}.items():
        with pytest.raises(TraitError, match=name):
            cls(**{name: value})
    traits = {name: modifier.trait(name) for name in modifier.parameters()}
    kept = {name for name, trait in traits.items() if trait.ovito_invalidate_cache is False}
    assert kept == {option.name for option in OPTIONS if option.part == "read"} | {"threads"}
    assert traits["types"].ovito_group == traits["units"].ovito_group == "Chosen"
    assert traits["names"].ovito_placeholder == "X"
    with pytest.raises(ValueError, match=r"^Rings: no checkpoint is bundled; choose your own file\.$"):
        evaluate(collection([[0.0, 0, 0]], ["Fe"], np.eye(3)), modifier)


def test_progress_of_long_work(rings, chain):
    cls, path = rings()
    steps = list(cls(model_file=path, steps=6).modify(chain, frame=0))
    texts = [step for step in steps if isinstance(step, str)]
    assert {"step 1", "step 3"} & set(texts) and "rings/mine-v1 on 4 particles" in texts
    numbers = [step for step in steps if not isinstance(step, str)]
    assert numbers == sorted(numbers) and len({number for number in numbers if 0.05 < number < 0.5}) > 2


def test_closing_ends_long_work(rings, chain):
    """OVITO closes the generator when the user cancels: the next call of progress raises, the thread ends."""
    cls, path = rings()
    work = cls(model_file=path, steps=100).modify(chain, frame=0)
    while next(work) != "step 1":
        pass
    work.close()
    call = RingModel.calls[-1]
    assert call["step"] < 5 and not call["thread"].is_alive()


def test_an_error_of_long_work_names_the_modifier(rings, chain):
    cls, path = rings()
    cls = type("Named", (cls,), {"heading": "Named rings"})
    RingModel.calls.clear()
    modifier = cls(model_file=path, word="stop")
    with pytest.raises(ValueError, match=r"^Named rings: that is too much\.$"):
        evaluate(chain, modifier)


def test_a_model_that_learns_from_all_frames_first(rings, run_file):
    cls, path = rings("learning_rings", "LearningModel", units=("lj",))
    modifier = cls(model_file=path)
    pipeline = imported(run_file)
    pipeline.modifiers.append(modifier)
    n_frames = pipeline.num_frames
    assert n_frames > 1
    for number in (1, 0):
        assert pipeline.compute(number).attributes["LearningRings.n_steps"] == n_frames
    modifier.strict = True
    pipeline.compute(0)
    assert RingModel.calls == [{"fit": n_frames}, {"run": n_frames}, {"run": n_frames}]
    modifier.steps = 1
    pipeline.compute(0)
    assert RingModel.calls[3:] == [{"fit": n_frames}, {"run": n_frames}]


def test_the_registry_is_left_as_it_was():
    assert not {"rings", "learning_rings"} & set(FAMILIES)
