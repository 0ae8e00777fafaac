"""A real MRML scene without a window, and a result of the engine to load into it.

`slicer-core` has no translations: `slicer.i18n` here is a stand-in that gives every text back as it is.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs Slicer's MRML: pip install slicer-core")
if not hasattr(slicer, "vtkMRMLScene"):
    pytest.skip("the installed package 'slicer' is not slicer-core", allow_module_level=True)

i18n = ModuleType("slicer.i18n")
i18n.tr = i18n.translate = lambda *texts: texts[-1]
sys.modules["slicer.i18n"] = i18n
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "MaxQuerySegmentation"))

from .scenes import slicer_scene  # noqa: E402


@pytest.fixture
def application():
    return slicer.vtkSlicerApplicationLogic()


@pytest.fixture
def scene(application):
    scene = slicer_scene(application)
    yield scene
    scene.Clear(1)


@pytest.fixture(scope="session")
def case_files(tmp_path_factory) -> SimpleNamespace:
    """What the engine leaves: a liver with a cyst, and heat in it and beyond; the CT beside."""
    from maxquery.calibration import CalibrationTable
    from maxquery.labels import Label, Query
    from maxquery.nrrd import write_nrrd
    from maxquery.result import REPORT_FORMAT, Finding, Prediction
    from maxquery.volume import Grid, Volume
    from maxquery.writing import write_results

    grid = Grid((40, 36, 20), (2.0, 2.0, 4.0), (-40.0, -30.0, 10.0))
    z, y, x = np.meshgrid(*[np.arange(n) for n in grid.shape_zyx], indexing="ij")
    distance = np.sqrt(((z - 10) * 4) ** 2 + ((y - 18) * 2) ** 2 + ((x - 20) * 2) ** 2)
    labels = (distance < 26).astype(np.uint8)
    labels[distance < 8] = 2
    percentile = np.clip(100 - distance / 2, 0, 100).astype(np.float32)
    percentile[:, :4] = 99.5  # outside the patient's liver
    table = (
        Label(0, "background", "background", (0, 0, 0)),
        Label(1, "liver", "organ", (221, 130, 101)),
        Label(2, "Cyst", "tumour", (70, 160, 240)),
    )
    findings = (
        Finding(1, "OOD region", True, 2.0, 16.0, 15.0, (0.0, -6.0, 50.0), 97.5, 99.9, (3,)),
        Finding(2, "Cyst", False, 1.0, 12.0, 9.0, (2.0, -4.0, 54.0), 50.0, 60.0, (2,)),
    )
    ct = Volume(np.where(distance < 26, 110, -50)[None].astype(np.float32), grid)
    # Raw scores that the calibration below turns into these percentiles.
    calibration = CalibrationTable((-10.0, 0.0), (0.0, 100.0))
    raw = (percentile / 10 - 10).astype(np.float16)
    percentile = calibration.percentile(raw)
    prediction = Prediction(grid, labels, raw, labels + 1, table, (), findings)
    folder = tmp_path_factory.mktemp("case")
    report = {
        "format": REPORT_FORMAT,
        "findings": [asdict(finding) for finding in findings], "case_score": {"raw": -3.0, "percentile": 97.2},
        "volumes_ml": {"liver": 70.0, "Cyst": 1.0}, "calibration": calibration.to_json(),
        "bundle": {
            "name": "test", "version": "1", "score": "maxquery", "smoothing_mm": 0.0, "weights_sha256": 64 * "a"
        },
        "queries": [
            asdict(Query(0, "background", (0.9, 0.1, 0.0))), asdict(Query(1, "organ", (0.1, 0.8, 0.1))),
            asdict(Query(2, "tumour", (0.0, 0.1, 0.9), name="cyst wall")), asdict(Query(3, "tumour", (0.2, 0.2, 0.6))),
        ],
    }  # fmt: skip
    write_results(
        folder / "result", prediction, calibration, "raw", report, ct=ct, preview=False, scene=False, title="test",
        planted="",
    )  # fmt: skip
    write_nrrd(folder / "ct.nrrd", ct.array[0].astype(np.int16), grid, {})
    return SimpleNamespace(
        folder=folder / "result", ct=folder / "ct.nrrd", grid=grid, labels=labels, percentile=percentile, raw=raw
    )


@pytest.fixture
def ct_node(scene, case_files):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Venous")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(case_files.ct))
    assert storage.ReadData(node)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    hierarchy.CreateItem(patient, node)  # Slicer's window does this by itself
    return node


@pytest.fixture
def result(scene, case_files, ct_node):
    from MaxQuerySegmentationLib.result_loading import load_result

    return load_result(scene, case_files.folder, [ct_node], "MaxQuery Venous", "test")


@pytest.fixture
def panel(scene, ct_node, tiny_model, monkeypatch, tmp_path):
    """The module's widget in a stand-in of Slicer's window, an untrained model chosen."""
    pytest.importorskip("PySide6.QtWidgets", reason="needs Qt and its system libraries", exc_type=ImportError)
    from . import host

    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    module = host.load_module(tmp_path)
    installed = {str(tiny_model): module.InstalledModel("An untrained model. Version 0.", ("venous",))}
    monkeypatch.setattr(module, "installed_models", lambda: installed)
    monkeypatch.setattr(module.shutil, "which", lambda name: sys.executable)  # PythonSlicer
    widget = module.MaxQuerySegmentationWidget()
    widget.setup()
    widget._parameters.model = str(tiny_model)
    widget._parameters.device = "cpu"
    yield widget
    widget.cleanup()


@pytest.fixture
def with_result(panel, result):
    """The same, with a result of the CT on show."""
    panel.showResult()
    return panel


@pytest.fixture
def findings_panel(panel) -> ModuleType:
    """For its columns; it can be imported only in a stand-in of Slicer's window."""
    return sys.modules["MaxQuerySegmentationLib.findings_panel"]


@pytest.fixture
def inspector_panel(panel) -> ModuleType:
    """For its columns, too."""
    return sys.modules["MaxQuerySegmentationLib.inspector_panel"]
