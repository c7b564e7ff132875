"""Ctrl-C that compiled code swallows still ends the work."""

from __future__ import annotations

import ctypes
import os
import signal

import pytest
import typer

from phaseseg.terminal.errors import INTERRUPTED, exit_codes, interrupt
from phaseseg.terminal.show import FrameBar


def test_an_interrupt_in_a_callback_is_not_lost(capfd):
    callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGINT))
    done = []
    with pytest.raises(KeyboardInterrupt), interrupt.remembered():
        for item in FrameBar().frames(range(3), "counting"):
            callback()  # the exception is dropped here, or strikes after it
            done.append(item)
    assert len(done) <= 1 and not interrupt.seen and "Traceback" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_becomes_another_error_is_one():
    """As an extension module raises it that is interrupted while it is loaded."""
    with pytest.raises(typer.Exit) as end, exit_codes():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
    assert end.value.exit_code == INTERRUPTED and not interrupt.seen
    with pytest.raises(typer.Exit) as end, exit_codes():
        raise ImportError("initialization failed")
    assert end.value.exit_code != INTERRUPTED
