"""Disjoint graphs, B-B edges, isolated A: by hand, against the naive twin, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import naive
from phaseseg import Frame, glass_metrics, read_frames, write_frames
from phaseseg.families.liquid_glass.structural_metrics import graph_counts
from phaseseg.fields import Bonds
from phaseseg.specs import FIELD_SPECS
from phaseseg.testing import AWKWARD, permuted, repeated, translated, wrapped_elsewhere
from samples import disordered_mixture

RULES = ["all", "b-only"]
COUNTS = ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a")
PER_PARTICLE = ("disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle")
PER_ATOM = {"graph_id": "int32", "isolated": "int8", "bb_degree": "int32"}
MIXED = [name for name in AWKWARD if name not in ("one species", "one atom", "one atom, open")]


def counts(fields):
    return tuple(fields[name] for name in COUNTS)


def keys(bonds):
    """{(i, j, shift)}, each bond from its canonical end."""
    rows = np.column_stack([bonds.atoms, bonds.shifts]).tolist()
    return {min((i, j, *s), (j, i, *(-x for x in s))) for i, j, *s in rows}


# By hand ------------------------------------------------------------------------------------------


def test_a_chain_counted_by_hand():
    """A-B B-A and two A far off; the second A on the left is nearest to the first A alone."""
    x = [0.0, 1.0, 2.1, 2.9, 3.9, 20.0, 21.0]
    frame = Frame([[v, 0, 0] for v in x], [40.0, 9, 9], False, list("AABBAAA"), units="lj")
    one = glass_metrics(frame, k=1)
    # 0-1, 1-0, 2-3, 3-2, 4-3, 5-6, 6-5 are chosen.
    assert keys(one["glass_bonds"]) == {(2, 3, 0, 0, 0), (3, 4, 0, 0, 0)}
    assert one["graph_id"].tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert one["isolated"].tolist() == [1, 1, 0, 0, 0, 1, 1]
    assert one["bb_degree"].tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert counts(one) == (1, 1, 4)
    literal = glass_metrics(frame, k=1, rule="b-only")
    assert keys(literal["glass_bonds"]) == {(2, 3, 0, 0, 0)}
    assert counts(literal) == (1, 1, 5)
    two = glass_metrics(frame, k=2)
    # 0-1 0-2, 1-0 1-2, 2-3 2-1, 3-2 3-4, 4-3 4-2; the last two reach back to 4, which is no B.
    assert keys(two["glass_bonds"]) == {(i, j, 0, 0, 0) for i, j in [(0, 2), (1, 2), (2, 3), (2, 4), (3, 4)]}
    assert two["graph_id"].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert counts(two) == (1, 1, 2)
    assert [two[name] for name in PER_PARTICLE] == [1 / 7, 1 / 7, 2 / 7]


def test_graphs_are_numbered_by_falling_size_and_then_by_their_lowest_row():
    """Pairs, a triple, a pair, far from each other."""
    x = [0.0, 0.5, 10.0, 10.5, 11.1, 30.0, 30.5]
    frame = Frame([[v, 0, 0] for v in x], [60.0, 9, 9], False, list("ABABBBA"), units="lj")
    assert glass_metrics(frame, k=1)["graph_id"].tolist() == [2, 2, 1, 1, 1, 3, 3]
    turned = permuted(frame, np.arange(7)[::-1])
    assert glass_metrics(turned, k=1)["graph_id"].tolist() == [2, 2, 1, 1, 1, 3, 3]


def test_rows_of_b_percolate_and_count_once_in_any_cell():
    """Rows of B along x, 1 apart, and of A between them, 2 away: all edges run along the rows."""
    sites = np.stack(np.meshgrid(np.arange(5), np.arange(4), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    frame = Frame(sites * [1.0, 2.0, 1.0], [5.0, 8.0, 1.0], True, sites[:, 1] % 2, ("A", "B"), units="lj")
    assert counts(glass_metrics(frame)) == (2, 10, 10)
    assert (glass_metrics(frame)["bb_degree"] == 2 * (sites[:, 1] % 2)).all()
    assert counts(glass_metrics(repeated(frame, (3, 1, 1)))) == (2, 30, 30)
    assert counts(glass_metrics(repeated(frame, (1, 3, 1)))) == (6, 30, 30)


def test_a_checkerboard_has_no_bb_edge_and_no_isolated_a():
    sites = np.stack(np.meshgrid(np.arange(6), np.arange(4), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    frame = Frame(sites, [6.0, 4.0, 1.0], True, sites.sum(axis=1) % 2, ("A", "B"), units="lj")
    for rule in RULES:
        fields = glass_metrics(frame, k=4, rule=rule)
        assert counts(fields) == (1, 0, 0) and len(fields["glass_bonds"]) == 48
        assert (fields["glass_bonds"].columns["length"] == 1).all()
        assert (fields["graph_id"] == 1).all()


def test_a_b_that_meets_its_own_images():
    """A column of B along c: its two nearest are itself."""
    frame = Frame([[0, 0, 0], [4.0, 4.0, 0.5]], [9.0, 9.0, 1.0], True, ["B", "A"], units="lj")
    for rule in RULES:
        fields = glass_metrics(frame, rule=rule)
        assert fields["glass_bonds"].atoms.tolist() == [[0, 0]]
        assert np.abs(fields["glass_bonds"].shifts).tolist() == [[0, 0, 1]]
        assert fields["bb_degree"].tolist() == [2, 0] and fields["isolated"].tolist() == [0, 1]
        assert counts(fields) == (1, 1, 1)
        # In the doubled cell the bond to the image is one to the copy, and back around the cell.
        assert counts(glass_metrics(repeated(frame, (1, 1, 2)), rule=rule)) == (1, 2, 2)
        assert counts(glass_metrics(repeated(frame, (2, 2, 1)), rule=rule)) == (4, 4, 4)


def test_particles_on_top_of_each_other():
    positions = [[0, 0, 0]] * 3 + [[5.0, 0, 0]] * 2 + [[9.0, 9, 9]]
    frame = Frame(positions, [20.0, 20, 20], False, list("BABABA"), units="lj")
    fields = glass_metrics(frame, k=2)
    assert_array_equal(
        fields["glass_bonds"].columns["length"][fields["glass_bonds"].columns["bb"] == 1][0], 0
    )
    assert fields["graph_id"][:3].tolist() == [1, 1, 1] and fields["bb_degree"][:3].tolist()[::2] == [2, 1]


# Against the naive twin ---------------------------------------------------------------------------


def assert_equals_naive(frame, b, k, rule):
    fields = glass_metrics(frame, b, k, rule)
    edges, (graph_id, isolated, degree, *numbers) = naive.glass_metrics(frame, b, k, rule)
    bonds = fields["glass_bonds"]
    assert keys(bonds) == set(edges) and len(bonds) == len(edges)
    assert_array_equal(fields["graph_id"], graph_id)
    assert_array_equal(fields["isolated"], isolated)
    assert_array_equal(fields["bb_degree"], degree)
    assert counts(fields) == tuple(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_naive_twin(name, rule):
    for b in ("O", "Fe"):
        assert_equals_naive(AWKWARD[name](), b, 2, rule)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(3, 60), st.sampled_from([2, 3]), st.integers(1, 6),
    st.sampled_from(RULES), st.tuples(*[st.booleans()] * 3), st.floats(0.05, 0.95),
)  # fmt: skip
def test_equals_the_naive_twin_in_any_mixture(seed, n_atoms, n_dimensions, k, rule, pbc, share):
    frame = disordered_mixture(n_atoms, n_dimensions, pbc=pbc, share=share, seed=seed)
    k = k if any(pbc[:n_dimensions]) else min(k, n_atoms - 1)
    if not (frame.species == 0).any():
        return
    assert_equals_naive(frame, "B", k, rule)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 90))
def test_counts_on_any_edges(seed, n_atoms, n_edges):
    rng = np.random.default_rng(seed)
    is_b, atoms = rng.random(n_atoms) < 0.4, rng.integers(0, n_atoms, (n_edges, 2))
    keep = rng.random(n_edges) < 0.6
    for kept, given_keep in ((keep, keep), (np.ones(n_edges, bool), None)):
        found = graph_counts(n_atoms, is_b, atoms, given_keep)
        graph_id, isolated, degree, *numbers = naive.graphs(n_atoms, is_b, atoms[kept].tolist())
        assert_array_equal(found.graph_id, graph_id)
        assert_array_equal(found.isolated, isolated)
        assert_array_equal(found.bb_degree, degree)
        assert tuple(found[3:]) == tuple(numbers)
        assert all(type(number) is int for number in found[3:])


def test_a_long_chain_of_edges_in_any_order():
    n = 20_000
    order = np.random.default_rng(0).permutation(n)
    atoms = np.column_stack([order[:-1], order[1:]])
    for ends in (atoms, atoms[::-1], atoms[np.random.default_rng(1).permutation(n - 1)]):
        found = graph_counts(n, np.zeros(n, bool), ends)
        assert (found.graph_id == 1).all() and found.n_disjoint_graphs == 1


@pytest.mark.parametrize(
    ("is_b", "atoms", "keep", "match"),
    [
        ([True], [[0, 1]], None, "need one flag each"),
        ([True, False], [[0, 1]], [True, False], "need one flag each"),
        ([True, False], [[0, 2]], None, "edges name particles 0 to 2, but there are only 2"),
        ([True, False], [[-1, 0]], None, "edges name particles -1 to 0, but there are only 2"),
    ],
)  # fmt: skip
def test_counts_refuse_what_does_not_go_together(is_b, atoms, keep, match):
    with pytest.raises(ValueError, match=match):
        graph_counts(2, is_b, atoms, keep)


# Forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MIXED)
def test_every_field_has_its_form(name, rule):
    frame = AWKWARD[name]()
    before = frame.positions.copy()
    fields = glass_metrics(frame, "O", rule=rule)
    assert_array_equal(frame.positions, before)
    assert set(fields) == {*PER_ATOM, "glass_bonds", *COUNTS, *PER_PARTICLE} <= set(FIELD_SPECS)
    for column, dtype in PER_ATOM.items():
        assert fields[column].shape == (frame.n_atoms,) and fields[column].dtype == dtype
    assert all(type(fields[name]) is int for name in COUNTS)
    assert all(type(fields[name]) is float for name in PER_PARTICLE)
    is_b = frame.species_mask("O")
    bonds = fields["glass_bonds"]
    assert isinstance(bonds, Bonds) and list(bonds.columns) == ["bb", "length"]
    assert (bonds.atoms.dtype, bonds.shifts.dtype) == ("int64", "int32")
    assert (bonds.columns["bb"].dtype, bonds.columns["length"].dtype) == ("int8", "float32")
    i, j = bonds.atoms.T
    assert (i <= j).all() and len(keys(bonds)) == len(bonds)
    assert (is_b[i] | is_b[j]).all()
    assert_array_equal(bonds.columns["bb"], is_b[i] & is_b[j])
    vectors = frame.positions[j] + bonds.shifts @ frame.cell - frame.positions[i]
    assert_allclose(np.linalg.norm(vectors, axis=1), bonds.columns["length"], rtol=1e-6, atol=1e-9)
    # The fields agree with each other.
    assert fields["bb_degree"].sum() == 2 * fields["n_bb_edges"] == 2 * bonds.columns["bb"].sum()
    assert not fields["bb_degree"][~is_b].any() and not fields["isolated"][is_b].any()
    assert fields["isolated"].sum() == fields["n_isolated_a"]
    assert_array_equal(fields["graph_id"] == 0, fields["isolated"] == 1)
    sizes = np.bincount(fields["graph_id"])[1:]
    assert len(sizes) == fields["n_disjoint_graphs"] and (np.diff(sizes) <= 0).all()
    assert_array_equal(fields["graph_id"][i], fields["graph_id"][j])
    for number, share in zip(COUNTS, PER_PARTICLE, strict=True):
        assert fields[share] == fields[number] / frame.n_atoms


def test_the_two_readings_have_the_same_bb_edges():
    frame = disordered_mixture(900)
    every, literal = (glass_metrics(frame, rule=rule) for rule in RULES)
    assert keys(literal["glass_bonds"]) < keys(every["glass_bonds"])
    assert literal["n_bb_edges"] == every["n_bb_edges"] > 0
    assert_array_equal(literal["bb_degree"], every["bb_degree"])
    assert literal["n_isolated_a"] > every["n_isolated_a"] > 0
    assert literal["n_disjoint_graphs"] > every["n_disjoint_graphs"] > 1


def test_results_go_into_files_and_do_not_meet_older_ones(tmp_path):
    frame = disordered_mixture(100)
    fields = glass_metrics(frame)
    write_frames(tmp_path / "run.xyz", [(frame, fields)])
    [read] = read_frames(tmp_path / "run.xyz", fields=True)
    assert_array_equal(read.fields["graph_id"], fields["graph_id"])
    assert read.info["n_bb_edges"] == fields["n_bb_edges"]
    again = glass_metrics(read.replace(fields={}), k=3)
    write_frames(tmp_path / "run.xyz", [(read.replace(fields={}), again)])
    [read] = read_frames(tmp_path / "run.xyz", fields=True)
    assert read.info["n_bb_edges"] == again["n_bb_edges"] != fields["n_bb_edges"]


# What must not change the counts ------------------------------------------------------------------


def assert_same(one, other, order=slice(None)):
    """Equal fields, graph numbers up to a trade between graphs of one size."""
    assert counts(other) == counts(one)
    assert_array_equal(other["isolated"], one["isolated"][order])
    assert_array_equal(other["bb_degree"], one["bb_degree"][order])
    pairs = np.unique(np.column_stack([one["graph_id"][order], other["graph_id"]]), axis=0)
    assert len(pairs) == len(np.unique(one["graph_id"]))
    sizes = np.bincount(one["graph_id"]), np.bincount(other["graph_id"])
    assert_array_equal(sizes[0], sizes[1])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.sampled_from(RULES),
    st.sampled_from([(True, True, True), (False, False, False), (True, False, True)]),
)  # fmt: skip
def test_moves_wraps_and_orders_do_not_matter(seed, n_dimensions, rule, pbc):
    frame = disordered_mixture(150, n_dimensions, pbc=pbc, seed=seed)
    rng = np.random.default_rng(seed)
    fields = glass_metrics(frame, rule=rule)
    assert_same(fields, glass_metrics(translated(frame, rng.uniform(-99, 99, 3)), rule=rule))
    images = rng.integers(-9, 10, (150, 3)) * pbc * [1, 1, n_dimensions == 3]
    wrapped = frame.replace(positions=frame.positions + images @ frame.cell)
    assert_same(fields, glass_metrics(wrapped, rule=rule))
    order = rng.permutation(150)
    assert_same(fields, glass_metrics(permuted(frame, order), rule=rule), order)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn)
    assert_same(fields, glass_metrics(turned, rule=rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["triclinic", "strongly skewed", "rotated", "left-handed", "open along c"])
def test_whole_cells_do_not_matter_to_awkward_ones(name, rule):
    frame = AWKWARD[name]()
    assert_same(glass_metrics(frame, "O", rule=rule), glass_metrics(wrapped_elsewhere(frame), "O", rule=rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("n_dimensions", "times"), [(2, (2, 3, 1)), (3, (2, 1, 2))])
def test_a_supercell_repeats_what_is_counted(n_dimensions, times, rule):
    """With few B no graph percolates, and all three counts are repeated; also in a cell of few atoms."""
    copies = int(np.prod(times))
    for n_atoms, share, k in ((400, 0.1, 1), (400, 0.35, 2), (12, 0.35, 2)):
        frame = disordered_mixture(n_atoms, n_dimensions, share=share, seed=4)
        one, many = (glass_metrics(f, k=k, rule=rule) for f in (frame, repeated(frame, times)))
        for name in ("n_bb_edges", "n_isolated_a"):
            assert many[name] == copies * one[name]
        assert_array_equal(many["bb_degree"], np.tile(one["bb_degree"], copies))
        assert_array_equal(many["isolated"], np.tile(one["isolated"], copies))
        assert len(many["glass_bonds"]) == copies * len(one["glass_bonds"])
        if share == 0.1:
            assert many["n_disjoint_graphs"] == copies * one["n_disjoint_graphs"] > copies
            assert [many[name] for name in PER_PARTICLE] == pytest.approx(
                [one[name] for name in PER_PARTICLE]
            )
        assert many["n_disjoint_graphs"] <= copies * one["n_disjoint_graphs"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pbc", [(True, True, True), (False, False, True), (False, True, False)])
def test_a_layer_is_the_same_in_two_dimensions_and_in_three(rule, pbc):
    """As a flat frame, and as one of three dimensions that is hardly thicker, in a tall cell."""
    frame = disordered_mixture(300, pbc=pbc)
    thick = frame.positions + np.random.default_rng(0).uniform(0, 0.0015, (300, 1)) * [0, 0, 1]
    tall = frame.replace(positions=thick, cell=frame.cell * [[1], [1], [60.0]])
    assert (frame.n_dimensions, tall.n_dimensions) == (2, 3)
    flat, slab = (glass_metrics(f, rule=rule) for f in (frame, tall))
    assert_same(flat, slab)
    assert keys(flat["glass_bonds"]) == keys(slab["glass_bonds"])


@pytest.mark.parametrize("rule", RULES)
def test_several_species_may_be_b_and_all_others_are_a(rule):
    frame = disordered_mixture(400, 3, names=("A", "B", "C", "D"), share=0.6)
    merged = frame.replace(species=np.isin(frame.species, (1, 3)).astype(int), species_names=("A", "B"))
    expected = glass_metrics(merged, rule=rule)
    for b in (("B", "D"), ["D", "B"]):
        assert_same(expected, glass_metrics(frame, b, rule=rule))
    one = glass_metrics(frame, "C", rule=rule)
    assert_same(one, glass_metrics(frame, ("C",), rule=rule))
    assert not one["bb_degree"][frame.species != 2].any()


# What is refused ----------------------------------------------------------------------------------


def test_what_cannot_be_counted_is_refused_in_one_sentence():
    frame = disordered_mixture(20).replace(source="run.xyz, frame 2")

    def refused(match, frame=frame, **options):
        with pytest.raises(ValueError, match=match):
            glass_metrics(frame, **options)

    refused(r"run.xyz, frame 2: no species named 'C'; the species here are A, B", b="C")
    refused(r"run.xyz, frame 2: no species named 'C'", b=("B", "C"))
    refused(r"run.xyz, frame 2: b names no species; the species of the frame are A, B", b=())
    refused(r"run.xyz, frame 2: metrics need both A and B, .* A, B \(B\)", b=("A", "B"))
    only_b = frame.replace(species=np.ones(20, int))
    refused(r"run.xyz, frame 2: metrics need both A and B, but all .* species B \(B\)", only_b)
    only_a = frame.replace(species=np.zeros(20, int))
    refused(r"run.xyz, frame 2: no atom is of species B; the species here are A", only_a)
    refused(r"run.xyz, frame 2: rule must be one of all, b-only, found 'b only'", rule="b only")
    refused(r"run.xyz, frame 2: the number of neighbors must be a whole number", k=0)
    refused(r"run.xyz, frame 2: the 20 nearest .* only 19 others", frame.replace(pbc=False), k=20)
    empty = Frame(np.empty((0, 3)), [9.0, 9, 9], True, np.empty(0, int), ("A", "B"))
    refused(r"no atom is of species B; the species here are none", empty)


@pytest.mark.parametrize("rule", RULES)
def test_all_others_may_be_neighbors(rule):
    frame = disordered_mixture(20, pbc=False)
    n_b = int(frame.species.sum())
    fields = glass_metrics(frame, k=19, rule=rule)
    assert counts(fields) == (1, n_b * (n_b - 1) // 2, 0)
    assert len(fields["glass_bonds"]) == 190 - (20 - n_b) * (19 - n_b) // 2
