"""How long a move of the heatmap's threshold takes, from the hand to the picture.

    python Testing/benchmarks/slider/latency.py

The sample CT of `maxquery demo`, segmented by the shipped model and stretched along the body to 512 x 512 x 300 voxels.
The threshold goes from percentile 90 up to 99.9 and back in steps; each step updates overlay and OOD segment, then
draws the three slice views, in software. Writes milliseconds (median, 95 %) into report.json beside this file.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import slicer
from scipy import ndimage

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[2] / "MaxQuerySegmentation")]
sys.modules["slicer.i18n"] = ModuleType("slicer.i18n")  # the MRML wheel has no translations
sys.modules["slicer.i18n"].tr = lambda text: text

from Testing.segmentation_module.scenes import slicer_scene  # noqa: E402
from Testing.segmentation_module.views import SliceView  # noqa: E402

from maxquery.display import heat_colours  # noqa: E402
from maxquery.samples import fetch_sample  # noqa: E402
from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale  # noqa: E402
from MaxQuerySegmentationLib.heatmap import Heatmap  # noqa: E402
from MaxQuerySegmentationLib.ood_segment import OodSegment  # noqa: E402
from MaxQuerySegmentationLib.result_loading import load_result  # noqa: E402
from MaxQuerySegmentationLib.result_nodes import ResultNodes  # noqa: E402
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly  # noqa: E402

SLICES = 300
THRESHOLDS = np.concatenate([np.linspace(90, 99.9, 60), np.linspace(99.9, 90, 60)])
MINIMUM_ML = 0.1


def stretched(node, order: int) -> None:
    """Gives a volume node SLICES slices, over the same length."""
    array, spacing = slicer.util.arrayFromVolume(node), list(node.GetSpacing())
    factor = SLICES / len(array)
    slicer.util.updateVolumeFromArray(node, ndimage.zoom(array, (factor, 1, 1), order=order))
    node.SetSpacing(spacing[0], spacing[1], spacing[2] / factor)


def result_of(folder: Path, ct_file: Path) -> ResultNodes:
    """What the engine left in `folder`, as the module loads it, with more slices."""
    ct = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(ct_file))
    storage.ReadData(ct)
    ct.CreateDefaultDisplayNodes()
    result = load_result(slicer.mrmlScene, folder, [ct], "benchmark", "liver-demo")
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.vtkSlicerSegmentationsModuleLogic.ExportAllSegmentsToLabelmapNode(result.segmentation, labels)
    for node, order in ((ct, 1), (result.raw, 1), (result.anomaly, 1), (labels, 0)):
        stretched(node, order)
    segments = result.segmentation.GetSegmentation()
    segments.RemoveAllSegments()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, result.segmentation)
    ids = [segments.GetNthSegmentID(n) for n in range(segments.GetNumberOfSegments())]
    result.segmentation.SetAttribute("MaxQuery.Segments", "\n".join(ids))
    slicer.mrmlScene.RemoveNode(labels)
    return result


def measure(region: str, result: ResultNodes, views: list[SliceView]) -> dict[str, float]:
    start = time.perf_counter()
    anomaly = SearchedAnomaly(
        result, AnomalyScale.of(slicer.util.arrayFromVolume(result.raw), result.calibration), region == "everywhere"
    )
    heatmap, ood = Heatmap(slicer.mrmlScene, result, heat_colours()), OodSegment(result, anomaly)
    heatmap.draw(anomaly, "percentile")
    heatmap.show(0.5)
    prepared = time.perf_counter() - start
    updates, wholes = [], []
    for threshold in THRESHOLDS:
        start = time.perf_counter()
        heatmap.set_range(threshold, 100.0)
        ood.update(threshold, "percentile", MINIMUM_ML)
        updates.append(time.perf_counter() - start)
        for view in views:
            view.render()
        wholes.append(time.perf_counter() - start)
    return {"prepare_once_s": round(prepared, 2)} | {
        f"{name}_{part}_ms": round(1000 * float(np.percentile(seconds, percent)), 1)
        for name, seconds in (("update", updates), ("update_and_draw", wholes))
        for part, percent in (("median", 50), ("p95", 95))
    }


def main() -> None:
    application = slicer.vtkSlicerApplicationLogic()
    scene = slicer_scene(application)
    views = [SliceView(scene, application, name, 500) for name in ("Red", "Green", "Yellow")]
    ct_file = fetch_sample("abdomen") / "ct.nii.gz"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result"
        command = [sys.executable, "-m", "maxquery", "segment", ct_file, "--output", output, "--units", "raw"]
        subprocess.run(command, check=True, cwd=HERE.parents[2] / "MaxQuerySegmentation")
        result = result_of(output, ct_file)
    slicer.util.setSliceViewerLayers(background=result.ct)
    for view in views:
        view.fit()
    report = {
        "shape_xyz": result.raw.GetImageData().GetDimensions(), "moves": len(THRESHOLDS),
        "views": "3 of 500 x 500 pixels", "processors": os.cpu_count(),
        **{region: measure(region, result, views) for region in ("organ", "everywhere")},
    }  # fmt: skip
    (HERE / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
