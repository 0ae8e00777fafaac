"""The scores that MaxQuery is compared with, against their formulas."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from maxquery.backbone import build_backbone
from maxquery.network import Output
from maxquery.volume import Grid, Volume
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.near_ood.feature_distance import Mahalanobis, Neighbours, TumourNeighbours
from maxquery_training.near_ood.methods import METHODS, Fitted, scores_of
from maxquery_training.near_ood.monte_carlo_dropout import SAMPLES, DropoutNet, with_dropout
from maxquery_training.near_ood.resynthesis import Compared, SynthCP, Synthesis, SynthesisLoss, one_hot
from maxquery_training.near_ood.samples import Samples, mutual_information, predictive_entropy, samples_of
from maxquery_training.near_ood.segmenters import BottleneckTransformer, SegmentingNet, SwinNet
from maxquery_training.near_ood.standardised_maxlogit import StandardisedMaxLogit
from maxquery_training.near_ood.training_voxels import Voxels, training_voxels
from maxquery_training.stock import Logits, StockNet

from ..maxquery.networks import BACKBONE, PATCH, tiny_bundle

K, C = 3, 4


@pytest.fixture
def voxels() -> Voxels:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % K
    features = torch.randn(600, C, generator=generator) * torch.tensor([3.0, 1, 1, 0.2]) + 5 * labels[:, None]
    logits = torch.randn(600, K, generator=generator) + 4 * functional.one_hot(labels, K) * (1 + labels[:, None])
    return Voxels(features, logits, labels, torch.tensor([0.7, 0.2, 0.1]))


def output(logits: torch.Tensor, features: torch.Tensor | None = None) -> Logits:
    return Logits(logits, torch.zeros(1, C, *logits.shape[2:]) if features is None else features)


def test_sml_standardises_by_the_predicted_class(voxels):
    score = StandardisedMaxLogit.fit(voxels, width=0, dilation=0)
    logits = torch.randn(1, K, 3, 4, 5) * 6
    largest, predicted = voxels.logits.max(dim=1)
    occurring = voxels.shares[voxels.labels]  # the bank has as many of each label
    for z, y, x in itertools.product(range(3), range(4), range(5)):
        value, k = logits[0, :, z, y, x].max(dim=0)
        own, weights = largest[predicted == k].numpy(), occurring[predicted == k].numpy()
        mean = np.average(own, weights=weights)
        expected = -(value - mean) / np.sqrt(np.average((own - mean) ** 2, weights=weights))
        assert score(output(logits))[0, z, y, x] == pytest.approx(float(expected), abs=1e-4)


def test_sml_takes_the_score_at_a_boundary_from_around():
    logits = torch.zeros(1, 2, 12, 12, 12)
    logits[:, 0, :, :, :6], logits[:, 1, :, :, 6:] = 5.0, 5.0
    logits[..., 5:7] *= 0.1  # unsure where the two classes meet
    plain, suppressed = (
        StandardisedMaxLogit(torch.zeros(2), torch.ones(2), width=width, dilation=0)(output(logits)) for width in (0, 2)
    )
    assert plain[0, 6, 6, 5] > plain[0, 6, 6, 2]
    assert suppressed[0, 6, 6, 5] == pytest.approx(float(suppressed[0, 6, 6, 2]), abs=1e-4)


def test_sml_smooths_by_a_gaussian_with_gaps():
    logits = torch.zeros(1, 2, 21, 21, 21)
    logits[0, 0] = 1.0
    logits[0, 0, 10, 10, 10] = 2.0
    score = -StandardisedMaxLogit(torch.zeros(2), torch.ones(2), width=0, dilation=2)(output(logits)) - 1
    taps = np.exp(-0.5 * (np.arange(7) - 3.0) ** 2)
    taps /= taps.sum()
    assert score[0, 10, 10, 12] == pytest.approx(taps[3] * taps[3] * taps[4], abs=1e-5)
    assert score[0, 10, 10, 11] == pytest.approx(0, abs=1e-6)


def test_mahalanobis_is_the_distance_to_the_nearest_class(voxels):
    score, features = Mahalanobis.fit(voxels), torch.randn(1, C, 2, 3, 4) * 4
    groups = [voxels.features[voxels.labels == k].double().numpy() for k in range(K)]
    shares = voxels.shares.tolist()
    covariance = sum(share * np.cov(group.T, bias=True) for share, group in zip(shares, groups, strict=True))
    inverse = np.linalg.inv(covariance + 1e-4 * covariance.diagonal().mean() * np.eye(C))
    for z, y, x in itertools.product(range(2), range(3), range(4)):
        voxel = features[0, :, z, y, x].double().numpy()
        expected = min(math.sqrt((voxel - g.mean(0)) @ inverse @ (voxel - g.mean(0))) for g in groups)
        assert score(output(torch.zeros(1, K, 2, 3, 4), features))[0, z, y, x] == pytest.approx(expected, rel=1e-3)


def test_neighbours_is_the_distance_to_the_kth_nearest(voxels):
    score, features = Neighbours.fit(voxels, k=3, size=60), torch.randn(1, C, 2, 3, 4)
    unit = functional.normalize(features, dim=1)
    for z, y, x in itertools.product(range(2), range(3), range(4)):
        distances = sorted((score.bank - unit[0, :, z, y, x]).norm(dim=1).tolist())
        assert score(output(torch.zeros(1, K, 2, 3, 4), features))[0, z, y, x] == pytest.approx(distances[2], abs=1e-3)


def test_the_nearest_of_all_and_in_tumours_alone(voxels):
    logits, features = torch.randn(1, K, 2, 3, 4), torch.randn(1, C, 2, 3, 4)
    score = Neighbours.fit(voxels, k=1, size=60)
    distances = (score.bank[:, :, None] - functional.normalize(features, dim=1).flatten(2)).norm(dim=1)
    nearest = distances.amin(dim=0).reshape(1, 2, 3, 4)
    torch.testing.assert_close(score(output(logits, features)), nearest, atol=1e-3, rtol=0)
    tumour = logits.softmax(dim=1)[:, 2:].sum(dim=1)
    found = TumourNeighbours.fit(voxels, k=1, size=60)(output(logits, features))
    torch.testing.assert_close(found, (tumour * nearest).sqrt(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("alike", "counts"), [(False, [42, 12, 6]), (True, [20, 20, 20])])
def test_neighbours_are_of_each_class_as_often_as_it_occurs_or_alike(alike, counts, voxels):
    bank, unit = Neighbours.fit(voxels, size=60, alike=alike).bank, functional.normalize(voxels.features, dim=1)
    labels = voxels.labels[(unit[:, None] == bank).all(dim=2).int().argmax(dim=0)]
    assert labels.bincount().tolist() == counts


def test_samples_that_agree_carry_no_information():
    one = torch.randn(1, 1, K, 2, 2, 2).softmax(dim=2)
    agreed = Samples(one[0].log(), one[0], one.repeat(5, 1, 1, 1, 1, 1))
    assert mutual_information(agreed).abs().max() < 1e-6
    expected = -(one[0] * one[0].log()).sum(dim=1)
    assert torch.allclose(predictive_entropy(agreed), expected, atol=1e-6)


def test_samples_that_contradict_each_other_carry_all_of_it():
    certain = torch.eye(2).reshape(2, 1, 2, 1, 1, 1)
    contradicting = Samples(certain[0], certain[0], certain)
    assert mutual_information(contradicting).item() == pytest.approx(math.log(2))


def test_the_class_of_several_answers_is_that_of_their_mean_probability():
    answers = [Logits(torch.tensor(logits).reshape(1, 3, 1, 1, 1), torch.zeros(1, C, 1, 1, 1))
               for logits in ([0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 9.0])]  # fmt: skip
    segmentation = samples_of(answers).segmentation.flatten()
    expected = torch.stack([answer.segmentation.flatten().softmax(dim=0) for answer in answers]).mean(dim=0)
    assert torch.allclose(segmentation.exp(), expected) and segmentation.argmax() == 1, "the mean of logits has 2"


def test_dropout_is_on_when_the_network_predicts():
    unet = build_backbone(BACKBONE["network_class_name"], BACKBONE["arch_kwargs"], 1).eval()
    image = torch.randn(1, 1, 8, 32, 32)
    assert torch.equal(unet(image), unet(image))
    with_dropout(unet)
    assert not torch.equal(unet(image), unet(image))


def test_what_torchs_compiler_wraps_takes_a_backbones_weights_too(planned):
    from maxquery_training.near_ood.trainers import ContinuedTrainer

    plans = planned.read_plans() | {"continue_training": False}
    trainer = ContinuedTrainer(plans, "3d_fullres", 0, planned.read_description(), torch.device("cpu"))
    trainer.initialize()
    weights = {name: tensor + 1 for name, tensor in trainer.network.state_dict().items()}
    trainer.network = torch.compile(trainer.network, backend="eager")  # as nnU-Net does on a GPU
    trainer.load_backbone(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in trainer.bare_network.state_dict().items())


class Untrained(StockNet):
    def __init__(self):
        torch.nn.Module.__init__(self)
        self.unet = build_backbone(BACKBONE["network_class_name"], BACKBONE["arch_kwargs"], 1).eval()


def test_what_pads_a_thin_ct_is_of_no_tissue():
    grid = Grid((*PATCH[:0:-1], 1), (3.0, 3.0, 4.0), (0.0, 0.0, 0.0))
    truth = np.ones(grid.shape_zyx, np.uint8)
    truth[..., :4] = 0
    case = LabelledCase("thin", "p", Volume(np.full((1, *grid.shape_zyx), 60.0, np.float32), grid), truth, ignore=2)
    found = training_voxels(Untrained(), [case], tiny_bundle(), seed=0)
    assert len(found.labels) == truth.size
    torch.testing.assert_close(found.shares[:2], torch.tensor([4.0, PATCH[2] - 4]) / PATCH[2])


def test_samples_are_what_a_network_with_dropout_answers_though_its_encoder_is_asked_once():
    one, image = Untrained(), torch.randn(1, 1, 8, 32, 32)
    other = copy.deepcopy(one)
    with_dropout(other.unet)
    samples = DropoutNet(one)(image)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = samples_of([other(image) for _ in range(SAMPLES)])
    assert torch.equal(samples.segmentation, expected.segmentation)


@pytest.mark.parametrize("network", [Untrained(), SegmentingNet(torch.nn.Conv3d(1, K, 3, padding=1), torch.zeros(K))])
def test_rivals_logits_are_as_fine_as_ours_where_a_computer_takes_16_bit(network):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(1, 1, 8, 32, 32)).segmentation
    assert len(logits.unique()) > 0.9 * logits.numel()  # in 16 bit most would be equal


@pytest.mark.parametrize(
    ("kind", "variant"), [(kind, variant) for kind in METHODS for variant in scores_of(kind, "network")]
)
def test_every_method_answers_a_finite_number_a_voxel_in_32_bit(kind, variant, voxels):
    score = scores_of(kind, "network")[variant]
    score = score.by(voxels) if isinstance(score, Fitted) else score
    logits, features = torch.randn(1, K, 6, 7, 8), torch.randn(1, C, 6, 7, 8)
    answer: Logits | Output = output(logits, features)
    if kind in ("dropout", "ensemble"):
        answer = samples_of([output(torch.randn_like(logits), features) for _ in range(3)])
    if kind == "synthesis":
        answer = Compared(logits, features, torch.rand(1, 6, 7, 8))
    if kind == "maxquery":
        answer = Output(torch.randn(1, 5, 6, 7, 8), torch.randn(1, 5, K), ())
    found = score(answer)
    assert found.shape == (1, 6, 7, 8)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_synthcp_asks_the_comparison_only_where_the_network_is_unsure():
    logits = torch.tensor([[20.0, 0.0], [1.0, 0.0]]).T.reshape(1, 2, 1, 1, 2)
    alike = torch.tensor([0.1, 0.3]).reshape(1, 1, 1, 2)
    score = SynthCP()(Compared(logits, logits, alike)).flatten()
    assert score.tolist() == pytest.approx([0.0, 0.7], abs=1e-4)


def test_what_is_to_be_painted_has_the_grey_values_of_the_ct(planned):
    from maxquery_training.near_ood.resynthesis import SynthesisTrainer

    plans = planned.read_plans() | {"continue_training": False}
    trainer = SynthesisTrainer(plans, "3d_fullres", 0, planned.read_description(), torch.device("cpu"))
    turned = trainer.get_training_transforms((8, 32, 32), (0.0, 0.0), None, (0, 1, 2), False, ignore_label=3)
    image, labels = torch.full((1, 8, 32, 32), -1.0), torch.zeros(1, 8, 32, 32)
    image[..., :16] = 2.0
    for _ in range(20):
        seen = turned(image=image.clone(), segmentation=labels.clone())["image"]
        assert (seen.min(), seen.max()) == (pytest.approx(-1, abs=1e-3), pytest.approx(2, abs=1e-3))


def test_what_is_to_be_ignored_is_painted_as_nothing():
    assert one_hot(torch.tensor([[[[0, 1, 2]]]]), classes=2)[0, :, 0, 0].T.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_the_critic_learns_nothing_from_the_painters_loss_and_the_painter_nothing_from_the_critics():
    synthesis = Synthesis(torch.nn.Conv3d(2, 1, 1), classes=2, channels=1)
    loss = SynthesisLoss(synthesis.critic, lambda image: Logits(image, torch.cat([image, image**2], dim=1)))
    labels, image = one_hot(torch.randint(0, 2, (1, 16, 16, 16)), 2), torch.randn(1, 1, 16, 16, 16)
    painted, _ = synthesis(labels)

    loss((painted, labels), image).backward()
    both = synthesis.critic[0].weight.grad.clone()
    synthesis.zero_grad()
    real, fake = (synthesis.critic(torch.cat([labels, one.detach()], dim=1)) for one in (image, painted))
    (functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()).backward()
    assert torch.allclose(both, synthesis.critic[0].weight.grad, atol=1e-6)
    assert synthesis.generator.weight.grad is None


def test_swin_unetr_takes_images_of_any_size():
    network = SwinNet(1, 3, 12)
    for shape in ((9, 40, 33), (8, 32, 32)):
        assert network(torch.randn(1, 1, *shape)).shape == (1, 3, *shape)


def test_the_transformer_of_transunet_sees_the_whole_window_and_keeps_its_shape():
    layers, features = BottleneckTransformer(16, (2, 3, 3)).eval(), torch.randn(1, 16, 2, 3, 4)
    changed = features.clone()
    changed[..., -1] = torch.randn(1, 16, 2, 3)
    before, after = layers(features), layers(changed)
    assert before.shape == features.shape
    assert (before - after)[..., 0].abs().max() > 1e-4
