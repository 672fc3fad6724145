"""Signals that stop a run: after the first one it saves its state at the next step, after the second it exits."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

from autodisp import torchrun

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
"""Ctrl-C; a scheduler's before it kills; the usual one of Slurm's ``--signal``; submitit's."""
EXIT_CODES = tuple(128 + getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class StopSignals:
    """Context in which the first of these signals only sets ``received``, and the second ends the process.

    Under torchrun, which ends its processes 30 seconds after a signal, the second one has no effect.

    Has no effect outside the main thread, where Python permits no signal handlers.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """True if the run is to stop."""
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in shells."""
        return 128 + (self.received or signal.SIGINT)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if torchrun.processes() > 1:  # torchrun passes a signal on, also to processes that have it already
                return
            os._exit(128 + number)
        self.received = number
        if torchrun.processes() > 1:
            return
        # the signal may have interrupted print(), which is not reentrant
        os.write(2, b"\nstopping after this step, with the state saved; once more to stop at once\n")
