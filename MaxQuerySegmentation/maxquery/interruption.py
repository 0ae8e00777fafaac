"""Ctrl-C and SIGTERM stop a run within two seconds, whatever it is busy with."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from maxquery.errors import Cancelled

T = TypeVar("T")
_GRACE_SECONDS = 0.8


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in here, as Ctrl-C does: what was begun is cleaned up."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_cancellable(work: Callable[[threading.Event], T], on_cancel: Callable[[], None]) -> T:
    """Runs `work(stop)` beside the main thread, which alone hears signals; returns what it returns.

    On a signal `stop` is set, and work is expected to raise `Cancelled` where it next looks, cleaning up as
    it goes. A long computation may keep it from looking, so after a moment `on_cancel` cleans up behind it
    and the process ends with exit code 130, without the seconds that a large process takes to dismantle itself.
    Work that is done within that moment is done. Raises what `work` raises.
    """
    stop, outcome = threading.Event(), {}

    def target() -> None:
        try:
            outcome["value"] = work(stop)
        except BaseException as error:
            outcome["error"] = error

    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        worker = threading.Thread(target=target, daemon=True)
        worker.start()
        while worker.is_alive() and not stop.is_set():
            worker.join(0.1)
        if stop.is_set():
            worker.join(_GRACE_SECONDS)
            if "value" not in outcome:
                on_cancel()
                os._exit(Cancelled.exit_code)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
