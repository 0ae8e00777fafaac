"""A run of the engine on one CT of the scene: written out, worked on in a child process, and taken up when done."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.child import Child, End, Progress
from MaxQuerySegmentationLib.ct_input import write_phases
from MaxQuerySegmentationLib.engine import Engine, RunParameters, responses_arguments, segment_arguments
from MaxQuerySegmentationLib.result_nodes import ResultNodes, load_result, new_name


class _EngineRun:
    """Starts at once; `poll` it until it gives an `End`, take what it left if it is done, and `discard` it.

    `folder` is the run's own, for the CT and the result; the CT node may be deleted or moved meanwhile. `arguments`:
    the engine's, from the paths of the CT's phases.
    """

    def __init__(self, engine: Engine, ct, folder: Path, arguments: Callable[[list[Path]], list[str]]):
        self.folder, self.ct_id = folder, ct.GetID()
        self.started_at = time.monotonic()
        try:
            phases = write_phases([ct], folder)
        except OSError:
            self.discard()
            raise
        self._child = Child(engine.command(*arguments(phases)), engine.child_environment())

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

    def discard(self) -> None:
        """Removes the run's files; the nodes hold all that is needed."""
        shutil.rmtree(self.folder, ignore_errors=True)


class SegmentRun(_EngineRun):
    """Segments the CT."""

    def __init__(self, engine: Engine, parameters: RunParameters, ct, folder: Path):
        super().__init__(engine, ct, folder, lambda phases: segment_arguments(phases, folder / "result", parameters))

    def load(self, scene) -> ResultNodes:
        """The result as nodes, where the CT is now. Raises OSError, also when the CT was deleted meanwhile."""
        ct = scene.GetNodeByID(self.ct_id)
        if ct is None:
            raise OSError(_("The CT was deleted during the run, so its result was not loaded."))
        return load_result(scene, self.folder / "result", ct, new_name(scene, ct))


class ResponsesRun(_EngineRun):
    """Asks every query in a cube of `size_mm` around a place in the CT's own frame (RAS, mm)."""

    def __init__(
        self, engine: Engine, parameters: RunParameters, ct, folder: Path, centre_ras_mm: Sequence[float],
        size_mm: float,
    ):  # fmt: skip
        output = folder / "responses.npz"
        super().__init__(
            engine, ct, folder, lambda phases: responses_arguments(phases, output, parameters, centre_ras_mm, size_mm)
        )

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """R `(N, z, y, x)` float32, and `(4, 4)`: its voxel index (x, y, z) to the CT's own frame. Raises OSError."""
        with np.load(self.folder / "responses.npz", allow_pickle=False) as stored:
            return stored["values"].astype(np.float32), stored["to_ras"]
