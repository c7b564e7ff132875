"""Ctrl-C that compiled code swallows still ends the work.

Each case runs in a process of its own: an interrupt sent to the process of the tests may strike in whatever
other tests have loaded there.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

IN_A_CALLBACK = """
    import ctypes, os, signal
    from phaseseg.terminal.errors import interrupt
    from phaseseg.terminal.show import FrameBar

    signal.signal(signal.SIGINT, signal.default_int_handler)
    callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGINT))
    done = []
    try:
        with interrupt.remembered():
            for item in FrameBar().frames(range(3), "counting"):
                callback()  # the exception is dropped here, or strikes after it
                done.append(item)
    except KeyboardInterrupt:
        print("interrupted", len(done) <= 1, interrupt.seen)
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""

BECOMES_ANOTHER_ERROR = """
    import os, signal
    import typer
    from phaseseg.terminal.errors import INTERRUPTED, exit_codes, interrupt

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with exit_codes():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None
    except typer.Exit as end:
        print(end.exit_code == INTERRUPTED, interrupt.seen)
    try:
        with exit_codes():
            raise ImportError("initialization failed")
    except typer.Exit as end:
        print(end.exit_code == INTERRUPTED)
"""


def run(code: str) -> tuple[list[str], str]:
    """What a process prints that runs this code, and its errors."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ended.stdout.splitlines(), ended.stderr


def test_an_interrupt_in_a_callback_is_not_lost() -> None:
    printed, errors = run(IN_A_CALLBACK)
    assert printed == ["interrupted True False", "True"]
    assert "Traceback" not in errors


def test_an_interrupt_that_becomes_another_error_is_one() -> None:
    """As an extension module raises it that is interrupted while it is loaded."""
    printed, _ = run(BECOMES_ANOTHER_ERROR)
    assert printed == ["True False", "False"]
