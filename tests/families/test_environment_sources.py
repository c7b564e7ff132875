"""Descriptors that come with the data: arrays, files, dscribe; what cannot be matched to atoms is refused."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from environment_samples import crystal, run_of_crystals
from phaseseg import load_model, predict, predict_frames, read_frames, write_frames
from phaseseg.checkpoint import load_checkpoint, save_checkpoint
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.learn import fit_environments
from phaseseg.families.environments.sources import (
    ArrayRows,
    FileRows,
    attach,
    dscribe_rows,
    families_of,
    read_rows,
)
from phaseseg.testing import assert_same

LEARNS = "environments/mixture-v1"
OPTIONS = {"method": "kmeans", "n_clusters": 3}
SOAP = PowerSpectrum(("W",))


@pytest.fixture(scope="module")
def frames():
    return run_of_crystals()[0]


@pytest.fixture(scope="module")
def rows(frames):
    return np.concatenate([SOAP(frame) for frame in frames])


@pytest.fixture(scope="module")
def expected(frames):
    return [f["environment"] for f in predict_frames(frames, LEARNS, **OPTIONS)]


def labels_of(frames, descriptor):
    return [f["environment"] for f in predict_frames(frames, LEARNS, descriptor=descriptor, **OPTIONS)]


def assert_all_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


# Arrays -------------------------------------------------------------------------------------------


def test_the_same_descriptors_as_an_array(frames, rows, expected):
    with_rows = attach(frames, rows, "soap")
    assert_all_equal(labels_of(with_rows, "array:soap"), expected)
    columns = [
        frame.replace(fields={f"c_sna[{k + 1}]": frame.fields["soap"][:, k] for k in reversed(range(50))})
        for frame in with_rows
    ]
    assert_array_equal(ArrayRows("c_sna")(columns[0]), rows[: len(frames[0])])
    assert_all_equal(labels_of(columns, "array:c_sna"), expected)
    assert families_of(columns[0].fields) == ["c_sna"]


def test_an_array_in_a_file(frames, rows, expected, tmp_path):
    """Extended XYZ keeps arrays of many columns, LAMMPS dumps one column for each feature."""
    write_frames(tmp_path / "run.xyz", [(frame, {}) for frame in attach(frames, rows, "soap")])
    read = list(read_frames(tmp_path / "run.xyz", fields=True))
    assert_all_equal(labels_of(read, "array:soap"), expected)
    names = " ".join(f"c_sna[{k + 1}]" for k in range(50))
    with (tmp_path / "run.dump").open("w", encoding="utf-8") as file:
        for step, frame in enumerate(attach(frames, rows, "soap")):
            edges = "\n".join(f"0 {edge:.17g}" for edge in np.diag(frame.cell))
            file.write(f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(frame)}\n")
            file.write(f"ITEM: BOX BOUNDS pp pp pp\n{edges}\nITEM: ATOMS id type x y z {names}\n")
            for k, (place, row) in enumerate(zip(frame.positions, frame.fields["soap"], strict=True)):
                numbers = " ".join(f"{value:.17g}" for value in [*place, *row])
                file.write(f"{k + 1} 1 {numbers}\n")
    read = list(read_frames(tmp_path / "run.dump", types="W", fields=True))
    assert_all_equal(labels_of(read, "array:c_sna"), expected)


def test_a_fit_on_an_array_is_a_checkpoint(frames, rows, tmp_path):
    with_rows = attach(frames, rows, "soap")
    path = tmp_path / "mine.safetensors"
    save_checkpoint(fit_environments(with_rows, descriptor="array:soap", **OPTIONS), path)
    model = load_model(path)
    assert model.halo == 0 and model.rule().descriptor == "array:soap" and model.rule().reads_fields
    assert load_checkpoint(path).config["descriptor"] == {"kind": "array", "name": "soap"}
    fields = predict(with_rows[0], path)
    assert_same(predict(attach(frames, rows, "other")[0], path, descriptor="array:other"), fields)
    np.save(tmp_path / "rows.npy", rows[: len(frames[0])])
    assert_same(predict(frames[0], path, descriptor=f"file:{tmp_path / 'rows.npy'}"), fields)
    with pytest.raises(ValueError, match="fitted with descriptor array:soap, found power-spectrum"):
        predict(frames[0], path, descriptor="power-spectrum")
    with pytest.raises(
        ValueError, match=r"run\.xyz, frame 0: the descriptor has 49 features, .* fitted on 50"
    ):
        predict(attach(frames, rows[:, :49], "soap")[0], path)


def test_one_number_per_atom_is_a_descriptor():
    frame = crystal("bcc").replace(fields={"height": np.repeat([0.0, 5.0], 27)})
    found = fit_environments([frame], method="kmeans", n_clusters=2, descriptor="array:height")
    assert_array_equal(predict(frame, found)["environment"], np.repeat([0, 1], 27))


# Files --------------------------------------------------------------------------------------------


def chemiscope(frames, rows, *, name="SOAP", cutoffs=(5.0,), columns=False):
    structures = [{"size": len(frame), "names": ["W"] * len(frame)} for frame in frames]
    centers = [(s, c) for s, frame in enumerate(frames) for c in range(len(frame))]
    environments = [
        {"structure": s, "center": c, "cutoff": cutoffs[k % len(cutoffs)]} for k, (s, c) in enumerate(centers)
    ]
    properties = {"energy": {"target": "structure", "values": [0.0] * len(frames)}}
    if columns:
        for k, column in enumerate(rows.T):
            properties[f"{name}[{k + 1}]"] = {"target": "atom", "values": column.tolist()}
    else:
        properties[name] = {"target": "atom", "values": rows.tolist()}
    properties["kind"] = {"target": "atom", "values": ["x"] * len(rows)}
    properties["height"] = {"target": "atom", "values": [1.0] * len(rows)}
    return {"meta": {}, "structures": structures, "environments": environments, "properties": properties}


@pytest.mark.slow
def test_files_give_the_same_as_the_array(frames, rows, expected, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    names = ["frame", "Atom", *(f"f{k}" for k in range(50)), "element"]
    lines = [",".join(names)]
    lines += [f"0,{k},{','.join(f'{x:.17g}' for x in row)},W" for k, row in enumerate(rows)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "map.json").write_text(json.dumps(chemiscope(frames, rows)), "utf-8")
    with gzip.open(tmp_path / "map.json.gz", "wt", encoding="utf-8") as file:
        json.dump(chemiscope(frames, rows, columns=True), file)
    for name in ("rows.npy", "rows.csv", "map.json", "map.json#SOAP", "map.json.gz"):
        assert_array_equal(read_rows(tmp_path / name), rows, err_msg=name)
        assert_all_equal(labels_of(frames, f"file:{tmp_path / name}"), expected)


def test_a_table_of_fitsnap(tmp_path):
    """Features are the numbered columns; rows of forces and stress hold derivatives and are left out."""
    rows = np.arange(6.0).reshape(3, 2)
    path, head = tmp_path / "fitsnap.csv", ",0,1,truths,preds,weights,Groups,Configs,Row_Type,Atom_I,Testing"
    lines = [head]
    for k, (a, b) in enumerate(rows):
        lines.append(f"{3 * k},{a},{b},-0.5,-0.4,100.0,Liquid,a.json,Energy,{k},False")
        lines.append(f"{3 * k + 1},9.0,8.0,0.1,0.2,1.0,Liquid,a.json,Force,{k},False")
        lines.append(f"{3 * k + 2},7.0,6.0,0.1,0.2,1.0,Liquid,a.json,Stress,0,False")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    assert_array_equal(read_rows(path), rows)
    lines = ["Configs,Groups,0,1,truths_fx,preds_fx", "a,Liquid,0,1,5,6", "a,Liquid,2,3,5,6"]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    assert_array_equal(read_rows(path), rows[:2])
    path.write_text(f"{head}\n0,1,2,0,0,1,Liquid,a.json,Force,0,False\n", "utf-8")
    with pytest.raises(ValueError, match=r"fitsnap\.csv: no row has the Row_Type Energy"):
        read_rows(path)


def test_a_frame_finds_its_rows(frames, rows, tmp_path):
    path = str(tmp_path / "rows.npy")
    np.save(path, rows)
    file = FileRows(path).begin(frames)
    first = 0
    for frame in frames:
        assert_array_equal(file(frame), rows[first : first + len(frame)])
        first += len(frame)
    with pytest.raises(ValueError, match="it is not known which are those of the 64 atoms"):
        FileRows(path)(frames[0])
    same = [frames[0], frames[0].replace(index=1)]
    np.save(path, rows[:128].reshape(2, 64, 50))
    assert_array_equal(FileRows(path)(same[1]), rows[64:128])
    np.save(path, rows[:64])
    assert_array_equal(FileRows(path)(frames[3]), rows[:64])
    with pytest.raises(ValueError, match=r"several frames have the name 'run\.xyz, frame 0' and number 0"):
        np.save(path, rows[:128])
        FileRows(path).begin([frames[0], frames[0]])
    with pytest.raises(ValueError, match="the file has 128 rows, but there are 428 atoms in 7 frames"):
        FileRows(path).begin(frames)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"no array", r"x\.npy: this is no array of numbers"),
        ("x.txt", b"1 2 3", r"descriptors are read from \.npy, \.csv, \.json"),
        ("x.csv", b"a,b\n", "a line of names and one line per atom are needed, found 1 lines"),
        ("x.csv", b"a,b\n1,2\n3\n", r"x\.csv, line 3: there are 1 values for 2 names"),
        ("x.csv", b"id,b\n1,2\n3,much\n", r"x\.csv, line 3: b is 'much', which is no number"),
        ("x.json", b"{", "no chemiscope file"),
        ("x.json", b"[]", "no chemiscope file"),
        ("x.json", b'{"properties": {"a": 3}}', "no chemiscope file"),
    ],
)
def test_files_that_cannot_be_read(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / name)


def test_files_of_other_content(frames, rows, tmp_path):
    with pytest.raises(ValueError, match=r"none\.npy: the file cannot be read \(No such file"):
        read_rows(tmp_path / "none.npy")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="no array of numbers"):
        read_rows(tmp_path / "o.npy")
    np.save(tmp_path / "flat.npy", np.zeros(7))
    with pytest.raises(ValueError, match="one row of numbers per atom is needed, found float64"):
        read_rows(tmp_path / "flat.npy")

    def refused(content, message, chosen=""):
        (tmp_path / "map.json").write_text(json.dumps(content), "utf-8")
        with pytest.raises(ValueError, match=message):
            read_rows(f"{tmp_path / 'map.json'}{chosen}")

    content = chemiscope(frames, rows)
    refused(chemiscope(frames, rows, cutoffs=(5.0, 6.0)), "have the cutoffs 5, 6 Å; descriptors can be")
    refused(chemiscope(frames, rows[:-1]), "has 427 environments of 428 atoms")
    swapped = [content["environments"][k] for k in (1, 0, *range(2, 428))]
    refused({**content, "environments": swapped}, "one per atom is needed, in the order")
    refused({**content, "structures": [{}]}, "are damaged")
    refused(content, "no array 'PCA'; the numeric arrays are SOAP, height", "#PCA")
    refused({**content, "properties": {"kind": content["properties"]["kind"]}}, "none of the properties")
    both = {**content["properties"], "PCA": content["properties"]["SOAP"]}
    refused({**content, "properties": both}, r"2 of the properties .*choose one as file:map\.json#NAME")


# Rows that do not fit the frames ------------------------------------------------------------------


def test_rows_that_do_not_fit(frames, rows):
    with pytest.raises(ValueError, match="there are 427 descriptors for the 428 atoms"):
        attach(frames, rows[1:])
    with pytest.raises(ValueError, match="one row per atom, found an array of shape"):
        attach(frames, rows[:, 0])
    frame = frames[0]
    with pytest.raises(ValueError, match=r"frame 0: the array x has 9 rows for 64 atoms"):
        ArrayRows("x")(frame.replace(fields={"x": np.zeros((9, 2))}))
    with pytest.raises(ValueError, match=r"frame 0: the descriptor x of atom 8 is not finite; compute it"):
        ArrayRows("x")(frame.replace(fields={"x": np.where(np.arange(64) == 7, np.nan, 1.0)}))
    with pytest.raises(ValueError, match="an array x of shape"):
        ArrayRows("x")(frame.replace(fields={"x": np.zeros((64, 2, 2))}))
    with pytest.raises(ValueError, match="the descriptor x has no features"):
        ArrayRows("x")(frame.replace(fields={"x": np.zeros((64, 0))}))
    gaps = {f"x[{k}]": np.zeros(64) for k in (1, 2, 4)}
    with pytest.raises(ValueError, match=r"3 columns x\[\.\.\.\], but x\[3\] is missing"):
        ArrayRows("x")(frame.replace(fields=gaps))
    with pytest.raises(ValueError, match=r"but x\[1\] is missing"):
        ArrayRows("x")(frame.replace(fields={"x[2]": np.zeros(64)}))
    # A descriptor of another cutoff, or other settings, may have another number of features.
    mixed = attach(frames[:1], rows[:64], "x") + attach(frames[1:2], rows[64:118, :30], "x")
    with pytest.raises(ValueError, match="has 30 features here and 50 in the frames before; use one"):
        fit_environments(mixed, descriptor="array:x")


class Heights:
    """Stands for a descriptor of dscribe: `create(atoms)` returns one row per atom."""

    def create(self, atoms):
        return np.stack([atoms.positions[:, 2], atoms.numbers], axis=1)


def test_descriptors_of_dscribe(frames):
    found = dscribe_rows(Heights(), frames[:2])
    assert_array_equal(found[:, 0], np.concatenate([frame.positions[:, 2] for frame in frames[:2]]))
    assert (found[:, 1] == 74).all()
    Heights.create = lambda self, atoms: np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"frame 0: the descriptor has the shape \(3, 3\) for 64 atoms"):
        dscribe_rows(Heights(), frames[:1])


def test_dscribe_itself(frames):
    """Power spectra of dscribe tell the same crystals apart."""
    descriptors = pytest.importorskip("dscribe.descriptors", reason="dscribe is not installed")
    soap = descriptors.SOAP(species=["W"], r_cut=5.0, n_max=4, l_max=4, periodic=True)
    labels = labels_of(attach(frames, dscribe_rows(soap, frames)), "array:descriptor")
    assert [np.unique(one).tolist() for one in labels] == [[0], [2], [1], [0], [2], [1], [0]]
