"""Compiled parsers of columns against Python's own split and float, and the bytes they are given."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from io_samples import assert_same, data_text, dump_text, make_frame
from naive.columns import fixed, parse
from phaseseg import threads
from phaseseg.io import InputError, packing, read_frames, source, write_frames
from phaseseg.io.columns import parse_columns
from phaseseg.io.fixed_width import coordinates, keys, letters, words
from phaseseg.io.large_text import LargeText
from phaseseg.io.names import runs
from phaseseg.io.reading import new_reading
from phaseseg.io.source import ByteSource, number_of_ends
from phaseseg.testing.conformance import parts_of_at_most

quick = settings(max_examples=60, deadline=None)

READING = new_reading(None, None, "metal", None, True, None)
BLANKS = st.sampled_from([" ", "  ", "\t", " \t "])


@st.composite
def numbers(draw):
    """A number in one of the forms that programs write."""
    size = st.floats(1e-200, 1e200)  # what is nearer to zero than 1e-290 is read as zero
    value = draw(st.sampled_from([-1, 1])) * draw(size | st.floats(0, 1000, allow_subnormal=False).map(abs))
    value = value if abs(value) > 1e-200 else 0.0
    form = draw(
        st.sampled_from(["{!r}", "{:.8f}", "{:g}", "{:.3e}", "{:+.4f}", "{:.25g}", "{:.0f}", "{:.12E}"])
    )
    text = form.format(value)
    return draw(
        st.sampled_from([text, text.replace("e", "d"), "nan", "-inf", "0", "-0.0", ".5", "5.", "007", "1e-3"])
    )


def of(body, kinds):
    titles = [f"c{k}" for k in range(len(kinds))]
    real = [k for k, kind in enumerate(kinds) if kind == "r"]
    texts = [k for k, kind in enumerate(kinds) if kind == "s"]
    parsed = parse_columns(
        READING, body, body.count(b"\n") + (not body.endswith(b"\n")), titles, 1, positions=real[:3],
        integers={titles[k]: k for k, kind in enumerate(kinds) if kind == "i"},
        text=texts[0] if texts else None, fields={titles[k]: [k] for k in real[3:]},
        words={titles[k]: k for k in texts[1:]},
    )  # fmt: skip
    columns = iter([*parsed.positions.T, *parsed.fields.values()])
    integers, categories = iter(parsed.integers.values()), iter(parsed.words.values())
    found = []
    for k, kind in enumerate(kinds):
        if kind == "r":
            found.append(next(columns))
        elif kind == "i":
            found.append(next(integers))
        elif kind == "s":
            codes, names = (parsed.codes, parsed.names) if k == texts[0] else next(categories)
            found.append(np.array(names)[codes])
    return found


@pytest.mark.slow
@quick
@given(st.data(), st.permutations("rrrrisi-s"), st.integers(1, 6))
def test_columns_agree_with_python(data, kinds, n_rows):
    cells = {
        "r": numbers(),
        "i": st.integers(-(10**17), 10**17).map(str),
        "s": st.sampled_from(["Fe", "O", "Mg2+", "a" * 64, "é"]),
        "-": st.sampled_from(["x", "1.5", "{}"]),
    }
    lines = []
    for _ in range(n_rows):
        words_of_line = [data.draw(cells[kind]) for kind in kinds]
        blank = data.draw(BLANKS)
        lines.append(
            data.draw(st.sampled_from(["", " "]))
            + blank.join(words_of_line)
            + data.draw(st.sampled_from(["", " ", "\r"]))
        )
    body = ("\n".join(lines) + data.draw(st.sampled_from(["", "\n"]))).encode()
    for one, other in zip(of(body, kinds), parse(body, kinds), strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=2e-15, atol=0)
        else:
            np.testing.assert_array_equal(one, other)


NAMES = st.sampled_from(["Fe", "O", "Mg", "Si", "H2", "é"])
SPOILED = {
    "nothing": lambda line: line, "a word": lambda line: line.replace(b".", b"x", 1),
    "a column": lambda line: line[3:], "one more": lambda line: line + b" 1", "blank": lambda line: b"",
    "a long name": lambda line: b"a" * 70 + line,
}  # fmt: skip


@quick
@given(
    st.lists(st.tuples(NAMES, st.floats(-99, 99), st.integers(0, 999), NAMES), min_size=1, max_size=40),
    st.sampled_from([*SPOILED]), st.integers(0, 39), st.integers(-1, 1), st.booleans(),
)  # fmt: skip
def test_threads_parse_what_one_thread_parses(rows, damage, place, surplus, end):
    """Values, numbers of names and complaints do not depend on the number of threads."""
    lines = [f"{a} {x:.4f} {x:.2f} {x:.3e} {n} {b}".encode() for a, x, n, b in rows]
    lines[place % len(lines)] = SPOILED[damage](lines[place % len(lines)])
    body = b"\n".join(lines) + b"\n" * end

    def found(n):
        try:
            with threads(n):
                parsed = parse_columns(
                    READING, body, len(rows) + surplus, list("axyznb"), 1, positions=[1, 2, 3],
                    integers={"n": 4}, text=0, words={"b": 5},
                )  # fmt: skip
        except InputError as error:
            return str(error)
        arrays = [parsed.positions, *parsed.integers.values(), parsed.codes]
        other = [(list(c.codes), c.names) for c in parsed.words.values()]
        return [array.tolist() for array in arrays], parsed.names, other

    expected = found(1)
    with parts_of_at_most(16):
        for n in (2, 3, 8):
            assert found(n) == expected


@pytest.mark.parametrize("n_names", [1, 255, 256, 257])
def test_threads_number_names_in_the_order_of_the_lines(n_names):
    rng = np.random.default_rng(n_names)
    order = np.concatenate([rng.permutation(n_names), rng.integers(0, n_names, 2000)])
    body = b"".join(b"x%d 0 0 0\n" % k for k in order)

    def found(n):
        with threads(n):
            parsed = parse_columns(READING, body, len(order), list("sxyz"), 1, positions=[1, 2, 3], text=0)
            return parsed.codes.tolist(), parsed.names

    with parts_of_at_most(100):
        if n_names > 256:
            for n in (1, 3):
                with pytest.raises(InputError, match="more than 256 different names"):
                    found(n)
            return
        assert found(1) == found(3) == found(8)
        codes, names = found(3)
        assert [names[code] for code in codes] == [f"x{k}" for k in order]


@quick
@given(st.lists(st.tuples(*3 * [st.decimals(-(10**6), 10**6, places=8)]), min_size=1, max_size=30))
def test_numbers_of_up_to_15_digits_are_exact(rows):
    body = "".join(f"{x} {y} {z}\n" for x, y, z in rows).encode()
    np.testing.assert_array_equal(
        np.transpose(of(body, "rrr")), [[float(cell) for cell in row] for row in rows]
    )


@pytest.mark.parametrize(
    "word", ["1.5x", "x", "1e", "1e+", "--1", "1.2.3", ".", "-", "+", "e5", "na", "0x10", "1,5"]
)
@pytest.mark.parametrize("last", [False, True])
def test_what_is_no_number(word, last):
    body = f"1 2 {word}\n" if last else f"1 {word} 2\n"
    with pytest.raises(InputError, match=r"column c[12] is .*, not a number"):
        of(body.encode(), "rrr")


RESIDUES, NAMES = st.sampled_from(["SOL", "WATER", "x"]), st.sampled_from(["OW", "HW1", "CA"])
ROWS = st.lists(st.tuples(st.integers(0, 99999), RESIDUES, NAMES, *3 * [st.floats(-9.5, 99)]), max_size=20)


@quick
@given(ROWS, st.sampled_from([(8, 3), (10, 5), (7, 2)]))
def test_columns_of_fixed_width_agree_with_python(rows, form):
    width, digits = form
    body = "".join(
        f"{n:5d}{residue:<5}{name:>5}{k % 100000:5d}{''.join(f'{v:{width}.{digits}f}' for v in values)}\n"
        for k, (n, residue, name, *values) in enumerate(rows)
    ).encode()
    found = letters(body, len(rows), 20 + 3 * width)
    for start in (5, 10):
        codes, names = words(found[:, start : start + 5])
        np.testing.assert_array_equal(np.array([*names, ""], object)[codes], fixed(body, start, 5, 1)[:, 0])
    np.testing.assert_array_equal(
        coordinates(READING, found[:, 20:], width, 21, range(1, len(rows) + 1)),
        fixed(body, 20, width, 3).astype(float),
    )
    of_both = runs(keys(found[:, :5]), keys(found[:, 5:10]))
    np.testing.assert_array_equal(of_both, runs(found[:, :10]))


@pytest.mark.parametrize("word", ["1.0e1", "   nan", "  1.2.3", "1 2    ", "     -  ", "1234567890123456789"])
def test_coordinates_of_fixed_width_in_unusual_forms(word):
    rows = np.frombuffer(f"{word:>20}{'1.5':>20}{'-2':>20}".encode(), np.uint8).reshape(1, 60)
    try:
        expected = float(word)
    except ValueError:
        with pytest.raises(InputError, match="coordinate x"):
            coordinates(READING, rows, 20, 21, [1])
    else:
        np.testing.assert_array_equal(coordinates(READING, rows, 20, 21, [1]), [[expected, 1.5, -2.0]])


# ------------------------------------------------------------------------------------------- bytes


@quick
@given(
    st.lists(st.sampled_from([b"a", b"\n", b"ITEM:", b"IT", b":", b"END", b"E"]), max_size=40),
    st.integers(1, 9),
    st.data(),
)
def test_lines_blocks_and_markers(tmp_path_factory, pieces, chunk, data):
    content = b"".join(pieces)
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(content)
    before = packing._CHUNK, source._CHUNK, source.LARGE
    packing._CHUNK, source._CHUNK = chunk, data.draw(st.sampled_from([1, 5, before[1]]))
    source.LARGE = data.draw(st.sampled_from([0, 7, before[2]]))
    try:
        read, rest = ByteSource(path), content
        while rest:
            what = data.draw(st.sampled_from(["line", "block", "ITEM:", "END"]))
            if what == "line":
                line, _, rest = rest.partition(b"\n")
                assert read.line() == line.decode()
            elif what == "block":
                n = data.draw(st.integers(1, 4))
                lines = rest.split(b"\n")
                expected = b"\n".join(lines[:n]) + (b"\n" if len(lines) > n else b"")
                assert bytes(read.block(n)) == expected
                rest = rest[len(expected) :]
            else:
                at = rest.find(what.encode())
                expected = rest[: at if at >= 0 else len(rest)]
                assert bytes(read.until(what.encode())) == expected
                rest = rest[len(expected) :]
                if not expected:
                    break
            done = content[: len(content) - len(rest)]
            if not rest or done.endswith(b"\n"):
                assert read.line_number == number_of_ends(done) + (not done.endswith(b"\n"))
    finally:
        packing._CHUNK, source._CHUNK, source.LARGE = before


@pytest.mark.parametrize("large", [0, source.LARGE])
@pytest.mark.parametrize("damage", ["none", "a word", "cut"])
def test_frames_larger_than_what_is_read_at_once(tmp_path, monkeypatch, damage, large):
    monkeypatch.setattr(source, "LARGE", large)
    frames = [make_frame(seed, 9000) for seed in range(3)]
    texts = [dump_text(frame, ["id", "element", "x", "y", "z"], "pp pp ff") for frame in frames]
    assert len(texts[0]) > packing._CHUNK
    if damage == "a word":
        lines = texts[1].split("\n")
        lines[5000] = lines[5000].replace(".", ",", 1)
        texts[1] = "\n".join(lines)
    path = tmp_path / "run.dump"
    path.write_text("".join(texts) if damage != "cut" else ("".join(texts))[: -len(texts[2]) // 2])
    read = []
    try:
        for frame in read_frames(path):
            read += [frame]
    except InputError as error:
        line = texts[0].count("\n") + 5001
        said = {
            "a word": rf"frame 1, line {line}: column \w+ is '.*,.*', not a number",
            "cut": "frame 2.*(ends after|has 4 columns)",
        }
        assert re.search(said[damage], str(error))
    assert len(read) == {"none": 3, "a word": 1, "cut": 2}[damage]
    for one, other in zip(read, frames, strict=False):
        assert_same(one, other)


@pytest.mark.parametrize("name", ["run.xyz", "run.dump.gz", "run.gro", "XDATCAR", "melt.data"])
def test_large_texts_lie_in_memory_of_the_pool(tmp_path, monkeypatch, name):
    frame, path = make_frame(3, 9000, pbc=(True, True, True)), tmp_path / name
    positions = frame.positions - frame.origin
    if name == "XDATCAR":
        rows = "\n".join(" ".join(f"{x:.12f}" for x in row) for row in positions @ np.linalg.inv(frame.cell))
        cell = "\n".join(" ".join(map(repr, row)) for row in frame.cell.tolist())
        path.write_text(f"x\n1\n{cell}\nFe\n9000\nDirect configuration= 1\n{rows}\n")
    elif name == "run.gro":
        rows = [
            f"{k % 99999:5d}Fe   {'Fe':>5}{k % 99999:5d}" + "".join(f"{x / 10:12.6f}" for x in row)
            for k, row in enumerate(positions)
        ]
        path.write_text("\n".join(["x", "9000", *rows, "9 9 9"]) + "\n")
    elif name == "melt.data":
        path.write_text(data_text(frame.replace(origin=np.zeros(3), positions=positions)))
    else:
        write_frames(path, [frame])
    [usual] = read_frames(path)
    made = []

    class Noted(LargeText):
        def __init__(self, *of):
            super().__init__(*of)
            made.append(self)

    monkeypatch.setattr(source, "LARGE", 0)
    monkeypatch.setattr(source, "LargeText", Noted)
    [large] = read_frames(path)
    assert_same(large, usual)
    assert all(len(text) for text in made) and (made or name.endswith(".gz"))
