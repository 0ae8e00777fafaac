"""One run of the engine in a child process, which a timer polls: Slicer stays usable, and a cancel ends all of it."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

_GRACE_SECONDS = 1.5  # the engine ends itself in one; what has not by then is killed
_KEPT_LINES = 200
NO_WINDOW = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
"""For a child process: Windows opens a console for each otherwise."""
_CRASHED = "exit abnormally"
"""What PythonSlicer, a launcher, says when the Python that it started was killed or crashed; its own code is then 1."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come: `fraction` 0…1 of this stage."""

    stage: str
    fraction: float
    message: str


@dataclass(frozen=True)
class End:
    """How a run ended; of a failed one `message` says what was wrong, `hint` what to do, `details` what it printed."""

    outcome: Literal["done", "cancelled", "failed"]
    message: str = ""
    hint: str = ""
    details: str = ""


class Child:
    """`command` as a child process with its whole tree. `poll` it; it gives one `End` and then nothing.

    >>> child = Child([sys.executable, "-m", "maxquery", "bundles"], os.environ)  # doctest: +SKIP
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._noise: list[str] = []
        self._end: End | None = None
        self._cancelled_at: float | None = None
        self._process: subprocess.Popen | None = None
        own_group = {} if os.name == "nt" else {"start_new_session": True}
        try:
            self._process = subprocess.Popen(
                list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, encoding="utf-8", errors="replace", **own_group, **NO_WINDOW,
            )  # fmt: skip
        except OSError as error:
            hint = "Check the Python environment under Advanced."
            self._end = End("failed", f"{command[0]} cannot be started: {error.strerror}.", hint, str(error))
            return
        self._readers = [
            threading.Thread(target=self._read, args=(stream, keep), daemon=True)
            for stream, keep in ((self._process.stdout, self._lines.put), (self._process.stderr, self._errors.append))
        ]
        for reader in self._readers:
            reader.start()

    def poll(self) -> list[Progress | End]:
        """What has happened since the last call."""
        if self._process is None:
            return self._take_end()
        running = self._process.poll() is None
        if running and self._cancelled_at is not None and time.monotonic() - self._cancelled_at > _GRACE_SECONDS:
            self._signal_tree(force=True)
        if not running:
            for reader in self._readers:
                reader.join(0.2)
        events: list[Progress | End] = []
        while not self._lines.empty():
            event = self._event(self._lines.get())
            if isinstance(event, End):
                self._end = event
            elif event is not None:
                events.append(event)
        if not running:
            self._signal_tree(force=True)  # what it started and left behind
            code, self._process = self._process.returncode, None
            self._end = self._final(code)
            events += self._take_end()
        return events

    def cancel(self) -> None:
        """Asks the child to stop; `poll` reports when it has, and kills what does not listen."""
        if self._process is not None and self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self._signal_tree(force=False)

    def kill(self) -> None:
        """Ends the whole tree at once and waits for it: when Slicer quits, or the module is reloaded."""
        if self._process is not None:
            self._signal_tree(force=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def _take_end(self) -> list[End]:
        end, self._end = self._end, None
        return [] if end is None else [end]

    def _read(self, stream, keep) -> None:
        for line in stream:
            keep(line.rstrip("\n"))

    def _event(self, line: str) -> Progress | End | None:
        try:
            said = json.loads(line)
            stage = said["stage"]
            if stage in ("done", "cancelled"):
                return End(stage)
            if stage == "failed":
                return End("failed", said["error"]["message"], said["error"]["hint"])
            return Progress(stage, float(said["fraction"]), said["message"])
        except (ValueError, KeyError, TypeError):  # some library's own words on stdout
            self._noise.append(line)
            return None

    def _final(self, code: int) -> End:
        details = "\n".join([*self._noise, *self._errors][-_KEPT_LINES:])
        if self._cancelled_at is not None:
            return End("cancelled")
        said = self._end
        if said is not None and (said.outcome != "done" or code == 0):
            return End(said.outcome, said.message, said.hint, details)
        said_lines = [line for line in (*self._noise, *self._errors) if line.strip()]
        errors = [line for line in said_lines if "Error" in line]  # a crash prints more below it
        last = (errors or said_lines or ["it said nothing"])[-1].strip().removesuffix(".") + "."
        if code == -9 or any(_CRASHED in line for line in self._errors):  # SIGKILL, which nothing here sent
            hint = "Most often the machine ran out of memory: close other programs, or crop the CT."
            return End("failed", "The engine was killed by the system, or crashed.", hint, details)
        return End("failed", f"The engine stopped: {last}", "The details hold what it printed last.", details)

    def _signal_tree(self, force: bool) -> None:
        number = self._process.pid
        if os.name == "nt":  # nobody can be asked there: a Slicer has no console to signal from
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(number)], capture_output=True, check=False, **NO_WINDOW)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL if force else signal.SIGTERM)
