"""Frames and small networks that tests share: one maker for each kind."""

from __future__ import annotations

import pickle
from importlib.resources import as_file, files

import numpy as np

from phaseseg import families
from phaseseg.checkpoint import Checkpoint
from phaseseg.families.liquid_glass.images import Plane, Style, draw
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.frame import Frame
from phaseseg.io import read_frames
from phaseseg.large.disk import Disk
from phaseseg.large.kept import Kept
from phaseseg.specs import CHECKPOINT_FOLDERS, FIELD_SPECS

TYPES = ("Fe", "Mg", "Si", "O", "N")

# Two liquids --------------------------------------------------------------------------------------


def bundled(name):
    """All frames of a bundled dump: `melt_small_3000K`."""
    with as_file(files("phaseseg") / "demo" / f"{name}.dump.gz") as path:
        return list(read_frames(path, types=TYPES))


def drops(centers=((0.5, 0.5, 0.5),), radii=(9.0,), cell=(30.0, 30.0, 30.0), seed=0):
    """Positions, symbols and cell of a melt: spheres of iron in an oxide, nearly unmixed.

    Jittered sites, 2.3 Å apart: a liquid has no such voids as random points have. Centers are
    fractions of the cell.
    """
    rng = np.random.default_rng(seed)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell)
    counts = (np.linalg.norm(cell, axis=1) / 2.3).astype(int)
    sites = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = (sites + rng.uniform(-0.3, 0.3, sites.shape) + 0.5) / counts
    inside = np.zeros(len(fractions), dtype=bool)
    for center, radius in zip(centers, radii, strict=True):
        apart = fractions - np.asarray(center)
        apart -= np.rint(apart)
        inside |= np.linalg.norm(apart @ cell, axis=1) < radius
    iron = rng.random(len(fractions)) < np.where(inside, 0.95, 0.03)
    return fractions @ cell, np.where(iron, "Fe", "O"), cell


WATER = np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])


def wrapped(frame):
    """The atoms in the cell along periodic axes, so that molecules may be broken."""
    inverse = np.linalg.inv(frame.cell)
    fractions = (frame.positions - frame.origin) @ inverse
    return frame.replace(positions=frame.positions - np.where(frame.pbc, np.floor(fractions), 0) @ frame.cell)


def two_solvents(seed=0, length=20.0):
    """Half of the cell is water, half of it carbon tetrachloride, with sodium in the water."""
    rng = np.random.default_rng(seed)
    parts, species, numbers, number = [], [], [], 0
    tetrahedron = 1.77 / np.sqrt(3) * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    for shape, names, side, spacing in (
        (WATER, ["O", "H", "H"], 0, 3.1), (tetrahedron, ["C", "Cl", "Cl", "Cl", "Cl"], 1, 5.4),
    ):  # fmt: skip
        n = np.ceil(length / spacing).astype(int)
        steps = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n * length] * 3, indexing="ij"), -1).reshape(
            -1, 3
        )
        for place in steps + np.array([side * length, 0, 0]) + rng.normal(0, 0.4, steps.shape):
            number += 1
            parts.append(place + shape @ np.linalg.qr(rng.normal(size=(3, 3)))[0])
            species += names
            numbers += [number] * len(names)
    ions = rng.random((20, 3)) * [length, length, length]
    positions = np.concatenate([*parts, ions])
    frame = Frame(
        positions, [2 * length, length, length], True, [*species, *["Na"] * 20],
        molecules=[*numbers, *[0] * 20],
    )  # fmt: skip
    return wrapped(frame)


def share_checkpoint(
    name="segmentation/share-v1", *, n_members=1, species=TYPES, target=("Fe",), outputs=2, cut=0.45,
    slope=8.0, spread=0.02, temperature=0.4, units="metal", architecture="gcn",
):  # fmt: skip
    """A network that knows what it does: its score is slope * (share of the target within 6 Å - cut), Å.

    Members differ by `spread` in their cuts; with three outputs the boundary is likely where the score is
    small. What the message-passing layer adds is random and small.
    """
    config = NetworkConfig(
        tuple(species), tuple(target), tuple(name for name in species if name == "Mg"), hidden=4, layers=1,
        readout=4, outputs=outputs, architecture=architecture, heads=2,
    )  # fmt: skip
    n, rng = config.n_features, np.random.default_rng(0)
    high = np.array([1.0] * len(species) + [90.0, 6.0, 8.0, 1.0, 60.0], dtype=np.float32)
    weights = {
        "feature.center": np.zeros(n), "feature.scale": np.ones(n), "feature.low": np.zeros(n),
        "feature.high": high,
    }  # fmt: skip
    for member in range(n_members):
        own = {key: 1e-5 * rng.normal(size=shape) for key, shape in config.weight_shapes().items()}
        at = cut + spread * (member - (n_members - 1) / 2)
        first, second = np.zeros(own["readout1.weight"].shape), np.zeros(own["readout2.weight"].shape)
        first += own["readout1.weight"]
        first[0, len(species) + 3] += slope
        first[1, len(species) + 3] -= slope
        second[1, 0], second[0, 1] = 1, 1
        own["readout1.weight"], own["readout2.weight"] = first, second
        own["readout1.bias"] = np.array([-slope * at, slope * at, 0, 0])
        own["readout2.bias"] = np.zeros(outputs)
        if outputs == 3:
            own["readout2.bias"][2] = 1.0
        weights |= {f"member{member}.{key}": values for key, values in own.items()}
    settings = {
        "network": config.to_dict(),
        "score": {
            "bound": 3.0,
            "scale": [1.0] * n_members,
            "offset": [0.0] * n_members,
            "temperature": temperature,
        },
        "interface": {"sigma": 1.0, "voxel": 0.75},
        "label_rule": LabelRule(tuple(target), sigma=2.0, threshold=0.04).fixed().to_dict(),
        "ranges": {"number_density": [0.09, 0.12]},
    }
    weights = {key: np.asarray(values, dtype=np.float32) for key, values in weights.items()}
    return Checkpoint("segmentation", name, settings, weights, units=units)


# Liquids and glasses ------------------------------------------------------------------------------


def disordered_mixture(
    n=400, dimensions=2, *, density=1.2, share=0.35, seed=0, pbc=None, edges=None, jitter=0.4,
    names=("A", "B"), **more,
):  # fmt: skip
    """Particles A and B around the sites of a square or cube, reduced units; `more` goes to the Frame.

    share : of all species but the first, which share it evenly
    edges : of the cell in place of the density, as many as there are dimensions
    jitter : largest distance from a site along an axis, in distances of sites
    """
    rng = np.random.default_rng(seed)
    lengths = np.full(dimensions, (n / density) ** (1 / dimensions)) if edges is None else np.array(edges)
    m = int(np.ceil(n ** (1 / dimensions) - 1e-9))
    sites = np.stack(np.meshgrid(*[np.arange(m)] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    sites = sites[rng.permutation(len(sites))[:n]]
    positions = np.zeros((n, 3))
    positions[:, :dimensions] = (sites + 0.5 + rng.uniform(-jitter, jitter, sites.shape)) / m * lengths
    cell = np.ones(3)
    cell[:dimensions] = lengths
    others = 1 + np.arange(n) % (len(names) - 1)
    species = rng.permutation(np.where(np.arange(n) < share * n, others, 0))
    pbc = (True, True, dimensions == 3) if pbc is None else pbc
    return Frame(positions, cell, pbc, species, names, units="lj", **more)


SKEW = {2: ((11.0, 0, 0), (2.0, 12.0, 0), (0, 0, 1.0)), 3: ((5.0, 0, 0), (1.0, 4.5, 0), (-0.8, 0.7, 5.5))}


def scattered_mixture(n=150, cell=None, pbc=True, seed=0, *, dimensions=2, origin=(0.0, 0.0, 0.0), **more):
    """Particles A and B anywhere in any cell, so that some nearly coincide; about a third are B.

    cell : (3, 3), or edges; one that is skewed if left out
    """
    rng = np.random.default_rng(seed)
    cell = np.asarray(SKEW[dimensions] if cell is None else cell, dtype=float)
    cell = np.diag(cell) if cell.ndim == 1 else cell
    fractions = rng.random((n, 3))
    if dimensions == 2:
        fractions[:, 2] = 0.0
    species = (rng.random(n) < 0.35).astype(int)
    species[:2] = 0, 1
    return Frame(fractions @ cell + origin, cell, pbc, species, ("A", "B"), origin=origin, units="lj", **more)


def cooled(seed=0, temperatures=(2.0, 0.5, 0.05), n=225, dimensions=2):
    """A run: the hotter, the more disordered; temperatures are in `info`."""
    return [
        disordered_mixture(
            n, dimensions, density=1.0, share=1 / 3, seed=1000 * seed + round(100 * t),
            jitter=min(0.1 + 0.4 * t, 0.6), info={"temperature": t}, source=f"seed {seed} at {t}",
        )
        for t in temperatures
    ]  # fmt: skip


def random_glass_checkpoint(
    name="liquid_glass/random-v1", *, n_members=1, temperature=1.0, number_density=(1.1, 1.3),
    b_fraction=(0.3, 0.4), attention_threshold=None, **config,
):  # fmt: skip
    """A network that tells liquid from glass as dice do; `config` are settings of `GlassConfig`.

    Weights of attention are smaller than the others: what they give is an exponential.
    """
    network = GlassConfig(**{"hidden": 12, **config})
    weights = {}
    for member in range(n_members):
        rng = np.random.default_rng(member)
        for key, shape in network.weight_shapes().items():
            fans = np.prod(shape[1:]) if len(shape) > 1 else 100
            size = (0.4 if key.startswith("attention") else 1.2) / np.sqrt(fans)
            weights[f"member{member}.{key}"] = rng.normal(0, size, shape).astype(np.float32)
    settings = {"network": network.to_dict(), "temperature_scaling": temperature}
    if attention_threshold is not None:
        settings["attention_threshold"] = attention_threshold
    ranges = {"number_density": list(number_density), "b_fraction": list(b_fraction)}
    return Checkpoint("liquid_glass", name, settings, weights, units="lj", ranges=ranges)


def unregister(name: str) -> None:
    """Take a family out of the registry again."""
    gone = families._registered.pop(name, None)
    CHECKPOINT_FOLDERS.pop(name, None)
    others = {spec.name for family in families._registered.values() for spec in family.fields}
    for spec in gone.fields if gone else ():
        if spec.name not in others:
            FIELD_SPECS.pop(spec.name, None)


# Machines ----------------------------------------------------------------------------------------


def by_others(function, items):
    """Stands for machines that share a folder: what is sent are bytes, and the last item is done first."""
    function, items = pickle.dumps(function), [*map(pickle.dumps, items)]
    done = [pickle.loads(function)(pickle.loads(item)) for item in reversed(items)]
    yield from reversed(done)


def shared_disk(folder):
    """A disk of which other machines see the files, in a folder of the folder."""
    return Disk(kept=Kept.of_run(folder / "shared", {}, by_others).of_frame(0))


# Pictures -----------------------------------------------------------------------------------------


def style_of(scale, radii, colors, background):
    """How disks are drawn, from pixels per σ, radii in σ and colors."""
    colors, background = np.asarray(colors, float), np.asarray(background, float)
    return Style(scale, np.asarray(radii, float) * scale, colors - background, background.astype(np.float32))


def picture_of(
    frame, size, *, edge=None, corner=None, radii=GlassConfig.radii, colors=GlassConfig.colors,
    background=GlassConfig.background,
):  # fmt: skip
    """(size, size, 3) of a square of a frame, by default the one that the whole cell fits into."""
    plane = Plane.of(frame, frame.species)
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) @ plane.cell
    edge = np.ptp(corners, axis=0).max() if edge is None else edge
    start = corners.min(axis=0) if corner is None else np.asarray(corner, float)
    image = draw(plane, start[None], size, style_of(size / edge, radii, colors, background))[0]
    return np.moveaxis(image, 0, 2)
