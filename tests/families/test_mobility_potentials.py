"""Energies and forces of Lennard-Jones mixtures: against pair-by-pair sums, and what must not change them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose

import naive
from phaseseg import Frame
from phaseseg.families.mobility.pairs import System, compute_forces, filter_pairs
from phaseseg.families.mobility.potentials import LennardJonesMixture
from phaseseg.io import InputError
from phaseseg.testing import awkward_frames, permuted, repeated, translated, wrapped_elsewhere

KA = LennardJonesMixture.kob_andersen()
AWKWARD = {
    name: make
    for name, make in awkward_frames(("A", "B"), "lj", 0.95).items()
    # The others have two particles at the same place, or more.
    if name not in ("coincident atoms", "on the upper bound")
}
THREE = LennardJonesMixture(
    ("Ar", "Kr", "Xe"), np.array([[1, 1.2, 1.1], [1.2, 1.4, 0], [1.1, 0, 1.9]]),
    np.array([[1, 1.05, 1.1], [1.05, 1.1, 1.15], [1.1, 1.15, 1.2]]), np.full((3, 3), 2.2), "none",
)  # fmt: skip


def close(found, wanted):
    """To rounding of the largest."""
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    assert_allclose(found, wanted, rtol=0, atol=1e-10 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_energies_and_forces_are_those_of_every_pair_and_image(name):
    frame = AWKWARD[name]()
    energies, forces = KA.energies_and_forces(frame)
    wanted = naive.lennard_jones(frame, KA)
    close(energies, wanted[0])
    close(forces, wanted[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), edge=st.floats(0.9, 6), pbc=st.tuples(*[st.booleans()] * 3))
def test_random_particles_in_cells_of_any_shape(seed, edge, pbc):
    """Cells much smaller than the cutoff, too, where a particle meets its own images."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(0.7, 1.3, 3)) * edge + rng.uniform(-0.3, 0.3, (3, 3)) * edge
    n = int(rng.integers(1, 12))
    frame = Frame(
        rng.uniform(-2, 3, (n, 3)) @ cell, cell, pbc, rng.integers(0, 3, n), THREE.species, units="lj"
    )
    energies, forces = THREE.energies_and_forces(frame)
    wanted = naive.lennard_jones(frame, THREE)
    close(energies, wanted[0])
    close(forces, wanted[1])


def test_forces_are_the_gradient_of_the_energy():
    frame = AWKWARD["triclinic"]()
    forces, step = KA.forces(frame), 1e-6
    rng = np.random.default_rng(0)
    for _ in range(5):
        way = rng.normal(size=frame.positions.shape)
        ends = [KA.energies(frame.replace(positions=frame.positions + s * step * way)).sum() for s in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(-(forces * way).sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["triclinic", "orthogonal"])
def test_symmetries(name):
    frame = AWKWARD[name]()
    energies, forces = KA.energies_and_forces(frame)
    for same in (translated(frame, (0.3, -7.1, 2.2)), wrapped_elsewhere(frame, 1)):
        close(KA.energies(same), energies)
        close(KA.forces(same), forces)
    order = np.random.default_rng(0).permutation(len(frame))
    close(KA.energies(permuted(frame, order)), energies[order])
    double = repeated(frame, (2, 1, 1))
    assert KA.energies(double).sum() == pytest.approx(2 * energies.sum(), rel=1e-12)


def test_the_lists_lose_no_pair_while_particles_move():
    """Forces from the fine list equal those of a new list after moves that the skins allow."""
    frame = AWKWARD["triclinic"]()
    rng = np.random.default_rng(3)
    system = System(frame, KA.codes(frame), KA.tables)
    system.list_pairs(0.6)
    start = system.positions.copy()
    for _ in range(4):
        way = rng.normal(size=start.shape)
        system.positions[:] = start + 0.25 * way / np.linalg.norm(way, axis=1, keepdims=True)
        filter_pairs(
            system.positions, system.codes, system.coarse, system.images, system.tables, 0.1, system.fine
        )
        way = rng.normal(size=start.shape)
        system.positions += 0.05 * way / np.linalg.norm(way, axis=1, keepdims=True)
        forces = np.zeros_like(start)
        compute_forces(system.positions, system.codes, system.fine, system.images, system.tables, forces)
        moved = frame.replace(positions=system.unwrapped(system.positions))
        close(system.in_order(forces), KA.forces(moved))


def test_two_particles_by_hand():
    """At the minimum of A and B, 2^(1/6) σ apart."""
    r = 0.8 * 2 ** (1 / 6)
    frame = Frame([[0, 0, 0], [r, 0, 0]], [9.0, 9, 9], False, ["A", "B"], units="lj")
    x = (0.8 / 2.0) ** 6
    assert KA.energies(frame) == pytest.approx([-0.75 - 3 * (x * x - x)] * 2)
    assert_allclose(KA.forces(frame), 0, atol=1e-12)
    unshifted = LennardJonesMixture(KA.species, KA.epsilon, KA.sigma, KA.cutoff, "none")
    assert unshifted.energies(frame) == pytest.approx([-0.75, -0.75])
    at_cutoff = frame.replace(positions=[[0, 0, 0], [2.0, 0, 0]])
    assert KA.energies(at_cutoff).tolist() == [0, 0]


def test_nothing_and_one_particle():
    nothing = Frame(np.zeros((0, 3)), [3.0, 3, 3], True, [], ("A", "B"), units="lj")
    assert KA.energies(nothing).shape == (0,)
    assert KA.forces(nothing).shape == (0, 3)
    one = Frame([[1.0, 1, 1]], [9.0, 9, 9], True, ["B"], units="lj")
    assert (KA.energies(one).tolist(), KA.forces(one).tolist()) == ([0.0], [[0.0] * 3])


def test_what_is_refused():
    same = Frame([[1.0, 1, 1], [2, 2, 2], [10, 1, 1]], [9.0, 9, 9], True, list("ABA"), source="run.xyz")
    with pytest.raises(ValueError, match=r"^run.xyz: atoms 1 and 3 are at the same place"):
        KA.energies(same)
    with pytest.raises(ValueError, match="no entry for Fe; its species are A, B"):
        KA.energies(same.replace(species=list("AAA"), species_names=()).replace(species_names=("Fe",)))
    good = KA.to_dict()
    for change, said in [
        ({"epsilon": [[1, 2], [3, 4]]}, "epsilon must be a symmetric table of 2 x 2"),
        ({"epsilon": "big"}, "epsilon must be numbers"),
        ({"sigma": [[1, 0], [0, 1]]}, "sigma must hold positive numbers"),
        ({"sigma": [[1, np.nan], [np.nan, 1]]}, "sigma must"),
        ({"cutoff": [2.5, 2.5]}, "cutoff must be a symmetric table"),
        ({"species": ["A", "A"]}, "distinct species"),
        ({"species": "AB"}, "species must be a list"),
        ({"shift": "force"}, "shift must be"),
        ({"charge": 1}, "a potential has the entries"),
    ]:
        with pytest.raises(ValueError, match=said):
            LennardJonesMixture.from_dict(good | change)


def test_tables_are_read_and_written(tmp_path):
    again = LennardJonesMixture.from_dict(json.loads(json.dumps(KA.to_dict())))
    assert again.to_dict() == KA.to_dict()
    one_cutoff = LennardJonesMixture.from_dict({**KA.to_dict(), "cutoff": 2.5})
    assert_allclose(one_cutoff.cutoff, KA.cutoff)
    path = tmp_path / "ka.txt"
    path.write_text("# pairs\nA A 1 1\nA B 1.5 0.8  # mixed\nB B 0.5 0.88 2.2\n")
    assert_allclose(LennardJonesMixture.read(path).cutoff, KA.cutoff)
    assert LennardJonesMixture.read(path).species == ("A", "B")
    path.write_text(json.dumps(KA.to_dict()))
    assert LennardJonesMixture.read(path).to_dict() == KA.to_dict()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A A 1 1\nA B x 2\n", "ka.txt: line 2 must read like"),
        ("A A 1 1\nB B 1 1\n", "ka.txt: the table has no line for the pair A B"),
        ("A A 1 1\nA A 1 1\n", "line 2 repeats the pair A A"),
        ("A\n", "line 1 must read like"),
        ("", "the table has no pairs"),
        ("{", "ka.txt: Expecting"),
        ("{}", "a potential has the entries"),
        ("A A -1 1\n", "epsilon must hold positive"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, said):
    path = tmp_path / "ka.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        LennardJonesMixture.read(path)


def test_a_table_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        LennardJonesMixture.read(tmp_path / "ka.txt")
