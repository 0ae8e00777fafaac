"""How long a move of the heatmap's threshold takes, from the hand to the picture.

    python Testing/benchmarks/slider/latency.py

A CT of 512 x 512 x 300 voxels of 0.75 x 0.75 x 1 mm with a liver of about 1.5 l and a noisy anomaly map: more pieces
than a real one has. The threshold goes up and down in steps; each step updates overlay and OOD segment, then draws the
three slice views. Writes milliseconds (median, 95 %) into report.json beside this file.
"""

import json
import platform
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import slicer
from scipy import ndimage

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[2] / "MaxQuerySegmentation")]
sys.modules["slicer.i18n"] = ModuleType("slicer.i18n")  # the MRML wheel has no translations
sys.modules["slicer.i18n"].tr = lambda text: text

from Testing.segmentation_module.scenes import slicer_scene  # noqa: E402
from Testing.segmentation_module.views import SliceView  # noqa: E402

from maxquery.calibration import CalibrationTable  # noqa: E402
from maxquery.display import heat_colours  # noqa: E402
from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale  # noqa: E402
from MaxQuerySegmentationLib.heatmap import Heatmap  # noqa: E402
from MaxQuerySegmentationLib.ood_segment import OodSegment  # noqa: E402
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly  # noqa: E402

SHAPE, SPACING_XYZ_MM = (300, 512, 512), (0.75, 0.75, 1.0)
LIVER_HALF_AXES_MM = (75.0, 60.0, 80.0)  # z, y, x: 1.5 l
THRESHOLDS = np.concatenate([np.linspace(90, 99.9, 60), np.linspace(99.9, 90, 60)])
MINIMUM_ML = 0.1


def case(scene) -> SimpleNamespace:
    """What a loaded result offers, as far as heatmap and OOD segment ask."""
    coarse = np.random.default_rng(0).normal(size=(150, 128, 128))
    noise = ndimage.zoom(ndimage.gaussian_filter(coarse, 1.2), (2, 4, 4), order=1).astype(np.float32)
    raw = (noise / noise.std() - 5).astype(np.float16).astype(np.float32)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    liver = sum(
        ((i - n / 2) * mm / axis) ** 2
        for i, n, mm, axis in zip((z, y, x), SHAPE, SPACING_XYZ_MM[::-1], LIVER_HALF_AXES_MM, strict=True)
    ) < 1  # fmt: skip

    def volume(array, kind="vtkMRMLScalarVolumeNode"):
        node = slicer.util.addVolumeFromArray(array, nodeClassName=kind)
        node.SetSpacing(SPACING_XYZ_MM)
        return node

    labels = volume(liver.astype(np.uint8), "vtkMRMLLabelMapVolumeNode")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, segmentation)
    segmentation.GetDisplayNode().SetVisibility2DFill(False)
    scene.RemoveNode(labels)
    ct = volume((noise * 100).astype(np.int16))
    ct.CreateDefaultDisplayNodes()
    return SimpleNamespace(
        ct=ct, raw=volume(raw), anomaly=volume(np.zeros(SHAPE, np.float32)), segmentation=segmentation,
        model_segments=[segmentation.GetSegmentation().GetNthSegmentID(0)],
        calibration=CalibrationTable.from_samples(raw[liver]), liver_ml=liver.sum() * np.prod(SPACING_XYZ_MM) / 1000,
    )  # fmt: skip


def measure(region: str, result, views) -> dict[str, float]:
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
    result = case(scene)
    slicer.util.setSliceViewerLayers(background=result.ct)
    for view in views:
        view.fit()
    report = {
        "shape_zyx": SHAPE, "liver_ml": round(float(result.liver_ml)), "moves": len(THRESHOLDS),
        "views": "3 of 500 x 500 pixels, drawn in software", "processor": platform.processor() or platform.machine(),
        **{region: measure(region, result, views) for region in ("organ", "everywhere")},
    }  # fmt: skip
    (HERE / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
