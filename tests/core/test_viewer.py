"""Pages of the viewer: what is in them is what was given, and what is missing is said."""

from __future__ import annotations

import base64
import json
import re
import zlib
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from phaseseg import Bonds, Fields, Frame, Grid, predict, view
from phaseseg.families import FAMILIES
from phaseseg.specs import FIELD_SPECS
from phaseseg.viewer import scene as scene_module
from phaseseg.viewer.scene import Scene
from phaseseg.viewer.still import spheres
from phaseseg.viewer.surface import surface_mesh


def opened(page):
    """The description and the arrays of every frame in a page, read as slowly and plainly as possible."""
    about = json.loads(re.search(r'id="scene">(.*?)</script>', page.html, re.DOTALL)[1])
    frames = []
    for k, frame in enumerate(about["frames"]):
        text = re.search(rf'id="frame-{k}">(.*?)</script>', page.html, re.DOTALL)[1]
        data, arrays, start = zlib.decompress(base64.b64decode(text)), {}, 0
        for name, kind, size, differences in frame["arrays"]:
            dtype = np.dtype(f"<{kind}")
            bytes_of = [[start + n + size * byte for byte in range(dtype.itemsize)] for n in range(size)]
            values = [bytes(data[place] for place in places) for places in bytes_of]
            array = np.frombuffer(b"".join(values), dtype)
            start += size * dtype.itemsize
            arrays[name] = np.cumsum(array, dtype=dtype) if differences else array
        assert start == len(data)
        frames.append((frame, arrays))
    return about, frames


def points(array, scale):
    return array.reshape(3, -1).T * np.array(scale[3:]) + scale[:3]


def values(about, frame, arrays, name):
    k = next(k for k, one in enumerate(about["columns"]) if one["name"] == name)
    low, step = frame["columns"][name]
    return low + step * arrays[f"c{k}"].astype(float)


def liquid(n=50, cell=(9.0, 10.0, 11.0), seed=0, **changes):
    rng = np.random.default_rng(seed)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell)
    positions = (rng.random((n, 3)) * 3 - 1) @ cell
    frame = Frame(positions, cell, True, rng.integers(0, 2, n), ("Fe", "O"), ids=rng.permutation(n) + 5)
    return frame.replace(**changes)


TILTED = [[9.0, 0, 0], [4.0, 8.0, 0], [-3.0, 2.0, 7.0]]


@pytest.mark.parametrize("cell", [(9.0, 10.0, 11.0), TILTED])
@pytest.mark.parametrize("pbc", [True, False, (True, True, False)])
def test_positions_ids_and_species(cell, pbc):
    frame = liquid(cell=cell, pbc=np.broadcast_to(pbc, 3).copy(), origin=np.array([3.0, -2, 50]))
    about, [(one, arrays)] = opened(view(frame))
    row = {number: k for k, number in enumerate(arrays["ids"].tolist())}
    order = [row[number] for number in frame.ids.tolist()]
    middle = frame.origin - one["origin"]
    found = points(arrays["positions"], one["scale"])[order] + middle
    shares = (found - frame.positions) @ np.linalg.inv(frame.cell)
    assert np.abs(shares - np.rint(shares)).max() < 1e-3
    assert not np.rint(shares)[:, ~frame.pbc].any()
    inside = (found - frame.origin) @ np.linalg.inv(frame.cell)
    assert (inside[:, frame.pbc] > -1e-3).all() and (inside[:, frame.pbc] < 1 + 1e-3).all()
    names = [about["species"][k]["name"] for k in arrays["species"][order]]
    assert names == [frame.species_names[k] for k in frame.species]


def test_fields_are_as_given():
    n = 50
    rng = np.random.default_rng(1)
    phase = rng.integers(0, 3, n).astype(np.int8)
    density = rng.normal(size=n)
    density[7] = np.nan
    fields = Fields({"phase": phase, "phase_density": density, "domain": (phase == 1).astype(np.int32)})
    frame = liquid(ids=None, fields={"charge": rng.normal(size=n) * 1e30, "site": np.array(["a", "b"] * 25)})
    about, [(one, arrays)] = opened(view(frame, fields))
    assert about["color"] == "phase"
    assert (values(about, one, arrays, "phase") == phase).all()
    named = {entry["name"]: entry["color"] for entry in about["columns"][0]["classes"]}
    assert named == {"poor": "#29579e", "rich": "#e68a33", "boundary": "#eddb8f"}
    found = values(about, one, arrays, "phase_density")
    known = np.arange(n) != 7
    assert np.abs(found - density)[known].max() < np.ptp(density[known]) / 65000
    assert arrays["c1"][7] == 65535
    assert values(about, one, arrays, "charge") == pytest.approx(frame.fields["charge"], rel=1e-3, abs=1e26)
    assert [entry["name"] for entry in about["columns"][2]["classes"]] == ["outside", "domain 1"]
    words = next(one for one in about["columns"] if one["name"] == "site")
    assert [entry["name"] for entry in words["classes"]] == ["a", "b"]


@pytest.mark.slow
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_scalars_make_a_page(numbers):
    n = len(numbers)
    frame = Frame(np.zeros((n, 3)), [3.0, 3, 3], True, ["X"] * n)
    about, [(one, arrays)] = opened(view(frame, {"number": np.array(numbers)}))
    low, high = about["columns"][0]["low"], about["columns"][0]["high"]
    assert low is None or low < high
    known = np.isfinite(numbers)
    found = values(about, one, arrays, "number")[known]
    usual = np.array(numbers)[known]
    with np.errstate(all="ignore"):
        near = np.isclose(found, usual, rtol=1e-4, atol=np.ptp(usual) / 6e4 if usual.size else 0)
        assert (near | (np.abs(usual) > 3e38)).all()


def test_bonds_go_to_the_image():
    frame = liquid(4, ids=None)
    bonds = Bonds(np.array([[0, 1], [2, 3]]), np.array([[0, 0, 0], [1, 0, -1]], np.int32),
                  {"kept": np.array([1, 0], np.int8), "length": np.array([0.1, 0.2])})  # fmt: skip
    about, [(one, arrays)] = opened(view(frame, {"attention_bonds": bonds}))
    [drawn] = one["bonds"]
    assert (drawn["flags"], drawn["shown"], about["columns"]) == (["kept"], "kept", [])
    assert (arrays["b0i"].tolist(), arrays["b0j"].tolist()) == ([0, 2], [1, 3])
    p = frame.positions
    expected = [p[1] - p[0], p[3] + frame.cell[0] - frame.cell[2] - p[2]]
    assert points(arrays["b0"], drawn["scale"]) == pytest.approx(np.array(expected), abs=1e-2)


def test_several_frames_share_their_legend():
    frames = [liquid(20, seed=k, index=k) for k in range(3)]
    fields = [{"domain": np.full(20, k)} for k in range(3)]
    about, found = opened(view(frames, fields))
    assert [entry["id"] for entry in about["columns"][0]["classes"]] == [0, 1, 2]
    assert [values(about, *one, "domain")[0] for one in found] == [0, 1, 2]
    assert [one["label"] for one, _ in found] == ["frame 0", "frame 1", "frame 2"]


# ------------------------------------------------------------------------------------- what is said


def test_more_atoms_than_fit(monkeypatch):
    monkeypatch.setattr(scene_module, "MOST_ATOMS", 30)
    about, [(one, arrays)] = opened(view(liquid(50)))
    assert one["n"] == 30 and len(set(arrays["ids"].tolist())) == 30
    assert about["notes"] == ["Of 50 atoms, 30 are shown, chosen at random; the others are not in this page."]


def test_a_frame_of_which_few_atoms_fit_shows_their_values(monkeypatch):
    monkeypatch.setattr(scene_module, "MOST_ATOMS", 20)
    frame = liquid(50, fields={"charge": np.arange(50.0)})
    about, [(one, arrays)] = opened(view(frame, {"height": frame.positions[:, 2]}))
    row = {number: k for k, number in enumerate(frame.ids.tolist())}
    rows = [row[number] for number in arrays["ids"].tolist()]
    assert values(about, one, arrays, "charge") == pytest.approx(rows, abs=1e-3)
    assert values(about, one, arrays, "height") == pytest.approx(frame.positions[rows, 2], abs=1e-3)


def test_more_columns_than_fit(monkeypatch):
    monkeypatch.setattr(scene_module, "MOST_VALUES", 100)
    frame = liquid(50, fields={name: np.arange(50.0) for name in "pqrs"})
    about, _ = opened(view(frame, color="s"))
    assert [one["name"] for one in about["columns"]] == ["s", "p"]
    assert about["notes"] == ["Left out to keep the page small: q, r."]


def test_longer_trajectories_than_fit():
    scene = Scene(most_bytes=4000)
    for k in range(20):
        scene.add(liquid(100, seed=k, index=k))
        assert sum(len(one.data) for one in scene.frames) <= 4000
    labels = [one.about["label"] for one in scene.frames]
    assert labels == [f"frame {k}" for k in range(0, 20, scene.step)] and scene.step > 1
    assert scene.described("")["notes"] == [
        f"Of 20 frames, every {scene.step}th is shown, to keep the page small."
    ]


def test_bad_cases():
    frame = liquid(10)
    with pytest.raises(ValueError, match="no field 'phse' to color by; choose from species, height"):
        view(frame, {"height": np.arange(10)}, color="phse")
    with pytest.raises(ValueError, match="no atom is of species Mg; the species here are Fe, O"):
        view(frame, species="Mg")
    with pytest.raises(ValueError, match="no atoms to show"):
        view(Frame(np.zeros((0, 3)), [1.0, 1, 1], True, [], ("Fe",)))
    with pytest.raises(ValueError, match="one for each"):
        view([frame, frame], {"height": np.arange(10)})
    about, _ = opened(view(frame, {"height": np.arange(10)}, interface=True))
    assert about["notes"] == ["The model finds no interface."]


def test_one_atom_and_a_layer():
    about, _ = opened(view(Frame([[1.0, 2, 3]], [4.0, 5, 6], True, ["Fe"])))
    assert about["dimensions"] == 3 and about["frames"][0]["n"] == 1
    flat = liquid(30)
    positions = flat.positions * [1, 1, 0]
    about, _ = opened(view(flat.replace(positions=positions, units="lj")))
    assert about["dimensions"] == 2 and about["length"] == "σ"
    assert np.reshape(about["turn"], (3, 3))[2].tolist() == [0, 0, 1]


def test_names_cannot_leave_their_place():
    hostile = "</script><script>alert(1)</script>{{frames}}"
    frame = Frame(np.zeros((2, 3)), [4.0, 4, 4], True, ["Fe", hostile], fields={hostile: np.arange(2.0)})
    page = view(frame, title=hostile)
    assert "<script>alert" not in page.html and page.html.count("<script") == 3
    assert opened(page)[0]["species"][0]["name"] == hostile


def test_in_a_notebook():
    page = view(liquid(20))
    assert repr(page) == "<View of 20 atoms, 1 frame; write it to a file with .save('view.html')>"
    shown = page._repr_html_()
    assert shown.startswith("<iframe ") and "<script" not in shown and "&lt;script" in shown


def test_the_page_is_written_whole(tmp_path):
    page = view(liquid(20))
    assert page.save(tmp_path / "view.html").read_text("utf-8") == page.html
    assert not re.search(r'(?:src|href)="(?!data:)|https?://', page.html)
    with pytest.raises(OSError, match="there is no folder"):
        page.save(tmp_path / "nowhere" / "view.html")


def test_atoms_of_ase():
    ase = pytest.importorskip("ase")
    about, _ = opened(view(ase.Atoms("Fe2", [[0, 0, 0], [1, 1, 1]], cell=[5, 5, 5], pbc=True)))
    assert [one["name"] for one in about["species"]] == ["Fe"]


def test_melt_fits_its_limit(melt_frame):
    """33,280 atoms with all fields and the interface take at most 3 MB."""
    fields = predict(melt_frame)
    page = view(melt_frame, fields, interface=True)
    assert len(page.html) < 3e6
    _, [(one, arrays)] = opened_quickly(page)
    assert one["n"] == 33_280 and len(arrays["quads"]) > 10_000
    # The mesh is the interface: its area is that of the analysis.
    mesh = points(arrays["mesh"], one["mesh"]["scale"])
    shares = (mesh - one["mesh"]["origin"]) @ np.linalg.inv(np.reshape(one["mesh"]["cell"], (3, 3)))
    quads = np.cumsum(arrays["quads"], dtype=np.uint32).reshape(-1, 4)
    inside = ((shares[quads].mean(axis=1) >= 0) & (shares[quads].mean(axis=1) < 1)).all(axis=1)
    a, b, c, d = (mesh[quads[inside, k]] for k in range(4))
    area = 0.5 * np.linalg.norm(np.cross(c - a, d - b), axis=1).sum()
    assert area == pytest.approx(fields["interface_area"], rel=0.05)


def opened_quickly(page):
    """As `opened`, without sums of differences."""
    about = json.loads(re.search(r'id="scene">(.*?)</script>', page.html, re.DOTALL)[1])
    text = re.search(r'id="frame-0">(.*?)</script>', page.html, re.DOTALL)[1]
    data, arrays, start = zlib.decompress(base64.b64decode(text)), {}, 0
    for name, kind, size, _ in about["frames"][0]["arrays"]:
        width = np.dtype(kind).itemsize
        planes = np.frombuffer(data[start : start + size * width], np.uint8).reshape(width, size)
        arrays[name] = np.ascontiguousarray(planes.T).view(f"<{kind}")[:, 0]
        start += size * width
    return about, [(about["frames"][0], arrays)]


@pytest.fixture(scope="module")
def melt_frame():
    from importlib.resources import files

    from phaseseg import read_frames

    return next(iter(read_frames(str(files("phaseseg") / "demo" / "melt_large_3000K.dump.gz"))))


# ---------------------------------------------------------------------------------------- surfaces


def grid_of(function, n=24, edge=10.0, pbc=True, cell=None):
    cell = np.eye(3) * edge if cell is None else np.asarray(cell, float)
    shares = np.stack(np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij"), axis=-1)
    return Grid(
        function(shares @ cell).astype(np.float32), cell, np.array([1.0, 2, 3]), np.broadcast_to(pbc, 3)
    )


def area_of(mesh):
    a, b, c, d = (mesh.vertices[mesh.quads[:, k]] for k in range(4))
    return 0.5 * np.linalg.norm(np.cross(c - a, d - b), axis=1).sum()


@pytest.mark.parametrize("pbc", [True, False])
def test_a_sphere_is_closed_and_has_its_area(pbc):
    middle, radius = np.array([5.0, 5, 5]), 3.2
    grid = grid_of(lambda p: radius - np.linalg.norm(p - middle, axis=-1), pbc=pbc)
    mesh = surface_mesh(grid, 0.0)
    assert area_of(mesh) == pytest.approx(4 * np.pi * radius**2, rel=0.02)  # facets are chords
    away = np.linalg.norm(mesh.vertices - grid.origin - middle, axis=1)
    assert np.abs(away - radius).max() < 0.05
    edges = np.concatenate([mesh.quads[:, [k, (k + 1) % 4]] for k in range(4)])
    _, shared = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert (shared == 2).all()
    # One winding: every edge is passed once in each direction.
    assert len(np.unique(edges, axis=0)) == len(edges)


def test_a_plane_in_a_tilted_periodic_cell():
    cell = np.array([[10.0, 0, 0], [3, 9, 0], [0, 0, 12]])
    grid = grid_of(lambda p: np.sin(2 * np.pi * (p[..., 2] - 0.2) / 12), cell=cell)
    mesh = surface_mesh(grid, 0.0)
    heights = mesh.vertices[:, 2] - grid.origin[2]
    assert np.abs(heights[:, None] - [-5.8, 0.2, 6.2, 12.2]).min(axis=1).max() < 1e-2
    middles = (mesh.vertices[mesh.quads].mean(axis=1) - grid.origin) @ np.linalg.inv(cell)
    inside = ((middles >= -1e-6) & (middles < 1 - 1e-6)).all(axis=1)
    kept = type(mesh)(mesh.vertices, mesh.quads[inside])
    assert area_of(kept) == pytest.approx(2 * 10 * 9, rel=0.01)


def test_no_surface():
    assert not len(surface_mesh(grid_of(lambda p: p[..., 0] * 0 + 1), 2.0).quads)
    one = Grid(np.zeros((4, 4, 1), np.float32), np.eye(3), np.zeros(3), np.zeros(3, bool))
    assert not len(surface_mesh(one, 0.5).quads)


# ------------------------------------------------------------------------------------ still picture


@pytest.mark.parametrize(("n", "scale"), [(12, 8.0), (40, 2.0)])
def test_still_picture_against_rays(n, scale):
    """Pixel by pixel: the nearest sphere that the line of sight meets. Large spheres take another path."""
    rng = np.random.default_rng(3)
    width, height = 40, 30
    positions, radii = rng.normal(size=(n, 3)) * 3, rng.random(n) + 0.7
    colors = np.eye(3)[rng.integers(0, 3, n)]
    picture = spheres(positions, radii, colors, np.eye(3), (width, height), scale)
    for row, column in product(range(height), range(width)):
        x, y = (column + 0.5 - width / 2) / scale, (height / 2 - row - 0.5) / scale
        inside = radii**2 - (positions[:, 0] - x) ** 2 - (positions[:, 1] - y) ** 2
        front = np.where(inside > 0, positions[:, 2] + np.sqrt(np.abs(inside)), -np.inf)
        seen = picture[row, column]
        if (inside <= 0).all():
            assert (seen == 255).all()
        else:
            assert int(np.argmax(seen)) == int(np.argmax(colors[int(np.argmax(front))]))


def test_still_picture_of_many_atoms_and_of_none():
    rng = np.random.default_rng(4)
    many = spheres(
        rng.random((200_000, 3)) * 100 - 50, np.ones(200_000), np.full((200_000, 3), 0.5), np.eye(3)
    )
    assert (many[220:260, 300:340] < 250).all()
    none = spheres(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)), np.eye(3), (8, 6))
    assert (none == 255).all()


def test_colors_of_scalars_are_in_order_in_black_and_white():
    frame = liquid()
    scalars = {"phase_probability": np.linspace(0, 1, 100).reshape(50, 2), "height": frame.positions[:, 2]}
    about, _ = opened(view(frame, scalars))
    shown = [one for one in about["columns"] if one["kind"] == "scalar"]
    assert len(shown) == 3
    for one in shown:
        lightness = np.array(about["maps"][one["map"]]) @ (0.2126, 0.7152, 0.0722)
        assert (np.diff(lightness) > 0).all(), one["name"]


def lightness(color):
    """L* of a color of three parts from 0 to 1."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color]
    return 116 * np.cbrt(np.dot(linear, (0.2126, 0.7152, 0.0722))) - 16


def test_classes_differ_in_black_and_white():
    list(FAMILIES)  # they register their fields
    named = {spec.name: spec.classes for spec in FIELD_SPECS.values() if spec.classes}
    assert "phase" in named and "isolated" in named
    for name, classes in named.items():
        levels = sorted(lightness(one.color) for one in classes)
        assert min(np.diff(levels)) > 15, name
    levels = sorted(lightness(FIELD_SPECS["environment"].class_of(k).color) for k in range(3))
    assert min(np.diff(levels)) > 15
