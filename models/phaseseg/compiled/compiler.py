"""compiler: numba's compiler without what our loops do not need.

Whoever uses a part of the package for the first time waits until its loops are compiled. Numba spends a fifth
of that time on work that changes no result: it optimizes a function alone and again within each of its
callers, it optimizes the code that unpacks Python's arguments, and Python looks for garbage (decision 0031).
"""

from __future__ import annotations

import gc
from types import CodeType
from typing import Any

from llvmlite import binding as llvm
from numba.core import event, transforms, typed_passes, untyped_passes
from numba.core.cgutils import normalize_ir_text
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.postproc import PostProcessor
from numba.core.runtime import rtsys
from numba.core.targetconfig import ConfigStack
from numba.core.types.functions import BaseFunction
from numba.core.typing.templates import _IntrinsicTemplate


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code of a loop; the entry for Python joins it when the loop is optimized, and is not optimized."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self._entries: list[Any] = []

    def add_ir_module(self, ir_module: Any) -> None:
        if not ir_module.name.startswith("wrapper"):
            super().add_ir_module(ir_module)
            return
        for function in ir_module.functions:
            if function.blocks:
                function.attributes.add("noinline")
                function.attributes.add("optnone")
        entry = llvm.parse_assembly(normalize_ir_text(str(ir_module)))
        entry.name, entry.data_layout = ir_module.name, self._codegen._data_layout
        self._entries.append(entry)

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        if self._entries:
            for entry in self._entries:
                self._final_module.link_in(entry)
            # Only what an entry needs of it is linked, the counting of references to arrays.
            self._final_module.link_in(rtsys.library._get_module_for_linking(), preserve=True)


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code that goes into that of the callers, where it becomes machine code.

    LLVM's passes for single functions are run before: without them, some callers are eight times as slow.
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


def _nothing() -> None:
    pass


_find_lifetimes = PostProcessor.run


def _find_lifetimes_once(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
    """Numba looks five times where each variable is used last, and needs only what it finds the last time."""
    if emit_dels or self.func_ir.is_generator:
        _find_lifetimes(self, emit_dels, extend_lifetimes)
    else:
        self.func_ir.blocks = transforms.canonicalize_cfg(self.func_ir.blocks)


class _CallTypes:
    """What numba found out about calls of its own functions, for the same types and options.

    Numba tries a dozen candidates for each sum of two numbers, and each time anew.
    """

    def __init__(self) -> None:
        self._of_options: dict[Any, dict[Any, Any]] = {}
        self._of_object: dict[int, tuple[Any, dict[Any, Any]]] = {}
        """The same by the identity of the options, which are slow to compare, while the objects live."""

    def forget_objects(self) -> None:
        self._of_object.clear()

    def known(self) -> dict[Any, Any]:
        """Signatures for the options with which numba compiles at the moment."""
        options = ConfigStack.top_or_none()
        if id(options) not in self._of_object:
            self._of_object[id(options)] = options, self._of_options.setdefault(options, {})
        return self._of_object[id(options)][1]


_call_types = _CallTypes()
_find_call_type = BaseFunction.get_call_type


def _find_call_type_once(self: Any, context: Any, args: Any, kws: Any) -> Any:
    if kws:
        return _find_call_type(self, context, args, kws)
    known, call = _call_types.known(), (self, context, args)
    found = known.get(call)
    if found is None:
        found = _find_call_type(self, context, args, kws)
        # To find an intrinsic again also makes numba load how it is lowered.
        if not any(issubclass(template, _IntrinsicTemplate) for template in self.templates):
            known[call] = found
    return found


# What is different in numba while one of our loops is compiled: whose, its name, as ever, and ours.
_REPLACED = [
    (PostProcessor, "run", _find_lifetimes, _find_lifetimes_once),
    (BaseFunction, "get_call_type", _find_call_type, _find_call_type_once),
]


class _Passes(CompilerBase):  # type: ignore[misc]
    library: type

    def define_pipelines(self) -> list[Any]:
        state = self.state
        # Numba looks for new registrations whenever the class of a type has to serve.
        state.targetctx.refresh = _nothing
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        passes = DefaultPassBuilder.define_nopython_pipeline(state)
        # Joins expressions of whole arrays, which loops do not have.
        needless = {typed_passes.NopythonRewrites}
        if not any(isinstance(constant, CodeType) for constant in state.func_id.code.co_consts):
            needless.add(untyped_passes.InlineClosureLikes)
        passes.passes = [found for found in passes.passes if found[0] not in needless]
        passes.finalize()
        return [passes]


class Compiler(_Passes):
    """Compiles a loop that Python calls."""

    library = _Library

    def define_pipelines(self) -> list[Any]:
        pipelines = super().define_pipelines()
        self.state.library.enable_object_caching()
        return pipelines


class PartCompiler(_Passes):
    """Compiles a function that only compiled functions call."""

    library = _PartLibrary

    def define_pipelines(self) -> list[Any]:
        state = self.state
        # Not among the options: numba compiles its own functions again for callers with other options.
        state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = True
        # Numba knows a compiled function by what Python would call: any builtin that is not another's.
        state.targetctx.get_executable = lambda *_: [].append
        return super().define_pipelines()


class _Listener(event.Listener):  # type: ignore[misc]
    """What is different while one of our loops is compiled.

    Python does not look for garbage, which would take a tenth of the time, nor later among what it made.
    Functions of numba that Python never calls are compiled as our own. Compilations may be nested, but only
    one thread compiles at a time, since numba holds a lock.
    """

    def __init__(self) -> None:
        self._ours = self._enabled = False
        self._usual: list[Any] = []
        """For each function that is being compiled, from the outermost one: what else would compile it."""

    def on_start(self, event: Any) -> None:
        called, usual = event.data["dispatcher"], None
        if not self._usual:
            # A loop that numba takes out of a function has no compiler.
            compiler = getattr(called, "_compiler", None)
            self._ours = getattr(compiler, "pipeline_class", None) is Compiler
            if self._ours:
                for owner, name, _, ours in _REPLACED:
                    setattr(owner, name, ours)
            self._enabled = gc.isenabled()
            gc.disable()
        elif self._ours and called.targetoptions.get("no_cpython_wrapper"):
            usual = called._compiler.pipeline_class
            called._compiler.pipeline_class = PartCompiler
        self._usual.append(usual)

    def on_end(self, event: Any) -> None:
        usual = self._usual.pop()
        if usual is not None:
            event.data["dispatcher"]._compiler.pipeline_class = usual
        if self._usual:
            return
        for owner, name, as_ever, _ in _REPLACED:
            setattr(owner, name, as_ever)
        _call_types.forget_objects()
        if self._enabled:
            gc.freeze()
            gc.unfreeze()
            gc.enable()


event.register("numba:compile", _Listener())
