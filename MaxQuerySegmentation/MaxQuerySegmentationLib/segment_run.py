"""One run on one CT of the scene: written out, segmented by the engine, and loaded when it is done."""

import shutil
import time
from pathlib import Path

from slicer.i18n import tr as _

from MaxQuerySegmentationLib.child import Child, End, Progress
from MaxQuerySegmentationLib.ct_input import write_phases
from MaxQuerySegmentationLib.engine import Engine, RunParameters, segment_arguments
from MaxQuerySegmentationLib.result_nodes import ResultNodes, load_result, new_name


class SegmentRun:
    """Starts at once; `poll` it until it gives an `End`, `load` what it left if it is done, and `discard` it.

    `folder` is the run's own, for the CT and the result; the CT node may be deleted or moved meanwhile.
    """

    def __init__(self, engine: Engine, parameters: RunParameters, ct, folder: Path):
        self.folder, self.ct_id = folder, ct.GetID()
        self.started_at = time.monotonic()
        try:
            phases = write_phases([ct], folder)
        except OSError:
            self.discard()
            raise
        arguments = segment_arguments(phases, folder / "result", parameters)
        self._child = Child(engine.command(*arguments), engine.child_environment())

    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    def poll(self) -> list[Progress | End]:
        return self._child.poll()

    def cancel(self) -> None:
        self._child.cancel()

    def kill(self) -> None:
        """Ends it at once and leaves nothing on the disk."""
        self._child.kill()
        self.discard()

    def load(self, scene) -> ResultNodes:
        """The result as nodes, where the CT is now. Raises OSError, also when the CT was deleted meanwhile."""
        ct = scene.GetNodeByID(self.ct_id)
        if ct is None:
            raise OSError(_("The CT was deleted during the run, so its result was not loaded."))
        return load_result(scene, self.folder / "result", ct, new_name(scene, ct))

    def discard(self) -> None:
        """Removes the run's files; the nodes hold all that is needed."""
        shutil.rmtree(self.folder, ignore_errors=True)
