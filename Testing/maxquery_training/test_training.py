"""The trainers on real nnU-Net: from files on disk through both stages to a bundle that segments."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from maxquery.labels import Label
from maxquery_training.dataset import UNKNOWN_TUMOUR, TrainingCase, write_raw_dataset
from maxquery_training.label_scheme import ORGAN
from maxquery_training.preset import PAPER_LIVER, PAPER_PANCREAS, Preset

SMALL = Preset(
    spacing_zyx_mm=(4.0, 3.0, 3.0), patch_zyx=(8, 32, 32), features=(4, 8, 8, 8),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)), convolutions=(1, 1, 1, 1), query_channels=16,
    embedding_channels=8, iterations=2, validation_iterations=1, backbone_epochs=1, joint_epochs=2, frozen_epochs=1,
    mirror=False, rotation_degrees=15.0, window_hu=(-160.0, 240.0), plant=1.0,
)  # fmt: skip
DATASET_ID, DATASET = 998, "Dataset998_Phantom"


def _write_case(folder, name: str, seed: int) -> TrainingCase:
    """A body with a liver, in which a real tumour of unknown type lies."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 48, 48)], indexing="ij")
    mask = ((z / 0.9) ** 2 + ((y - 0.1) / 0.6) ** 2 + ((x + 0.2) / 0.6) ** 2 < 1).astype(np.uint8)
    mask[(z**2 + y**2 + (x + 0.4) ** 2) < 0.03] = 2
    hu = np.where(y**2 + x**2 < 0.95, 40, -160) + 60 * (mask == 1) + rng.normal(0, 10, z.shape)
    for kind, array in (("ct", hu.clip(-160, 240).astype(np.int16)), ("seg", mask)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((3.0, 3.0, 4.0))
        sitk.WriteImage(image, str(folder / f"{name}_{kind}.nii.gz"))
    labels = {1: ORGAN, 2: UNKNOWN_TUMOUR}
    return TrainingCase(name, name, folder / f"{name}_ct.nii.gz", folder / f"{name}_seg.nii.gz", labels, weight=seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`(checkpoint, plans, folder of the images)` after one backbone epoch and two joint epochs."""
    work = tmp_path_factory.mktemp("training")
    images = work / "images"
    images.mkdir()
    before = dict(os.environ)
    os.environ.update({f"nnUNet_{n}": str(work / n) for n in ("raw", "preprocessed", "results")})
    os.environ["nnUNet_n_proc_DA"] = "1"
    from maxquery_training.planning import plan_and_preprocess
    from maxquery_training.stages import train, trained

    raw = work / "raw" / DATASET
    cases = [_write_case(images, f"case{i}", i) for i in (1, 2, 3)]
    write_raw_dataset(raw, cases, held_out_patients=["case3"])
    (work / "results").mkdir()
    plans = plan_and_preprocess(DATASET_ID, DATASET, SMALL, processes=1)
    os.environ["nnUNet_n_proc_DA"] = "0"  # load and augment in this process
    train(plans, json.loads((raw / "dataset.json").read_text()), torch.device("cpu"))
    checkpoint, seconds = trained(DATASET)
    assert seconds > 0
    yield checkpoint, plans, images
    os.environ.clear()
    os.environ.update(before)


def test_a_held_out_patient_never_enters_training_and_weights_repeat_a_case(trained):
    checkpoint, _, _ = trained
    splits = checkpoint.parents[4] / "preprocessed" / DATASET / "splits_final.json"
    assert json.loads(splits.read_text()) == [{"train": ["case1", "case2", "case2"], "val": ["case3"]}]


def test_the_backbone_rests_while_frozen_and_then_moves_at_a_tenth(trained):
    from maxquery_training.trainers import FreezeThenPolynomial

    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.RAdam([{"params": [torch.nn.Parameter(torch.ones(1))]}, {"params": [weight]}], lr=1.0)
    schedule = FreezeThenPolynomial(optimizer, PAPER_LIVER)
    rates = {}
    for epoch in (0, 49, 50, 199):
        schedule.step(epoch)
        rates[epoch] = tuple(group["lr"] for group in optimizer.param_groups)
        assert weight.requires_grad == (epoch >= 50)
    assert rates[0] == (1e-4, 0.0) and rates[49][1] == 0.0
    assert rates[50][0] == pytest.approx(1e-4 * (1 - 50 / 200) ** 0.9)
    for epoch in (50, 199):
        assert rates[epoch][1] == pytest.approx(0.1 * rates[epoch][0])


def test_the_joint_stage_starts_from_the_trained_backbone(trained):
    checkpoint, _, _ = trained
    backbone = next(checkpoint.parents[2].glob("BackboneTrainer__*/fold_0/checkpoint_final.pth"))
    first, last = (torch.load(p, weights_only=False)["network_weights"] for p in (backbone, checkpoint))
    shared = [name for name in last if ".seg_layers." not in name]
    assert shared and set(shared) <= set(first)
    # One epoch of two steps at a tenth of 1e-4 moves them, and hardly.
    assert all((first[n] - last[n]).abs().max() < 1e-3 for n in shared)


def test_the_checkpoint_becomes_a_bundle_that_is_calibrated_and_segments(trained):
    from maxquery.prediction import PredictionParameters, predict
    from maxquery.reading import read_case
    from maxquery_training.calibration import calibrate
    from maxquery_training.evaluation import measure, ood_localisation, segmentation_figures
    from maxquery_training.export import export
    from maxquery_training.planted_cases import planted_case

    checkpoint, plans, images = trained
    names = ("background", "liver", "hcc", "icc", "metastasis", "haemangioma", "cyst")
    roles = ("background", "organ", *["tumour"] * 5)
    labels = [Label(i, n, r, (i, i, i)) for i, (n, r) in enumerate(zip(names, roles, strict=True))]
    pair = [images / "case3_ct.nii.gz", images / "case3_seg.nii.gz"]
    volume = read_case(pair[:1]).volume
    training = {"data": "phantoms", "limits": "all", "command": "none", "seed": 0, "duration_seconds": 1}
    bundle = export(
        checkpoint, plans, labels, volume, name="phantom", version="0", licence="none", description="a test",
        channels=("CT",), training=training, model_card="",
    )  # fmt: skip
    for query in bundle.queries:
        assert sum(query.class_probabilities) == pytest.approx(1, abs=1e-3)

    parameters = PredictionParameters(device="cpu")
    inlier, outlier = (planted_case(*pair, [kind], 0) for kind in ("cyst", "fat"))
    bundle = calibrate(bundle, [inlier], parameters)
    prediction = predict(inlier.volume, bundle, parameters)
    below = bundle.calibration.percentile(prediction.anomaly[inlier.inlier]) < 90
    assert below.mean() == pytest.approx(0.9, abs=0.02)
    measured = measure(inlier, bundle, parameters)
    assert set(segmentation_figures([measured])) == set(names[1:])
    figures = ood_localisation([measured, measure(outlier, bundle, parameters)])
    assert all(0 <= value <= 1 for score in figures.values() for value in score.values())


def test_the_papers_numbers_are_the_defaults():
    assert (PAPER_LIVER.spacing_zyx_mm, PAPER_LIVER.patch_zyx) == ((3.0, 0.76, 0.76), (40, 192, 224))
    assert (PAPER_PANCREAS.spacing_zyx_mm, PAPER_PANCREAS.patch_zyx) == ((3.0, 0.419, 0.419), (28, 192, 320))
    for preset in (PAPER_LIVER, PAPER_PANCREAS):
        assert (preset.backbone_epochs, preset.joint_epochs, preset.frozen_epochs) == (1000, 200, 50)
        assert (preset.batch_size, preset.query_rate, preset.backbone_rate_factor) == (2, 1e-4, 0.1)
        assert (preset.query_distribution, preset.qd_weight) == ((16, 4, 12), 0.1)
