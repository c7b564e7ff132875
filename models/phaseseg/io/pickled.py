"""Data in pickle files, read without executing any of it.

A pickle is a program for a small machine, one of whose instructions calls any function by its name. Here a
machine of our own runs the instructions that build numbers, texts, lists, dictionaries and NumPy arrays. It
knows the few names with which arrays are written and builds the arrays itself; every other name is refused.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class PickleError(ValueError):
    """A pickle that is damaged or holds more than plain data; the text says what."""


class _Name:
    """A function or class of the file, which nobody calls."""

    def __init__(self, text: str) -> None:
        self.text = text


class _Type:
    """The type of an array: of numbers or truth values."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or not re.fullmatch(r"[<>=|]?([iuf][1248]|b1|f16)", text):
            raise PickleError(f"it holds an array of the type {str(text)[:40]!r}, not of numbers")
        self.type = np.dtype(text)

    def build(self, state: Any) -> None:
        """The byte order."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "=", "|"):
            raise PickleError("the type of an array is damaged")
        self.type = self.type.newbyteorder("<" if order == "|" else order)


class _Array:
    """An array that is being read."""

    values: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleError("an array is damaged")
        _, shape, kind, fortran, raw = state
        self.values = _array(raw, kind, shape, "F" if fortran else "C")


def _array(raw: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    if (
        not isinstance(kind, _Type)
        or not isinstance(raw, bytes | bytearray)
        or not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
        or len(shape) > 8
        or math.prod(shape) * kind.type.itemsize != len(raw)
    ):
        raise PickleError("an array has not as many numbers as its shape says")
    return np.frombuffer(bytes(raw), kind.type).reshape(shape, order="F" if order == "F" else "C")


def _call(name: _Name, arguments: Any) -> Any:
    """What the few known functions make of these arguments; nothing is called."""
    module, _, function = name.text.rpartition(".")
    if not isinstance(arguments, tuple):
        raise PickleError("arguments of a function are damaged")
    if function == "_reconstruct":
        return _Array()
    if name.text == "numpy.dtype":
        return _Type(arguments[0] if arguments else None)
    if name.text == "_codecs.encode":
        if len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1":
            return arguments[0].encode("latin-1")
    elif function == "scalar" and len(arguments) == 2:
        return _array(arguments[1], arguments[0], (), "C")[()]
    elif function == "_frombuffer" and len(arguments) == 4:
        array = _Array()
        array.values = _array(*arguments)
        return array
    elif function == "bytes" and not arguments:
        return b""
    raise PickleError(f"{module}.{function} has unusual arguments")


_KNOWN = {
    *(f"{module}.{name}" for module in _MULTIARRAY for name in ("_reconstruct", "scalar")),
    *(f"{module}._frombuffer" for module in _NUMERIC),
    "numpy.dtype", "numpy.ndarray", "_codecs.encode", "builtins.bytes", "__builtin__.bytes",
}  # fmt: skip


def _name(module: Any, function: Any) -> _Name:
    text = f"{module}.{function}"
    if text not in _KNOWN:
        raise PickleError(f"it asks for {text[:80]}, which is no data and was not called")
    return _Name(text)


def plain_objects(data: bytes) -> Any:
    """The object in a pickle: numbers, texts, lists, tuples, dictionaries and NumPy arrays of numbers.

    Raises
    ------
    PickleError
        For a damaged pickle, and for one that names any function or class other than those of arrays.
    """
    machine = _Machine()
    try:
        # A stream, in which no length that the file announces makes room before it is read.
        for code, argument, _ in pickletools.genops(BytesIO(data)):
            if machine.step(code.name, argument):
                return _finished(machine.pop())
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError, MemoryError) as error:
        raise PickleError(f"it is damaged ({type(error).__name__}: {str(error)[:80]})") from None
    raise PickleError("its end is missing")


def _finished(value: Any) -> Any:
    """An array in place of one that was being read."""
    if isinstance(value, _Array):
        if value.values is None:
            raise PickleError("an array has no values")
        return value.values
    if isinstance(value, _Name | _Type):
        raise PickleError("it holds no data")
    return value


class _Machine:
    """Stack and memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleError("it is damaged")
        return value

    def since_mark(self) -> list[Any]:
        """Take all values behind the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # an IndexError at the end, as of a damaged file
            at -= 1
            if at < 0:
                raise PickleError("it is damaged")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def step(self, code: str, argument: Any) -> bool:
        """Follow one instruction; whether it was the last one."""
        stack = self.stack
        if code in _VALUES:
            stack.append(argument)
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code in _TUPLES:
            n = _TUPLES[code]
            values = [self.pop() for _ in range(n)][::-1]
            stack.append(tuple(_kept(one) for one in values))
        elif code == "MARK":
            stack.append(_MARK)
        elif code in ("TUPLE", "LIST"):
            items = [_kept(one) for one in self.since_mark()]
            stack.append(tuple(items) if code == "TUPLE" else items)
        elif code in ("APPEND", "APPENDS"):
            items = [self.pop()] if code == "APPEND" else self.since_mark()
            self._container(list).extend(_kept(one) for one in items)
        elif code in ("SETITEM", "SETITEMS", "DICT"):
            items = [self.pop(), self.pop()][::-1] if code == "SETITEM" else self.since_mark()
            if code == "DICT":
                stack.append({})
            into = self._container(dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, str | int | float):
                    raise PickleError(f"a key of a dictionary is of the type {type(key).__name__}")
                into[key] = _kept(value)
        elif code == "GLOBAL":
            stack.append(_name(*str(argument).split(" ", 1)))
        elif code == "STACK_GLOBAL":
            function = self.pop()
            stack.append(_name(self.pop(), function))
        elif code == "REDUCE":
            arguments, name = self.pop(), self.pop()
            if not isinstance(name, _Name):
                raise PickleError("it calls what is no function")
            stack.append(_call(name, arguments))
        elif code == "BUILD":
            state, target = self.pop(), stack[-1]
            if not isinstance(target, _Array | _Type):
                raise PickleError("it changes an object that is no array")
            target.build(state)
        elif code == "POP":
            stack.pop()
        elif code == "POP_MARK":
            self.since_mark()
        elif code == "DUP":
            stack.append(stack[-1])
        elif code not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"it has the instruction {code}, which plain data does not need")
        return code == "STOP"

    def _container(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise PickleError("it is damaged")
        return self.stack[-1]


def _kept(value: Any) -> Any:
    """A value as it stands in a list, tuple or dictionary: arrays are whole by then."""
    return value.values if isinstance(value, _Array) and value.values is not None else value
