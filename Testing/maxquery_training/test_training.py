"""The trainers on real nnU-Net: from files on disk through both stages to a bundle that segments."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from maxquery.backbone import build_backbone
from maxquery.errors import InputError
from maxquery.labels import Label
from maxquery_training.checkpoints import FINAL, read_checkpoint
from maxquery_training.preset import CONFIGURATION, PAPER_LIVER, PAPER_PANCREAS

from .conftest import DATASET


@pytest.fixture(scope="module")
def trained(planned):
    """`(checkpoint, plans, folder of the images)` after one backbone epoch and two joint epochs."""
    from maxquery_training.stages import train, trained

    train(planned.read_plans(), planned.read_description(), torch.device("cpu"))
    checkpoint, seconds = trained(DATASET)
    assert seconds > 0
    return checkpoint, planned.read_plans(), planned.images


def test_a_held_out_patient_never_enters_training_and_weights_repeat_a_case(trained):
    checkpoint, _, _ = trained
    splits = checkpoint.parents[4] / "preprocessed" / DATASET / "splits_final.json"
    assert json.loads(splits.read_text()) == [{"train": ["case1", "case2", "case2"], "val": ["case3"]}]


@pytest.mark.parametrize("preset", [PAPER_LIVER, PAPER_PANCREAS])
def test_a_papers_preset_has_a_network_for_its_windows_whatever_nnunet_chose_for_the_scans(planned, preset):
    from maxquery_training.planning import with_preset

    plans = planned.read_plans()
    network = plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    network["strides"] = [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]]  # what it plans for a CT of chest, abdomen and pelvis
    with_preset(plans, preset)
    divided_by = np.prod(network["strides"], axis=0)
    assert (np.array(preset.patch_zyx) % divided_by == 0).all()
    architecture = plans["configurations"][CONFIGURATION]["architecture"]
    built = build_backbone(architecture["network_class_name"], architecture["arch_kwargs"], 1).eval()
    window = torch.zeros(1, 1, *(2 * divided_by).tolist())
    with torch.inference_mode():
        assert built(window).shape == window.shape


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
    first, last = (read_checkpoint(p)["network_weights"] for p in (backbone, checkpoint))
    shared = [name for name in last if ".seg_layers." not in name]
    assert shared and set(shared) <= set(first)
    # One epoch of two steps at a tenth of 1e-4 moves them, and hardly.
    assert all((first[n] - last[n]).abs().max() < 1e-3 for n in shared)


NAMES = ("background", "liver", "hcc", "icc", "metastasis", "haemangioma", "cyst")


def exported(trained, plans: dict):
    from maxquery.reading import read_case
    from maxquery_training.export import export

    checkpoint, _, images = trained
    roles = ("background", "organ", *["tumour"] * 5)
    labels = [Label(i, n, r, (i, i, i)) for i, (n, r) in enumerate(zip(NAMES, roles, strict=True))]
    training = {"data": "phantoms", "limits": "all", "command": "none", "seed": 0, "duration_seconds": 1}
    return export(
        checkpoint, plans, labels, read_case([images / "case3_ct.nii.gz"]).volume, name="phantom", version="0",
        licence="none", description="a test", channels=("CT",), training=training, model_card="",
    )  # fmt: skip


def test_a_bundle_knows_nothing_of_what_classes_weighed_in_training(trained):
    from maxquery.network_run import build_network

    plans = trained[1]
    weighted = plans | {"maxquery": plans["maxquery"] | {"group_weights": [1.0, 3.0, 15.0]}}
    window = torch.randn(1, 1, *plans["maxquery"]["patch_zyx"])
    with torch.inference_mode():
        as_trained, freed = (build_network(exported(trained, p))(window).segmentation for p in (plans, weighted))
    log = torch.tensor([1.0, 3.0, *[15.0] * 5]).log()[:, None, None, None]
    torch.testing.assert_close(as_trained - freed, log.expand(freed.shape), atol=0.01, rtol=0)  # stored in 16 bit


def test_the_checkpoint_becomes_a_bundle_that_is_calibrated_and_segments(trained):
    from maxquery.prediction import PredictionParameters, predict
    from maxquery_training.calibration import calibrate
    from maxquery_training.evaluation import measure, ood_localisation, scores_of, segmentation_figures
    from maxquery_training.planted_cases import planted_case

    _, plans, images = trained
    bundle, pair = exported(trained, plans), [images / "case3_ct.nii.gz", images / "case3_seg.nii.gz"]
    for query in bundle.queries:
        assert sum(query.class_probabilities) == pytest.approx(1, abs=1e-3)

    parameters = PredictionParameters(device="cpu")
    inlier, outlier = (planted_case(*pair, [kind], 0) for kind in ("cyst", "fat"))
    bundle = calibrate(bundle, [inlier], parameters)
    prediction = predict(inlier.volume, bundle, parameters)
    below = bundle.calibration.percentile(prediction.anomaly[inlier.inlier]) < 90
    assert below.mean() == pytest.approx(0.9, abs=0.02)
    assert bundle.case_calibration is None  # the heatmap shows Eq. 9 itself

    doubting = calibrate(replace(bundle, score="type_entropy"), [inlier], parameters)
    assert doubting.case_calibration == bundle.calibration != doubting.calibration
    assert predict(inlier.volume, doubting, parameters).case_score == prediction.case_score
    measured = measure(inlier, bundle, parameters, scores_of(bundle))
    assert list(segmentation_figures([measured])) == list(NAMES[1:])
    figures = ood_localisation([measured, measure(outlier, bundle, parameters, scores_of(bundle))])
    assert all(0 <= value <= 1 for score in figures.values() for value in score.values())


@pytest.mark.parametrize("batch_dice", [False, True])
def test_dice_is_taken_of_a_batch_or_of_each_window_as_the_plans_say_in_both_stages(planned, batch_dice):
    from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer

    for trainer_class in (BackboneTrainer, MaxQueryTrainer):
        plans = planned.read_plans() | {"continue_training": False}
        plans["configurations"][CONFIGURATION]["batch_dice"] = batch_dice
        trainer = trainer_class(plans, CONFIGURATION, 0, planned.read_description(), torch.device("cpu"))
        trainer.initialize()
        (dice,) = [part for part in trainer.loss.modules() if isinstance(part, MemoryEfficientSoftDiceLoss)]
        assert dice.batch_dice is batch_dice


def test_the_papers_numbers_are_the_defaults():
    assert (PAPER_LIVER.spacing_zyx_mm, PAPER_LIVER.patch_zyx) == ((3.0, 0.76, 0.76), (40, 192, 224))
    assert (PAPER_PANCREAS.spacing_zyx_mm, PAPER_PANCREAS.patch_zyx) == ((3.0, 0.419, 0.419), (28, 192, 320))
    for preset in (PAPER_LIVER, PAPER_PANCREAS):
        assert (preset.backbone_epochs, preset.joint_epochs, preset.frozen_epochs) == (1000, 200, 50)
        assert (preset.batch_size, preset.query_rate, preset.backbone_rate_factor) == (2, 1e-4, 0.1)
        assert (preset.query_distribution, preset.qd_weight) == ((16, 4, 12), 0.1)


def test_stock_nnunet_segments_with_a_model_of_ours(trained, tmp_path, monkeypatch):
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from maxquery_training.trainers import MaxQueryTrainer

    # On its command line nnU-Net looks the trainer up among nnUNet_extTrainer's, after importing every one of its
    # own, some of which need more packages than training does.
    monkeypatch.setattr(predict_from_raw_data, "recursive_find_trainer_class_by_name", lambda name: MaxQueryTrainer)
    checkpoint, _, images = trained
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(checkpoint.parents[1]), use_folds=(0,))
    image = images / "case3_ct.nii.gz"
    predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "case3.nii.gz")])
    segmented = sitk.ReadImage(str(tmp_path / "case3.nii.gz"))
    assert segmented.GetSize() == sitk.ReadImage(str(image)).GetSize()
    assert set(np.unique(sitk.GetArrayFromImage(segmented))) <= set(range(7))


def test_a_stock_checkpoint_of_the_same_plans_is_a_backbone(trained, planned, tmp_path, monkeypatch):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from maxquery_training.stages import train

    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    plans = planned.read_plans() | {"continue_training": False}
    stock = nnUNetTrainer(plans, "3d_fullres", 0, planned.read_description(), torch.device("cpu"))
    stock.num_epochs = stock.num_iterations_per_epoch = stock.num_val_iterations_per_epoch = 1
    stock.run_training()
    stock_checkpoint = Path(stock.output_folder) / FINAL
    final = train(planned.read_plans(), planned.read_description(), torch.device("cpu"), backbone=stock_checkpoint)
    weights = read_checkpoint(stock_checkpoint)["network_weights"]
    learned = read_checkpoint(final)["network_weights"]
    shared = [name for name in learned if name.startswith(("encoder.", "decoder.")) and ".seg_layers." not in name]
    # As above: two steps at a tenth of 1e-4 hardly move them.
    assert shared and all((weights[n] - learned[n]).abs().max() < 1e-3 for n in shared)


def test_a_backbone_of_other_plans_is_refused(planned, tmp_path, monkeypatch):
    from maxquery_training.stages import train

    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    torch.save({"network_weights": {"encoder.stages.0.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"The backbone is not of these plans: \d+ of \d+ tensors do not fit"):
        train(planned.read_plans(), planned.read_description(), torch.device("cpu"), backbone=tmp_path / "other.pth")
