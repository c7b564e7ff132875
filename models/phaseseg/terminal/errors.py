"""Error messages on standard error, and exit codes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from phaseseg.display import face
from phaseseg.terminal.text import as_text

FAILURE, USAGE, INPUT, INTERRUPTED = 1, 2, 3, 130


class UsageError(Exception):
    """Invalid arguments of a command."""


class _Interrupt:
    """Remembers Ctrl-C, because Python drops the exception inside a callback of compiled code."""

    seen = False

    def __call__(self, number: int, frame: Any) -> None:
        self.seen = True
        raise KeyboardInterrupt

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Make `check` raise after Ctrl-C, and do not print dropped exceptions."""
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not usual or threading.current_thread() is not threading.main_thread():
            yield
            return
        hook = sys.unraisablehook
        sys.unraisablehook = lambda one: None if one.exc_type is KeyboardInterrupt else hook(one)
        signal.signal(signal.SIGINT, self)
        try:
            yield
        except Exception:
            if self.seen:  # an extension module that is interrupted while it loads raises an ImportError
                raise KeyboardInterrupt from None
            raise
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = hook
            self.seen = False

    def check(self) -> None:
        if self.seen:
            raise KeyboardInterrupt


interrupt = _Interrupt()


@contextmanager
def exit_codes(kept: str = "") -> Iterator[None]:
    """Turn errors into one sentence on standard error and an exit code.

    kept : sentence on what an interruption leaves behind
    """

    def stop(code: int, sentence: str) -> typer.Exit:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            as_text(f"phaseseg: {sentence}", "red" if code != INTERRUPTED else "")
        )
        return typer.Exit(code)

    try:
        with interrupt.remembered(), face("command line"):
            yield
    except UsageError as error:
        raise stop(USAGE, str(error)) from None
    except KeyboardInterrupt as error:
        raise stop(INTERRUPTED, f"interrupted. {str(error) or kept}".rstrip()) from None
    except ValueError as error:
        raise stop(INPUT, str(error)) from None
    except BrokenPipeError:
        raise typer.Exit(FAILURE) from None
    except (OSError, ImportError, RuntimeError) as error:
        raise stop(FAILURE, str(error) or type(error).__name__) from None
    except MemoryError:
        raise stop(FAILURE, "not enough memory; use fewer --workers or a coarser grid.") from None


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn ValueError and TypeError into UsageError; an InputError passes."""
    from phaseseg.io import InputError

    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None
