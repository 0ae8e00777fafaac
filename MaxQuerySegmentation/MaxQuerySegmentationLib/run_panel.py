"""What the panel shows of a run: how far it is, the button that stops it, and why it failed."""

import subprocess
from collections.abc import Callable

import qt
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.child import End, Progress
from MaxQuerySegmentationLib.segment_run import ResponsesRun, SegmentRun

_POLL_MILLISECONDS = 100

Run = SegmentRun | ResponsesRun


class RunPanel:
    """One run at a time.

    `ui`: the panel's widgets; `take_up`: takes what a run that is done has left, and may raise OSError or ValueError;
    `over`: hears that a run has ended by itself or by a person, and what was to be taken up was.
    """

    def __init__(self, ui, take_up: Callable[[Run], None], over: Callable[[], None]):
        self.ui, self._take_up, self._over = ui, take_up, over
        self._run: Run | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.timeout.connect(self._poll)
        ui.cancelButton.clicked.connect(self._cancel)
        ui.detailsButton.toggled.connect(ui.detailsText.setVisible)
        ui.progressFrame.setVisible(False)
        ui.errorFrame.setVisible(False)

    @property
    def is_under_way(self) -> bool:
        return self._run is not None

    def begin(self, start: Callable[[], Run]) -> None:
        """`start` gives a run that has begun."""
        self.ui.errorFrame.setVisible(False)
        try:
            self._run = start()
        except (OSError, RuntimeError, ImportError, subprocess.CalledProcessError) as error:
            self.fail(str(error))
            return
        self.ui.progressFrame.setVisible(True)
        self.ui.progressBar.setValue(0)
        self.ui.progressLabel.setText(_("Starting"))
        self._timer.start()

    def kill(self) -> None:
        """At once, without a word."""
        if self._run is not None:
            self._run.kill()
            self._stop()

    def fail(self, message: str, details: str = "") -> None:
        self.ui.errorLabel.setText(message)
        self.ui.detailsText.setPlainText(details)
        self.ui.detailsButton.setChecked(False)
        self.ui.detailsButton.setVisible(bool(details))
        self.ui.errorFrame.setVisible(True)

    def _cancel(self, checked: bool = False) -> None:
        if self._run is not None:
            self.ui.progressLabel.setText(_("Stopping"))
            self._run.cancel()

    def _poll(self) -> None:
        for event in self._run.poll():
            if isinstance(event, End):
                run = self._run
                self._stop()
                self._end(run, event)
                return
            self.ui.progressBar.setValue(int(100 * event.fraction))
            self.ui.progressLabel.setText(self._text(event))

    def _text(self, progress: Progress) -> str:
        text, left = f"{progress.message} · {self._run.seconds():.0f} s", self._run.seconds_left(progress)
        return text if left is None else text + _(", this step about {seconds:.0f} s more").format(seconds=left)

    def _stop(self) -> None:
        self._timer.stop()
        self._run = None
        self.ui.progressFrame.setVisible(False)

    def _end(self, run: Run, end: End) -> None:
        try:
            if end.outcome == "done":
                self._take_up(run)
            elif end.outcome == "failed":
                self.fail(f"{end.message} {end.hint}".strip(), end.details)
        except (OSError, ValueError) as error:
            self.fail(str(error), end.details)
        finally:
            run.discard()
        self._over()
