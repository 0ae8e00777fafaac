"""A run of the engine on one CT of the scene: written out, worked on in a child process, and taken up when done."""

import itertools
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.child import Child, End, Progress
from MaxQuerySegmentationLib.ct_input import write_phases
from MaxQuerySegmentationLib.engine import Engine
from MaxQuerySegmentationLib.engine_arguments import RunParameters, responses_arguments, segment_arguments
from MaxQuerySegmentationLib.result_loading import load_result
from MaxQuerySegmentationLib.result_nodes import ResultNodes, new_name, remove_result, results_in

_TELLING_FRACTION = 0.05  # of a stage, before which its end cannot be told


class _EngineRun:
    """Starts at once; `poll` it until it gives an `End`, take what it left if it is done, and `discard` it.

    `phases`: the volume nodes of one case; they may be deleted or moved meanwhile. `folder` is the run's own, for the
    CT and the result. `arguments`: the engine's, from the paths of the phases. `region`: the ROI node to crop to.
    """

    def __init__(
        self, engine: Engine, phases: Sequence, folder: Path, arguments: Callable[[list[Path]], list[str]], region=None
    ):
        self.folder, self._phases = folder, [(node.GetID(), _ijk_to_ras(node)) for node in phases]
        self.started_at = self._stage_began = time.monotonic()
        self._stage = ""
        try:
            paths = write_phases(phases, folder, region)
        except OSError:
            self.discard()
            raise
        self._child = Child(engine.command(*arguments(paths)), engine.child_environment())

    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    def poll(self) -> list[Progress | End]:
        events = self._child.poll()
        for event in events:
            if isinstance(event, Progress) and event.stage != self._stage:
                self._stage, self._stage_began = event.stage, time.monotonic()
        return events

    def seconds_left(self, progress: Progress) -> float | None:
        """Of this stage, as it has gone so far; None while nobody can tell."""
        if progress.fraction < _TELLING_FRACTION:
            return None
        return (time.monotonic() - self._stage_began) * (1 - progress.fraction) / progress.fraction

    def phases(self, scene) -> list:
        """The volume nodes. Raises OSError if one was deleted meanwhile, or its voxels lie elsewhere in its own frame:
        a transform above it takes what was found along, one that was hardened does not."""
        nodes = [scene.GetNodeByID(node_id) for node_id, _matrix in self._phases]
        if None in nodes:
            raise OSError(_("The CT was deleted during the run, so what was found was not loaded."))
        if any(_ijk_to_ras(node) != matrix for node, (_id, matrix) in zip(nodes, self._phases, strict=True)):
            raise OSError(_("The CT was centred or hardened during the run, so what was found was not loaded."))
        return nodes

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
    """Segments the CT, or what of it lies in the ROI node `region`."""

    def __init__(self, engine: Engine, parameters: RunParameters, phases: Sequence, folder: Path, region=None):
        output, self._model = folder / "result", parameters.bundle
        self._name = new_name(slicer.mrmlScene, phases[0])
        super().__init__(engine, phases, folder, lambda paths: segment_arguments(paths, output, parameters), region)

    def load(self, scene, replace: bool = False) -> ResultNodes:
        """The result as nodes, where the CT is now; in place of the CT's earlier results, if `replace`.

        Raises OSError.
        """
        phases = self.phases(scene)
        earlier = [result for result in results_in(scene) if result.ct is phases[0]] if replace else []
        loaded = load_result(scene, self.folder / "result", phases, self._name, self._model)
        for result in earlier:
            remove_result(scene, result)
        return loaded

    def keep_files(self, folder: Path) -> None:
        """Moves what the engine wrote into a new folder in `folder`, of the result's name and a number if need be.

        Raises OSError.
        """
        plain = re.sub(r"[^\w() -]", "_", self._name)
        names = itertools.chain([plain], (f"{plain} ({number})" for number in itertools.count(2)))
        shutil.move(self.folder / "result", next(folder / each for each in names if not (folder / each).exists()))


class ResponsesRun(_EngineRun):
    """Asks every query in a cube of `size_mm` around a place in the CT's own frame (RAS, mm)."""

    def __init__(
        self, engine: Engine, parameters: RunParameters, phases: Sequence, folder: Path,
        centre_ras_mm: Sequence[float], size_mm: float,
    ):  # fmt: skip
        output = folder / "responses.npz"
        super().__init__(
            engine, phases, folder, lambda paths: responses_arguments(paths, output, parameters, centre_ras_mm, size_mm)
        )

    def load(self, scene) -> tuple[np.ndarray, np.ndarray, str]:
        """R `(N, z, y, x)` float32, `(4, 4)`: its voxel index (x, y, z) to the CT's own frame, and whose it is.

        That is the SHA-256 of the network's weights. Raises OSError.
        """
        self.phases(scene)
        with np.load(self.folder / "responses.npz", allow_pickle=False) as stored:
            return stored["values"].astype(np.float32), stored["to_ras"], str(stored["weights_sha256"])


def _ijk_to_ras(volume) -> list[float]:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return [matrix.GetElement(row, column) for row in range(4) for column in range(4)]
