"""NumPy archives and pickles of glass formers: every public form, and pickles that want to run something."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from phaseseg.io import InputError, read_frames
from phaseseg.io.pickled import PickleError, plain_objects

N, EDGE = 40, (40 / 1.2) ** (1 / 3)
RNG = np.random.default_rng(0)
START = np.concatenate(
    [[[-EDGE / 2] * 3, [EDGE / 2 - 1e-9] * 3], RNG.uniform(-EDGE / 2, EDGE / 2, (N - 2, 3))]
)
TYPES = (np.arange(N) % 5 == 0).astype(int)
ENDS = START + RNG.normal(size=(4, N, 3))
LENGTHS = np.linalg.norm(ENDS - START, axis=2)


def one(path: Path, **options: Any) -> Any:
    (frame,) = read_frames(path, fields=True, **options)
    return frame


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# Archives -----------------------------------------------------------------------------------------


def glassbench(path: Path, temperature: float = 0.44, **more: Any) -> Path:
    name = path / f"N4096T{temperature:.2f}_99.npz"
    return saved(
        name, types=TYPES + 1, initial_positions=START, initial_positions_inherent=START + 0.1,
        initial_positions_cage=START + 0.2, md_prop=np.arange(10)[:, None] + np.arange(N) / N,
        bb_prop=np.ones((10, N)), BOTAN=2 * np.ones((10, N)), DEN=np.arange(N), **more,
    )  # fmt: skip


def test_glassbench(tmp_path: Path) -> None:
    frame = one(glassbench(tmp_path))
    assert (frame.species_names, frame.units) == (("A", "B"), "lj")
    assert_array_equal(frame.species, TYPES)
    assert_allclose(frame.positions, START)
    assert_allclose(np.diag(frame.cell), EDGE)
    assert_allclose(frame.origin, -EDGE / 2)
    assert {message.code for message in frame.messages} == {"temperature-of-name", "box-of-benchmark"}
    assert_allclose(frame.fields["inherent_positions"], START + 0.1)
    assert_allclose(frame.fields["cage_positions"], START + 0.2)
    # The seventh time is the relaxation time.
    assert_allclose(frame.fields["propensity"], 6 + np.arange(N) / N)
    assert_allclose(frame.fields["propensity_10"], 9 + np.arange(N) / N)
    assert "propensity_7" not in frame.fields
    assert frame.fields["bb_prop"].shape == frame.fields["BOTAN"].shape == (N, 10)
    assert_array_equal(frame.fields["DEN"], np.arange(N))
    assert frame.info["temperature"] == 0.44
    assert (frame.info["propensity_time"], frame.info["propensity_1_time"]) == (4120, 0.13)
    warmer = one(glassbench(tmp_path, 0.64))
    assert {name: value for name, value in warmer.info.items() if name.endswith("time")} == {
        "propensity_time": 16.5
    }
    (bare,) = read_frames(tmp_path / "N4096T0.44_99.npz")
    assert not bare.fields


def test_a_layer_of_glassbench(tmp_path: Path) -> None:
    n = 1290
    places = np.random.default_rng(1).uniform(0, 32.8962, (n, 2))
    types = 1 + np.arange(n) % 3
    frame = one(saved(tmp_path / "N1290T0.30_1.npz", types=types, initial_positions=places))
    assert (frame.n_dimensions, frame.pbc.tolist()) == (2, [True, True, False])
    assert (frame.species_names, frame.cell[1, 1]) == (("A", "B", "C"), 32.8962)
    assert_allclose(frame.positions[:, :2], places)


def test_pyg_botan(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "isoconfig_N4096T0.64_401_tc07.npz", types=TYPES, initial_positions=START, positions=ENDS
    )
    frame = one(path)
    assert_array_equal(frame.species, TYPES)
    assert_allclose(frame.fields["propensity"], LENGTHS.mean(axis=0))
    assert_allclose(
        frame.fields["propensity_half"], np.stack([LENGTHS[:2].mean(0), LENGTHS[2:].mean(0)], axis=1)
    )
    assert frame.info == {"temperature": 0.64, "propensity_time": 16.5}


def test_reduced_form(tmp_path: Path) -> None:
    values = {
        "positions": START.astype(np.float32), "types": TYPES.astype(np.int8), "box": [EDGE] * 3,
        "propensity": LENGTHS.mean(0), "propensity_half": LENGTHS[:2], "temperature": 0.5, "runs": 4,
        "propensity_time": 3.0, "units": "lj", "energies": np.zeros(7),
    }  # fmt: skip
    frame = one(saved(tmp_path / "a.npz", **values))
    assert frame.info == {"temperature": 0.5, "runs": 4, "propensity_time": 3.0}
    assert set(frame.fields) == {"propensity", "propensity_half"}
    assert frame.fields["propensity_half"].shape == (N, 2)
    assert not frame.messages
    path = tmp_path / "a.npz"
    assert_array_equal(one(path, types={0: "Ni", 1: "P"}).species_names, ("Ni", "P"))
    path.rename(tmp_path / "a")  # the first bytes show the format
    assert one(tmp_path / "a").n_atoms == N
    packed = tmp_path / "b.npz.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    assert one(packed).n_atoms == N


def test_public_systems() -> None:
    folder = Path(os.environ.get("PHASESEG_DATA", Path(__file__).parents[3] / "shared" / "data"))
    paths = [folder / "ka3d_t044" / "config_1.npz", folder / "deepmind_t044_s09" / "system_T0.44.npz"]
    for path in paths:
        if not path.is_file():
            pytest.skip(
                f"{path.name} is not bundled; let PHASESEG_DATA name the folder with {path.parent.name}"
            )
    ours, bapst = map(one, paths)
    assert np.bincount(ours.species).tolist() == np.bincount(bapst.species).tolist() == [3277, 819]
    assert ours.n_atoms / ours.volume == pytest.approx(1.2)
    is_a = ours.species == 0
    assert 0.3 < ours.fields["propensity"][is_a].mean() < 0.8
    assert_allclose(ours.fields["propensity_half"].mean(axis=1), ours.fields["propensity"], rtol=1e-3)
    assert bapst.info["propensity_time"] == pytest.approx(5889.6)  # 1/e, the last of the ten
    assert bapst.info["propensity_1_time"] == pytest.approx(0.132)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"types": None}, "needs the arrays positions .* found box, positions"),
        ({"positions": None}, "found box, types"),
        ({"types": TYPES[:5]}, r"types \(n,\); found \(40, 3\) and \(5,\)"),
        ({"positions": START[:, :1]}, r"found \(40, 1\)"),
        ({"positions": START.astype(str)}, "positions must be numbers"),
        ({"types": TYPES + 0.5}, "types must be whole numbers"),
        ({"types": TYPES - 3}, "the file has no element names, only the types -3, -2"),
        ({"box": [1.0, 2.0]}, "box must be 3 positive lengths"),
        ({"box": [1.0, 2.0, -1]}, "box must be 3 positive lengths"),
        ({"box": None, "positions": 0.5 * START}, "the file has no cell"),
        ({"positions": np.full((N, 3), np.nan)}, "every coordinate must be a finite number"),
        ({"types": np.array([{}] * N)}, "holds objects, which are not read"),
    ],
)  # fmt: skip
def test_archives_that_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    values = {"positions": START, "types": TYPES, "box": [EDGE] * 3} | change
    path = saved(tmp_path / "bad.npz", **{name: value for name, value in values.items() if value is not None})
    with pytest.raises(InputError, match=rf"^bad.npz, frame 0: .*{said}"):
        one(path)


def test_a_missing_box_may_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", positions=0.5 * START, types=TYPES)
    assert_allclose(np.diag(one(path, cell="3,3,3").cell), 3)
    frame = one(saved(tmp_path / "b.npz", positions=START, types=TYPES), cell="4,4,4")
    assert_allclose(np.diag(frame.cell), 4)  # rather than that of the benchmark
    assert not frame.messages


def test_damaged_archives(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.npz", positions=START, types=TYPES, box=[EDGE] * 3).read_bytes()
    for data in (whole[:-30], whole[:100], whole.replace(b"(40, 3)", b"(90, 3)")):
        (tmp_path / "b.npz").write_bytes(data)
        with pytest.raises(InputError, match=r"^b.npz, frame 0: the archive cannot be read"):
            one(tmp_path / "b.npz")
    # An array that announces more than any memory.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        huge = io.BytesIO()
        np.save(huge, np.zeros(1))
        archive.writestr("positions.npy", huge.getvalue().replace(b"(1,), }", b"(99999999999,), }"))
    (tmp_path / "b.npz").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        one(tmp_path / "b.npz")


# Pickles ------------------------------------------------------------------------------------------


def bapst() -> dict[str, Any]:
    times = [[START + 0.1 * (t + 1) * (k + 1) for k in range(4)] for t in range(3)]
    return {
        "positions": START, "types": TYPES, "box": np.full(3, EDGE), "time": np.arange(20.0),
        "time_indices": np.array([2, 5, 11]), "is_values": [0.9, 0.36, 0.1],
        "trajectory_start_velocities": [START] * 4, "trajectory_target_positions": times,
        "metadata": {"temperature": 0.44, "pressure": 2.93, "fluid": "Kob-Andersen"},
    }  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_bapst(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "test_large.pickle"
    path.write_bytes(pickle.dumps(bapst(), protocol))
    frame = one(path)
    assert_allclose(frame.positions, START)
    assert_array_equal(frame.species, TYPES)
    assert_allclose(np.diag(frame.cell), EDGE)
    root = np.sqrt(3) * 0.1
    assert_allclose(frame.fields["propensity"], 2 * 2.5 * root)  # 0.36 is nearest to 1/e
    assert_allclose(frame.fields["propensity_3_half"], np.tile([3 * 1.5 * root, 3 * 3.5 * root], (N, 1)))
    assert (frame.info["temperature"], frame.info["pressure"]) == (0.44, 2.93)
    assert (frame.info["propensity_1_time"], frame.info["propensity_time"]) == (2, 5)


class Malicious:
    """Unpickling calls this function with these arguments."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    program = f"open({str(proof)!r}, 'w')"
    attacks = [
        Malicious(os.system, f"touch {proof}"),
        Malicious(eval, program),
        Malicious(exec, program),
        Malicious(Path.touch, proof),
        Malicious(open, str(proof), "w"),
    ]
    for protocol in range(6):
        for attack in attacks:
            path = tmp_path / "bad.pickle"
            path.write_bytes(pickle.dumps(bapst() | {"types": attack}, protocol))
            with pytest.raises(
                InputError, match=r"^bad.pickle, frame 0: the pickle was not read: it asks for"
            ):
                one(path)
            assert not proof.exists()
    # The attacks are real: the module pickle does execute them.
    pickle.loads(pickle.dumps(attacks[0]))
    assert proof.exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "it asks for os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "it asks for __builtin__.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "it asks for numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.names\x93.", "it asks for numpy.dtype.names"),
        (b"(S'true'\nios\nsystem\n.", "the instruction INST"),
        (b"(cos\nsystem\nS'x'\no.", "it asks for os.system"),
        (b"cnumpy\nndarray\n)\x81.", "the instruction NEWOBJ"),
        (b"Pmine\n.", "the instruction PERSID"),
        (b"\x82\x01.", "the instruction EXT1"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "an array of the type 'O8'"),
        (b"cnumpy\ndtype\n(S'V9999999999'\ntR.", "an array of the type"),
        (b"cnumpy\ndtype\n}b.", "it changes an object that is no array"),
        (b"}}b.", "it changes an object"),
        (b"cnumpy\nndarray\n.", "it holds no data"),
        (b"S'x'\n)R.", "it calls what is no function"),
        (b"ccodecs\nencode\n(S'x'\nS'hex'\ntR.", "asks for codecs.encode"),
        (b"c_codecs\nencode\n(S'x'\nS'hex'\ntR.", "unusual arguments"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(tR.", "an array has no values"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I9\ntcnumpy\ndtype\n(S'f8'\ntRI00\nS'x'\ntb.",
         "not as many numbers"),
        (b"(lp0\ng5\n.", "damaged"),
        (b"}(]I1\nu.", "a key of a dictionary"),
        (b"N", "damaged"), (b"", "damaged"), (b".", "damaged"), (b"(.", "damaged"), (b"\xff.", "damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.", "damaged"),
    ],
)  # fmt: skip
def test_pickles_that_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(PickleError, match=said):
        plain_objects(data)


def test_a_memo_of_four_billion_places_takes_no_memory() -> None:
    assert plain_objects(b"Nr\xff\xff\xff\xff.") is None


def test_plain_objects_are_those_of_pickle() -> None:
    values = {
        "list": [1, -5, 2**70, 1.5, True, None, "ä", b"\xff", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "empty": {}, "bytes": b"", 3: "three", "nested": {"a": [[{}]]}, "same": [[]] * 3,
    }  # fmt: skip
    arrays = [
        np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 3), ">f4"),
        np.array(2.5), np.array([True, False]), np.arange(9, dtype=np.uint16)[::2],
        np.float32(1.5), np.int8(-3),
    ]  # fmt: skip
    for protocol in range(6):
        assert plain_objects(pickle.dumps(values, protocol)) == values
        for array in arrays:
            found = plain_objects(pickle.dumps(array, protocol))
            assert_array_equal(found, array)
            assert found.dtype == array.dtype


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trajectory_target_positions": [START]}, "do not belong to the positions, time and time_indices"),
        ({"trajectory_target_positions": 3}, "do not belong"),
        ({"time_indices": [2, 5]}, "do not belong"),
        ({"time_indices": [2, 5, 99]}, "do not belong"),
        ({"time": "soon"}, "do not belong"),
        ({"types": [[0], [1, 2]]}, "needs the arrays positions"),
    ],
)
def test_configurations_in_pickles_that_are_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(bapst() | change))
    with pytest.raises(InputError, match=rf"^bad.pkl, frame 0: .*{said}"):
        one(path)


def test_a_pickle_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "bad.pickle"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="the pickle holds a list, but a configuration is a dictionary"):
        one(path)
