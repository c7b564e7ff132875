"""The conformance suite: what the contract demands of every family and of every model.

A check takes a model and frames that it accepts, and raises AssertionError. It returns None, or the
reason for which it does not apply to the model. In a test:

    @pytest.mark.parametrize("check", CONFORMANCE)
    def test_conformance(check):
        if reason := CONFORMANCE[check](model, [frame]):
            pytest.skip(reason)
"""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np

from phaseseg.api import load_model, predict, predict_frames, predictor, prepare
from phaseseg.checkpoint import load_checkpoint, save_checkpoint
from phaseseg.compiled import threads as threads_module
from phaseseg.families import FAMILIES, Family, Fitted, Model, Option, Part, load
from phaseseg.fields import Bonds, Fields, Grid, Message, Table
from phaseseg.frame import Frame, Units
from phaseseg.large.cut import slabs
from phaseseg.specs import FIELD_SPECS, FieldSpec
from phaseseg.testing.frames import (
    awkward_like,
    permuted,
    repeated,
    rotated,
    translated,
    wrapped_elsewhere,
)
from phaseseg.testing.tolerances import EXACT, ROUNDING

SYMMETRIES = frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"})

NETWORK = 10.0
"""Factor on ROUNDING for outputs of networks: layers, tanh and exp enlarge what sums lose."""


# ------------------------------------------------------------------------------------------- fields


def check_fields(frame: Frame, fields: Fields) -> None:
    """Assert what holds for the result of any analysis of a frame, and what its family adds to that.

    Names are registered; values have the level, shape and type of their names; numbers of the frame are
    plain; messages have codes. Then the `check` of the families that give such fields is called.

    Raises
    ------
    AssertionError
    """
    for name, value in fields.items():
        spec = FIELD_SPECS[name]
        if spec.level == "atom":
            _check_atoms(spec, value, frame.n_atoms)
        elif spec.level == "frame":
            plain = (int,) if spec.kind in ("count", "flag", "class") else (int, float)
            assert type(value) in plain, f"{name} is {type(value)}"
        elif spec.level == "bond":
            _check_bonds(name, value, frame.n_atoms)
        elif spec.level == "grid":
            assert isinstance(value, Grid) and value.values.dtype == np.float32, f"{name}: no float32 Grid"
            assert value.values.ndim == 3 and np.isfinite(value.values).all(), f"{name}: values"
        else:
            assert isinstance(value, Table), f"{name} is {type(value)}"
            assert len(set(map(len, value.columns.values()))) <= 1, f"{name}: lengths of columns"
    for message in fields.messages:
        assert isinstance(message, Message) and message.strip(), f"{message!r} is no message"
        assert message.code and not any(c.isdigit() for c in message.code), f"the code is {message.code!r}"
    for family in FAMILIES.values():
        if family.check and set(fields) <= {spec.name for spec in family.fields}:
            load(family.check)(frame, fields)


def _check_atoms(spec: FieldSpec, value: Any, n_atoms: int) -> None:
    name, columns = spec.name, 2 if spec.kind == "probability" else 1
    assert isinstance(value, np.ndarray), f"{name} is {type(value)}"
    assert value.ndim == columns and len(value) == n_atoms, f"{name} has the shape {value.shape}"
    dtypes = {"class": ("int8",), "flag": ("int8", "bool"), "count": ("int32", "int64")}
    assert value.dtype in dtypes.get(spec.kind, ("float32", "float64")), f"{name} is {value.dtype}"
    assert value.flags.c_contiguous and value.flags.writeable, f"{name} is not contiguous or read-only"
    if spec.kind in ("class", "flag"):
        known = [entry.id for entry in spec.classes] if spec.kind == "class" else [0, 1]
        assert np.isin(value, known).all(), f"{name} has values other than {known}"
    elif spec.kind == "probability":
        assert value.shape[1] <= max(len(spec.classes), 2), f"{name} has {value.shape[1]} columns"
        assert (value >= 0).all(), f"{name} has negative values"
        assert np.allclose(value.sum(axis=1), 1, atol=1e-6), f"{name} does not add up to 1"


def _check_bonds(name: str, bonds: Any, n_atoms: int) -> None:
    assert isinstance(bonds, Bonds), f"{name} is {type(bonds)}"
    n = len(bonds)
    assert bonds.atoms.shape == (n, 2) and bonds.shifts.shape == (n, 3), f"{name}: shapes"
    assert all(len(values) == n for values in bonds.columns.values()), f"{name}: lengths of columns"
    assert (bonds.atoms[:, 0] <= bonds.atoms[:, 1]).all(), f"{name}: j < i"
    assert ((bonds.atoms >= 0) & (bonds.atoms < n_atoms)).all(), f"{name}: no such atom"
    rows = np.concatenate([bonds.atoms, bonds.shifts], axis=1)
    assert len(np.unique(rows, axis=0)) == n, f"{name} has a pair twice"


def assert_same(found: Any, expected: Any, where: str = "result") -> None:
    """Assert that two results are the same, bit for bit, messages included."""
    if dataclasses.is_dataclass(expected):
        assert type(found) is type(expected), where
        names = [entry.name for entry in dataclasses.fields(expected)]
        found, expected = ({name: getattr(one, name) for name in names} for one in (found, expected))
    if isinstance(expected, Mapping):
        assert list(found) == list(expected), f"{where}: {list(found)} and {list(expected)}"
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}.{key}")
        if isinstance(expected, Fields):
            one, other = ([(text, text.code) for text in fields.messages] for fields in (found, expected))
            assert one == other
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, f"{where}: {found.dtype} and {expected.dtype}"
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        same = found == expected or (found != found and expected != expected)
        assert type(found) is type(expected) and same, f"{where}: {found!r} and {expected!r}"


def _close(network: Model, found: Fields, expected: Fields, what: str, rows: Any = slice(None)) -> None:
    """Assert that the fields that symmetries leave as they are agree within the rounding of a network.

    rows : of the atoms, that of each atom of `found` in `expected`
    """
    family = _family(network)
    for spec in family.fields:
        usual = spec.level == "atom" and spec.kind in ("scalar", "probability")
        if spec.name not in expected or not (spec.name in family.invariant if family.invariant else usual):
            continue
        one, other = np.asarray(found[spec.name]), np.asarray(expected[spec.name])
        if spec.level == "atom":
            other = other[rows]
        assert one.shape == other.shape, f"{spec.name} after {what}: {one.shape} and {other.shape}"
        if other.dtype.kind in "ib":
            tolerance = EXACT
        else:
            # A plain number was computed from arrays of float32; small probabilities are powers of e.
            scale = max(float(np.nanmax(np.abs(other), initial=0.0)), 0.01)
            tolerance = NETWORK * ROUNDING["float32" if other.ndim == 0 else str(other.dtype)] * scale
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=f"{spec.name} after {what}")


# ----------------------------------------------------------------------------------------- the model


def _check_sentence(error: Exception, what: str, *words: str, start: str = "") -> None:
    """A refusal is one line with these words, begins with `start` and ends with a full stop."""
    text = str(error)
    assert "\n" not in text and text.endswith(".") and 15 < len(text) < 500, f"{what}: no sentence: {text!r}"
    assert text.startswith(start), f"where? {text}"
    missing = [word for word in words if word not in text]
    assert not missing, f"the sentence does not name {', '.join(missing)}: {text}"


@contextmanager
def _refused(what: str, *words: str, start: str = "", kind: type[Exception] = ValueError) -> Iterator[None]:
    try:
        yield
    except kind as error:
        _check_sentence(error, what, *words, start=start)
    else:
        raise AssertionError(f"{what} was taken")


def _ready(model: Any, frames: Sequence[Frame]) -> Model:
    """The model, after it has seen the frames where it has to."""
    network: Model = load_model(model)
    return prepare(network, frames, network.rule())


def _answer(network: Model, frame: Frame, **options: Any) -> Fields:
    """Both halves. `predict` would have a model that learns from all frames learn from this one alone."""
    rule = network.rule(**options)
    return network.fields(frame, network.run(frame, rule), rule)


def _family(model: Model) -> Family:
    return FAMILIES[model.checkpoint.family]


def check_output(model: Any, frames: Sequence[Frame]) -> None:
    """Fields are those of the declaration and of the family's own check; a frame is left as it was; the same
    frame gives the same bits."""
    network = _ready(model, frames)
    declared = {spec.name for spec in _family(network).fields}
    if not isinstance(network, Fitted):
        assert_same(predict(frames[0], model), _answer(network, frames[0]))
    for frame in frames:
        before = pickle.dumps(frame)
        first = _answer(network, frame)
        assert pickle.dumps(frame) == before, "the frame was changed"
        assert set(first) <= declared, f"not declared: {sorted(set(first) - declared)}"
        check_fields(frame, first)
        assert_same(_answer(network, frame), first)


def check_awkward(model: Any, frames: Sequence[Frame]) -> None:
    """Awkward frames are analyzed, or refused in one sentence; an ordinary one of them is not refused."""
    for frame in frames:
        refused = refused_frames(model, frame)
        assert "orthogonal" not in refused, refused["orthogonal"]


def refused_frames(model: Any, frame: Frame) -> dict[str, str]:
    """The sentences by which awkward frames like this one are refused, by the names of the frames.

    All others are analyzed and checked. They have about 100 atoms, or as many as this frame where 100 are too
    few for the model.
    """
    network = _ready(model, [frame])
    size = 1.0
    try:
        _answer(network, awkward_like(frame)["orthogonal"]())
    except ValueError:
        size = max(1.0, (frame.n_atoms / 80) ** (1 / frame.n_dimensions))
    refused = {}
    for kind, make in awkward_like(frame, size).items():
        awkward = make()
        try:
            fields = _answer(network, awkward)
        except ValueError as error:
            _check_sentence(error, kind)
            refused[kind] = str(error)
            continue
        try:
            check_fields(awkward, fields)
        except AssertionError as error:
            raise AssertionError(f"{kind}: {error}") from error
    return refused


def check_options(model: Any, frames: Sequence[Frame]) -> None:
    """Every option is accepted or refused in one sentence; unknown ones and values out of range are refused.

    None is the default of every option. Options of the part "read" do not enter into `run`, and reading
    leaves an output as it was.
    """
    network, frame = _ready(model, frames), frames[0]
    options = _family(network).options_of("run", "read")
    with _refused("an unknown option", "no_such_option", *(o.name for o in options), kind=TypeError):
        network.rule(no_such_option=1)
    plain = network.rule()
    assert network.rule(**{option.name: None for option in options}) == plain, "None is not the default"
    assert pickle.loads(pickle.dumps(plain)) == plain and isinstance(plain.to_dict(), dict)
    output = network.run(frame, plain)
    expected = network.fields(frame, output, plain)
    for option in options:
        for value in option_values(option):
            try:
                found = _answer(network, frame, **{option.name: value})
            except ValueError as error:
                _check_sentence(error, f"{option.name}={value!r}")
                continue
            check_fields(frame, found)
            if option.part == "read":
                assert_same(network.fields(frame, output, network.rule(**{option.name: value})), found)
        for value in bad_values(option):
            with _refused(f"{option.name}={value!r}", option.name):
                network.rule(**{option.name: value})
    assert_same(network.fields(frame, output, plain), expected)


def option_values(option: Option) -> list[Any]:
    """Some values that an option may have by its declaration."""
    if option.choices:
        return list(option.choices)
    if option.type is bool:
        return [True, False]
    if option.type not in (int, float):
        return []
    low, high = option.low, option.high
    default = option.default if isinstance(option.default, int | float) else None
    if low is not None and high is not None:
        found = [low + 0.3 * (high - low), low + 0.8 * (high - low)]
    elif low is not None:
        found = [low + 1, low + 0.5, low if not option.open else low + 2]
    else:
        found = [default * 0.8, default * 1.3] if default else [1]
    return [option.type(value) for value in found]


def bad_values(option: Option) -> list[Any]:
    """Some values that an option cannot have by its declaration."""
    if option.choices:
        return ["no such choice"]
    bounds = [(option.low, -1), (option.high, 1)]
    beyond = [x for b, outward in bounds if b is not None for x in [b + outward] + [b] * option.open]
    return [float("nan"), *beyond] if beyond and option.type in (int, float) else []


def check_refusals(model: Any, frames: Sequence[Frame]) -> None:
    """A frame without atoms, of other units, or on an unknown device is refused in one sentence.

    Unknown species are refused, or make no difference to what is checked. A sentence about a frame begins
    with its source.
    """
    network, start = _ready(model, frames), "here.xyz, frame 3: "
    frame = frames[0].replace(source="here.xyz, frame 3")
    units = [name for name in get_args(Units) if name != network.checkpoint.units]
    for wrong in (permuted(frame, np.arange(0)), *(frame.replace(units=name) for name in units)):
        with _refused(f"a frame of {wrong.n_atoms} atoms in the units {wrong.units}", start=start):
            _answer(network, wrong)
    strangers = frame.replace(species_names=tuple(f"X{i}" for i in range(len(frame.species_names))))
    try:
        fields = _answer(network, strangers)
    except ValueError as error:
        _check_sentence(error, "unknown species", start=start)
    else:
        check_fields(strangers, fields)
    with _refused("an unknown device"):
        network.run(frame, network.rule(), device="abacus")


def check_symmetries(model: Any, frames: Sequence[Frame]) -> str | None:
    """The declared symmetries hold."""
    network = _ready(model, frames)
    declared = getattr(network, "symmetries", _family(network).symmetries)
    if not declared:
        return "no symmetry is declared"
    for frame in frames:
        n, d = frame.n_atoms, frame.n_dimensions
        order = np.random.default_rng(1).permutation(n)
        edge = float(np.linalg.norm(frame.cell[0]))
        moved: dict[str, tuple[Frame, Any]] = {
            "permutation": (permuted(frame, order), order),
            "rotation": (rotated(frame), slice(None)),
            "translation": (translated(frame, np.array([0.21, -1.27, 0.02]) * edge), slice(None)),
            "wrapping": (wrapped_elsewhere(frame), slice(None)),
        }
        if frame.pbc[:d].all():
            times = (2, 1, 2) if d == 3 else (2, 2, 1)
            moved["repetition"] = (repeated(frame, times), np.tile(np.arange(n), 4))
        expected = _answer(network, frame)
        for what in sorted(declared & set(moved)):
            other, rows = moved[what]
            found = _answer(network, other)
            assert set(found) == set(expected)
            _close(network, found, expected, what, rows)
    return None


def check_slabs(model: Any, frames: Sequence[Frame]) -> str | None:
    """The outputs of slabs with their halo, merged, are the output of the frame."""
    network = _ready(model, frames)
    if not np.isfinite(getattr(network, "halo", np.inf)):
        return "the halo is infinite: whole frames only"
    assert network.halo >= 0
    rule = network.rule()
    for frame in frames:
        expected = _answer(network, frame)
        for axis in range(frame.n_dimensions):
            cut = slabs(frame, network.halo, n=2 + axis, axis=axis)
            assert all(len(slab.frame) for slab in cut), "a slab without atoms"
            parts = [Part(network.run(slab.frame, rule), slab.own, slab.atoms) for slab in cut]
            found = network.fields(frame, network.merge(frame, parts), rule)
            check_fields(frame, found)
            _close(network, found, expected, f"cutting across axis {axis}")
    return None


def check_file(model: Any, frames: Sequence[Frame]) -> str | None:
    """A checkpoint gives the same bits after it is written and read or sent to another process."""
    network, frame = _ready(model, frames), frames[0]
    checkpoint = network.checkpoint
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.safetensors"
        save_checkpoint(checkpoint, path)
        copy = load_checkpoint(path)
        for name in ("hash", "config", "card", "ranges"):
            assert getattr(copy, name) == getattr(checkpoint, name), name
        again = load(_family(network).model)(copy)
        if isinstance(again, Fitted) and not again.fitted:
            return "what a fit over frames has learned is not in the checkpoint"
        expected = _answer(network, frame)
        assert_same(_answer(again, frame), expected)
        sent = pickle.loads(pickle.dumps(predictor(str(path), network.rule())))
        assert_same(sent(frame), expected)
    return None


def check_workers(model: Any, frames: Sequence[Frame]) -> None:
    """Frames give the same bits together and alone, in this process and in two others."""
    some = [*frames, *frames][:3]
    network = _ready(model, some)
    expected = [_answer(network, frame) for frame in some]
    for workers in (1, 2):
        for found, alone in zip(predict_frames(some, model, workers=workers), expected, strict=True):
            assert_same(found, alone)


@contextmanager
def parts_of_at_most(n: int | None) -> Iterator[None]:
    """Cut also short loops into parts, of about n each; None cuts as usual."""
    before, threads_module.LONGEST_PART = threads_module.LONGEST_PART, n
    try:
        yield
    finally:
        threads_module.LONGEST_PART = before


def check_threads(model: Any, frames: Sequence[Frame]) -> None:
    """Results have the same bits on any number of threads, also where short loops are cut into parts."""

    def answer(frame: Frame, n: int) -> Any:
        with threads_module.threads(n):
            try:
                return _answer(_ready(model, frames), frame)
            except ValueError as error:
                return str(error)

    for frame in frames:
        for longest in (None, 16):
            with parts_of_at_most(longest):
                expected = answer(frame, 1)
                for n in (2, 3, 8):
                    assert_same(answer(frame, n), expected, f"{n} threads")
        for kind, make in awkward_like(frame).items():
            with parts_of_at_most(16):
                assert_same(answer(make(), 3), answer(make(), 1), f"{kind}, 3 threads")


def check_devices(model: Any, frames: Sequence[Frame]) -> str | None:
    """PyTorch gives the numbers of the compiled loops."""
    network = _ready(model, frames)
    rule = network.rule()
    for frame in frames:
        try:
            output = network.run(frame, rule, device="torch")
        except (ImportError, ValueError) as error:
            _check_sentence(error, "the device torch")
            return str(error)
        expected = network.fields(frame, network.run(frame, rule, device="cpu"), rule)
        _close(network, network.fields(frame, output, rule), expected, "torch")
    return None


class _Interrupt(Exception):
    pass


def check_progress(model: Any, frames: Sequence[Frame]) -> str | None:
    """Progress goes from 0 to 1, changes nothing, and may end the work."""
    network, frame = _ready(model, frames), frames[0]
    rule = network.rule()
    seen: list[float] = []

    def report(fraction: float, text: str) -> None:
        assert isinstance(text, str)
        seen.append(fraction)

    def stop(fraction: float, text: str) -> None:
        raise _Interrupt

    expected = _answer(network, frame)
    assert_same(network.fields(frame, network.run(frame, rule, progress=report), rule), expected)
    if not seen:
        return "no progress is reported"
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1, f"the fractions are {seen}"
    with suppress(_Interrupt):
        network.run(frame, rule, progress=stop)
        raise AssertionError("the work went on after an interruption")
    assert_same(_answer(network, frame), expected)
    return None


CONFORMANCE: Mapping[str, Callable[[Any, Sequence[Frame]], str | None]] = {
    "output": check_output,
    "awkward frames": check_awkward,
    "options": check_options,
    "refusals": check_refusals,
    "symmetries": check_symmetries,
    "slabs": check_slabs,
    "threads": check_threads,
    "devices": check_devices,
    "file": check_file,
    "progress": check_progress,
    "workers": check_workers,
}
"""The checks of `check_conformance` by name. "workers" starts processes, which takes some seconds."""


def check_conformance(model: Any, *frames: Frame, without: Sequence[str] = ()) -> dict[str, str]:
    """Assert that a model, and its family, keep the contract.

    Parameters
    ----------
    model : as for `phaseseg.load_model`; "workers" needs one that can be sent to processes, as a file can
    frames : some that the model accepts, of a few hundred atoms
    without : names of `CONFORMANCE` that are left out

    Returns
    -------
    dict
        The checks that do not apply to the model, each with the reason.

    Raises
    ------
    AssertionError
        The sentence begins with the name of the check.
    """
    check_family(_family(load_model(model)))
    reasons = {}
    for name, check in CONFORMANCE.items():
        if name in without:
            continue
        try:
            reason = check(model, frames)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        if reason:
            reasons[name] = reason
    return reasons


# ---------------------------------------------------------------------------------------- the family


def check_family(family: Family) -> None:
    """Assert that a declaration is complete and that all its references exist.

    Raises
    ------
    AssertionError
    """
    assert FAMILIES[family.name] == family, "the family is not registered"
    assert family.title and family.status in ("experimental", "stable", "deprecated")
    assert family.units and set(family.units) <= set(get_args(Units))
    for spec in family.fields:
        assert FIELD_SPECS[spec.name] == spec and spec.title and spec.description, spec.name
        assert bool(spec.classes) or spec.kind not in ("class", "probability"), f"{spec.name} has no classes"
    known = {spec.name for spec in family.fields}
    named = {*family.invariant, *(bonds.field for bonds in family.bond_files)}
    assert named <= known, f"not among the fields: {sorted(named - known)}"
    assert family.symmetries <= SYMMETRIES, f"unknown symmetries: {sorted(family.symmetries - SYMMETRIES)}"
    for parts in (("run", "read"), ("evaluate",)):
        names = [option.name for option in family.options_of(*parts)]
        assert len(set(names)) == len(names), f"an option is there twice: {names}"
    for option in family.options:
        assert option.help and option.name.isidentifier(), option.name
        if option.default is not None:
            assert not option.choices or option.default in option.choices, f"{option.name}: default"
            assert isinstance(option.default, (option.type, int)), f"{option.name}: default"
    bare = (family.model, family.fit, family.evaluate, family.summary, family.report, family.check)
    words = [word.partition("=")[2] for word in family.commands]
    for reference in (*bare, *(a.make for a in family.analyses), *words, *family.readers):
        if reference:
            module, _, name = reference.partition(":")
            assert name and find_spec(module) is not None, f"{reference} is not there"
    if family.default:
        assert load_checkpoint(family.default).family == family.name
