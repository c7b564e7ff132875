"""Pictures against points counted in disks, and what must not change them; the network without torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import naive
from phaseseg import Frame
from phaseseg.families.liquid_glass.images import N_SYMMETRIES, Plane, Style, draw, turned
from phaseseg.families.liquid_glass.inference import image_logits
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.testing import ROUNDING, permuted, repeated, translated, wrapped_elsewhere
from samples import picture_of, scattered_mixture, style_of

# Shares of 8 x 8 points beside exact ones, a few of which are on the wrong side of a circle.
COUNTED = 0.06
COLORS = ((1.0, 0.2, 0.0), (0.0, 0.3, 0.9))
BACKGROUND = (0.8, 1.0, 0.7)
STYLE = {"radii": (0.5, 0.44), "colors": COLORS, "background": BACKGROUND}
UPRIGHT = ((6.0, 0.0, 0.0), (0.0, 5.0, 0.0), (0.0, 0.0, 1.0))
TILTED = ((6.0, 0.0, 0.0), (2.5, 5.0, 0.0), (0.0, 0.0, 1.0))


def mixture(cell=UPRIGHT, n=30, pbc=(True, True, False), **options):
    return scattered_mixture(n, cell, pbc, **options)


def apart(edge=12.0, n=60, radius=0.5, seed=0):
    """Particles of a square periodic cell of which no two disks overlap."""
    rng = np.random.default_rng(seed)
    chosen = []
    while len(chosen) < n:
        new = rng.random(2) * edge
        gaps = np.array(chosen).reshape(-1, 2) - new
        gaps -= edge * np.rint(gaps / edge)
        if (np.linalg.norm(gaps, axis=1) > 2 * radius).all():
            chosen.append(new)
    positions = np.c_[chosen, np.zeros(n)]
    return Frame(positions, (edge, edge, 1), (True, True, False), np.arange(n) % 2, ("A", "B"), units="lj")


# Oracle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [UPRIGHT, TILTED])
@pytest.mark.parametrize("pbc", [(True, True, False), (True, False, False), (False, False, False)])
@pytest.mark.parametrize(
    ("size", "edge", "corner"), [(23, 6.0, (0.0, 0.0)), (9, 3.1, (4.7, -1.2)), (12, 14.0, (-3.0, 2.0))]
)
def test_equals_points_counted(cell, pbc, size, edge, corner):
    frame = mixture(cell, pbc=pbc, origin=(-1.3, 0.4, 2.0), n=8)
    found = picture_of(frame, size, edge=edge, corner=corner, **STYLE)
    counted = naive.picture(frame, size, edge, corner, frame.species, **STYLE)
    assert found.shape == (size, size, 3) and found.dtype == np.float32
    assert_allclose(found, counted, rtol=0, atol=COUNTED)
    assert np.abs(found - counted).mean() < COUNTED / 10


@pytest.mark.parametrize("radius", [0.02, 0.3, 1.0, 2.5, 7.0])
def test_shares_of_one_disk_are_its_area(radius):
    """Also of disks smaller than a pixel, and larger than the picture."""
    rng = np.random.default_rng(0)
    for center in [*rng.random((5, 2)) * 8, (4.0, 4.0), (4.5, 4.5)]:
        style = style_of(1.0, (radius,), ((1.0,),), (0.0,))
        plane = Plane(np.array([center]), np.zeros(1, int), np.eye(2) * 50, np.zeros(2, bool))
        image = draw(plane, np.array([(-20.0, -20.0)]), 50, style)
        assert_allclose(image.sum(dtype=float), np.pi * radius**2, rtol=ROUNDING["float32"])
        assert image.min() >= 0 and image.max() <= 1


def test_quarter_of_a_disk_is_exact():
    """A disk of radius 1 around a corner of a pixel: π/4 of each of four."""
    plane = Plane(np.array([[2.0, 2.0]]), np.zeros(1, int), np.eye(2) * 50, np.zeros(2, bool))
    image = draw(plane, np.zeros((1, 2)), 4, style_of(1.0, (1.0,), ((1.0,),), (0.0,)))[0, 0]
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = np.pi / 4
    assert_allclose(image, expected, atol=1e-7)


def test_wide_disks_cover_all():
    frame = mixture(n=5)
    assert_array_equal(
        picture_of(frame, 7, radii=(20, 20), colors=((0, 0, 0), (0, 0, 0)), background=(1, 1, 1)), 0
    )


# Properties ---------------------------------------------------------------------------------------


def test_mean_color_follows_from_the_areas():
    frame = apart()
    n_a, n_b = np.bincount(frame.species)
    shares = np.pi * np.array([0.5**2 * n_a, 0.44**2 * n_b]) / 144
    expected = np.array(BACKGROUND) + shares @ (np.array(COLORS) - BACKGROUND)
    for size in (24, 61, 250):
        image = picture_of(frame, size, **STYLE)
        assert_allclose(image.mean(axis=(0, 1), dtype=float), expected, rtol=ROUNDING["float32"])


@settings(max_examples=20, deadline=None)
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 99))
def test_translation_by_whole_pixels(right, up, seed):
    frame = mixture(((6.0, 0, 0), (0, 6.0, 0), (0, 0, 1)), seed=seed)
    image = picture_of(frame, 30, **STYLE)
    moved = picture_of(translated(frame, (right * 0.2, up * 0.2, 0)), 30, **STYLE)
    assert_allclose(moved, np.roll(image, (up, right), axis=(0, 1)), atol=ROUNDING["float32"])


@pytest.mark.parametrize("cell", [UPRIGHT, TILTED])
def test_wrapping_order_and_supercells_change_nothing(cell):
    frame = mixture(cell)
    window = {"edge": 4.0, "corner": (3.3, 2.2), **STYLE}
    image = picture_of(frame, 40, **window)
    others = [
        wrapped_elsewhere(frame, reach=2), permuted(frame, np.random.default_rng(1).permutation(30)),
        repeated(frame, (2, 3, 1)),
    ]  # fmt: skip
    for other in others:
        assert_allclose(picture_of(other, 40, **window), image, atol=ROUNDING["float32"])
    before = frame.positions.copy()
    picture_of(frame, 40, **window)
    assert_array_equal(frame.positions, before)


def test_a_window_is_part_of_the_whole():
    frame = mixture()
    whole = picture_of(frame, 60, edge=12.0, **STYLE)
    part = picture_of(frame, 20, edge=4.0, corner=(2.0, 5.0), **STYLE)
    assert_allclose(part, whole[25:45, 10:30], atol=ROUNDING["float32"])


def test_rows_go_up_and_planes_lie_anywhere():
    frame = mixture()
    image = picture_of(frame, 20, edge=6.0, **STYLE)
    # y and z change places: the plane is xz, and the axis out of it is the second.
    standing = Frame(
        frame.positions[:, [0, 2, 1]], frame.cell[:, [0, 2, 1]], frame.pbc, frame.species, ("A", "B")
    )
    assert_allclose(picture_of(standing, 20, edge=6.0, **STYLE), image, atol=ROUNDING["float32"])
    low = Frame([(1, 0.5, 0), (1, 0.5, 0), (1, 0.5, 0)], (9, 9, 1), False, ["A"] * 3)
    rows, columns = np.nonzero(picture_of(low, 9, radii=(0.4,), colors=((0, 0, 0),)).min(axis=2) < 1)
    assert set(rows) == {0} and set(columns) == {0, 1}


def test_the_eight_symmetries():
    """Each once, and each the picture of a configuration turned likewise."""
    frame = apart()
    image = draw(Plane.of(frame, frame.species), np.zeros((1, 2)), 24, style_of(2.0, *STYLE.values()))
    found = [turned(image, np.array([k]))[0] for k in range(N_SYMMETRIES)]
    assert len({picture.tobytes() for picture in found}) == N_SYMMETRIES
    assert_array_equal(found[0], image[0])
    x, y = frame.positions[:, 0] - 6, frame.positions[:, 1] - 6
    for u, v in [(x, y), (-y, x), (-x, -y), (y, -x), (-x, y), (y, x), (x, -y), (-y, -x)]:
        other = frame.replace(positions=np.c_[u + 6, v + 6, 0 * u])
        drawn = draw(Plane.of(other, frame.species), np.zeros((1, 2)), 24, style_of(2.0, *STYLE.values()))[0]
        assert any(np.allclose(drawn, picture, atol=1e-5) for picture in found)


# Network ------------------------------------------------------------------------------------------

# Sums of some hundred float32 terms in another order, of the largest |logit|.
LOGITS = 1e-5
NETWORKS = {
    "default": {"image_size": 80},
    "paper, small": {"image_size": 40, "pool": 1, "normalize": False},
    "any size": {"image_size": 61, "global_average": True},
    "odd sizes": {"image_size": 70, "kernels": (7, 9), "kernel_sizes": (9, 4), "pool": 3, "dense": 5},
    "least": {"image_size": 2, "kernels": (1, 1), "kernel_sizes": (1, 2), "pool": 1, "dense": 1},
}


@pytest.fixture(autouse=True)
def one_thread():
    """As in training: threads wait for each other where the machine is busy."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained_a_little(config, seed=0):
    """A network in PyTorch whose running statistics and biases are not those it started with."""
    torch = pytest.importorskip("torch")
    from phaseseg.families.liquid_glass.network import ImageNetwork

    torch.manual_seed(seed)
    network = ImageNetwork(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.rand(4, 3, config.image_size, config.image_size)).square().mean().backward()
        optimizer.step()
    return network.eval()


def weights_of(network):
    return {name: values.numpy() for name, values in network.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_equal_those_of_torch(name):
    torch = pytest.importorskip("torch")
    config = GlassConfig(architecture="cnn", **NETWORKS[name])
    network = trained_a_little(config)
    weights = weights_of(network)
    assert {key: values.shape for key, values in weights.items()} == config.weight_shapes()
    assert sum(values.size for values in weights.values()) == config.n_parameters
    images = np.random.default_rng(0).random((5, 3, config.image_size, config.image_size), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    found = image_logits(weights, images, config)
    assert found.shape == (5,) and found.dtype == np.float32
    assert_allclose(found, expected, rtol=0, atol=LOGITS * np.abs(expected).max())
    assert_allclose(image_logits(weights, images[3:4], config), found[3:4], rtol=0, atol=1e-6)
    assert image_logits(weights, images[:0], config).shape == (0,)


def test_size_is_free_where_the_image_is_averaged():
    torch = pytest.importorskip("torch")
    config = GlassConfig(architecture="cnn", image_size=60, global_average=True)
    network = trained_a_little(config)
    images = np.random.default_rng(0).random((2, 3, 93, 93), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    assert_allclose(image_logits(weights_of(network), images, config), expected, rtol=LOGITS)


def test_other_images_are_refused():
    config = GlassConfig(architecture="cnn", image_size=60)
    weights = {name: np.ones(shape, dtype=np.float32) for name, shape in config.weight_shapes().items()}
    with pytest.raises(ValueError, match=r"60 x 60 pixels in three colors, found .* \(2, 3, 61, 61\)"):
        image_logits(weights, np.zeros((2, 3, 61, 61), dtype=np.float32), config)
    with pytest.raises(ValueError, match="three colors"):
        image_logits(weights, np.zeros((2, 1, 60, 60), dtype=np.float32), config)
    config = GlassConfig(architecture="cnn", image_size=60, global_average=True)
    weights = {name: np.ones(shape, dtype=np.float32) for name, shape in config.weight_shapes().items()}
    with pytest.raises(ValueError, match="12 x 12 pixels are too small"):
        image_logits(weights, np.zeros((2, 3, 12, 12), dtype=np.float32), config)


def test_the_published_network():
    """6 kernels of 10 x 10, 16 of 5 x 5, 80 units: 71.9 million weights, nearly all of the dense layer."""
    config = GlassConfig(architecture="cnn", image_size=250, pool=1, normalize=False)
    assert config.convolved_sizes == (241, 237)
    assert config.n_parameters == 6 * 301 + 16 * 151 + 80 * (237**2 * 16 + 1) + 81


def test_normalization_of_a_batch_and_of_what_was_seen():
    torch = pytest.importorskip("torch")
    from phaseseg.families.liquid_glass.network import Normalization

    for shape in ((50, 4), (6, 4, 7, 5)):
        layer = Normalization(4)
        x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for _ in range(200):
            y = layer(x)
        others = [k for k in range(len(shape)) if k != 1]
        assert_allclose(y.mean(dim=others), 0, atol=1e-5)
        assert_allclose(y.std(dim=others, correction=0), 1, atol=1e-4)
        assert_allclose(layer.eval()(x), y, atol=1e-4)
    alone = Normalization(4)
    assert_array_equal(alone(torch.ones(1, 4)), torch.ones(1, 4))


@pytest.mark.slow
def test_learns_order_from_disorder():
    """A triangular lattice with noise beside particles anywhere, of equal density."""
    torch = pytest.importorskip("torch")
    config = GlassConfig(architecture="cnn", image_size=50, pixels_per_sigma=5, global_average=True)
    style, rng = Style.of(config), np.random.default_rng(0)

    def pictures(n):
        images = np.empty((n, 3, 50, 50), dtype=np.float32)
        for k in range(n):
            rows, columns = np.mgrid[:12, :10]
            lattice = np.c_[(columns + rows / 2).ravel() % 10, rows.ravel() * 12 / 12]
            noise = rng.normal(size=(120, 2)) * (0.05 if k % 2 else 0.4)
            plane = Plane(lattice + noise, rng.integers(0, 2, 120), np.diag([10.0, 12.0]), np.ones(2, bool))
            images[k] = draw(plane, rng.random((1, 2)) * 10, 50, style)[0]
        return torch.from_numpy(images), torch.arange(n) % 2.0

    from phaseseg.families.liquid_glass.network import ImageNetwork

    torch.manual_seed(0)
    network = ImageNetwork(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(50):
        images, label = pictures(16)
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 50)
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(images), label).backward()
        optimizer.step()
    images, label = pictures(40)
    logits = image_logits(weights_of(network), images.numpy(), config)
    assert ((logits > 0) == label.numpy()).mean() > 0.95
