"""Compiled code on disk: numba's cache, read without numba's compiler.

Numba writes the files and decides which of them are valid; only the reading is ours. Numba's own way imports
all that numba can compile, SciPy's linear algebra included, and reads not only the machine code of a
function but also its LLVM code. That is 0.4 s of `phaseseg label`, longer than it takes to label a frame of
33,000 atoms.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm
from numba.core import environment
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.runtime import _nrt_python


class Cache(FunctionCache):  # type: ignore[misc]
    """The compiled code of one function; RuntimeError where no folder can be written."""

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        codegen = target_context.codegen()
        name = self._cache_file._load_index().get(self._index_key(sig, codegen))
        if name is None:
            return None
        try:
            with Path(self._cache_path, name).open("rb") as file:
                found = _Unpickler(file).load()
        except FileNotFoundError:
            return None
        # All that machine code needs of numba's library: the functions that manage memory.
        for symbol, address in _nrt_python.c_helpers.items():
            llvm.add_symbol(symbol if symbol.startswith("_") else f"NRT_{symbol}", address)
        usual, codegen._library_class = codegen._library_class, _Library
        try:
            return self._impl.rebuild(target_context, found)
        finally:
            codegen._library_class = usual

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the cached code for arguments of these types, or None. Numba holds its lock."""
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _environment if name == "_rebuild_env" else super().find_class(module, name)


def _environment(module: str, constants: list[Any], name: str) -> Any:
    """Return the constants and globals with which a function reaches Python objects.

    Functions of numba inside ours reach none: their modules, which are slow to import, are not needed.
    """
    made = environment.lookup_environment(name)
    if made is not None or not module.startswith("numba."):
        return made or environment._rebuild_env(module, constants, name)
    made = environment.Environment({"__name__": module})
    made.consts[:], made.env_name = constants, name
    environment.Environment._memo[name] = made
    return made


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Machine code; its LLVM code is read only when a function is compiled that calls this one."""

    _shared_module: Any
    _llvm_code = b""

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        name, _, (machine_code, llvm_code) = state
        made = cls(codegen, name)
        made.enable_object_caching()
        made._set_compiled_object(machine_code)
        made._llvm_code = llvm_code
        made._finalize_final_module()
        return made

    def get_pointer_to_function(self, name: str) -> Any:
        return self._codegen._engine.get_function_address(name)

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._llvm_code)
            self._codegen._engine._load_defined_symbols(self._shared_module)
        return self._shared_module
