"""Each equation of the paper against a loop written straight from its formula."""

import math

import pytest
import torch

from maxquery import anomaly, kmeans_attention, network, pixel_embedding
from maxquery.backbone import attended_scales

from .networks import BACKBONE, DISTRIBUTION, LABELS, PATCH, tiny_network


@pytest.fixture
def output() -> network.Output:
    torch.manual_seed(1)
    return network.Output(torch.randn(2, 5, 2, 3, 4) * 3, torch.randn(2, 5, 3), ())


def _voxels(tensor):
    batch, _, *size = tensor.shape
    for b in range(batch):
        for z in range(size[0]):
            for y in range(size[1]):
                for x in range(size[2]):
                    yield b, (z, y, x), tensor[b, :, z, y, x].tolist()


def test_eq_2_every_cluster_receives_the_sum_of_its_own_pixels():
    torch.manual_seed(0)
    logits, values = torch.randn(2, 4, 30), torch.randn(2, 30, 6)
    gathered = kmeans_attention.gather(kmeans_attention.assign(logits), values)
    expected = torch.zeros(2, 4, 6)
    for b in range(2):
        for pixel in range(30):
            affinities = logits[b, :, pixel].tolist()
            owner = affinities.index(max(affinities))
            expected[b, owner] += values[b, pixel]
    torch.testing.assert_close(gathered, expected)


def test_eq_2_gives_no_gradient_to_the_affinities_but_their_supervision_does():
    block = kmeans_attention.KMeansBlock(6, 16, heads=8, drop_path=0.0)
    queries, logits = block(torch.randn(1, 4, 16), torch.randn(1, 6, 2, 4, 4))
    queries.sum().backward(retain_graph=True)
    assert block.to_key.weight.grad is None
    logits.square().mean().backward()
    assert block.to_key.weight.grad.abs().sum() > 0


def test_a_block_begins_by_leaving_queries_what_they_are():
    block, queries = kmeans_attention.KMeansBlock(6, 16, heads=8, drop_path=0.0), torch.randn(1, 4, 16)
    assert torch.equal(block(queries, torch.randn(1, 6, 2, 4, 4))[0], queries)


def test_eq_2_adds_to_each_query_what_its_cluster_gathered():
    block = kmeans_attention.KMeansBlock(6, 16, heads=8, drop_path=0.0)
    torch.nn.init.eye_(block.from_gathered.weight)
    queries, pixels = torch.randn(1, 4, 16), torch.randn(1, 6, 2, 4, 4)
    updated, logits = block(queries, pixels)
    values = block.to_value(pixels).flatten(2).transpose(1, 2)
    gathered = kmeans_attention.gather(kmeans_attention.assign(logits.flatten(2)), values)
    torch.testing.assert_close(updated, queries + block.gathered_norm(gathered))


def test_response_is_the_product_of_centre_and_pixel_feature():
    torch.manual_seed(0)
    centres, pixels = torch.randn(2, 5, 7), torch.randn(2, 7, 2, 3, 4)
    response = network.query_response(centres, pixels)
    for b, (z, y, x), feature in _voxels(pixels):
        for n in range(5):
            expected = sum(c * p for c, p in zip(centres[b, n].tolist(), feature, strict=True))
            assert response[b, n, z, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_eq_3_assignment_is_the_softmax_over_queries(output):
    assignment = network.cluster_assignment(output.responses)
    for b, (z, y, x), responses in _voxels(output.responses):
        total = sum(math.exp(r) for r in responses)
        for n, r in enumerate(responses):
            assert assignment[b, n, z, y, x].item() == pytest.approx(math.exp(r) / total, abs=1e-6)


def test_eq_4_segmentation_weighs_each_querys_classes_by_its_assignment(output):
    for b, (z, y, x), shares in _voxels(network.cluster_assignment(output.responses)):
        for k in range(3):
            expected = sum(output.classification[b, n, k].item() * m for n, m in enumerate(shares))
            assert output.segmentation[b, k, z, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_eq_9_anomaly_is_minus_the_maximal_response(output):
    for b, (z, y, x), responses in _voxels(output.responses):
        assert anomaly.maxquery(output)[b, z, y, x].item() == pytest.approx(-max(responses), abs=1e-6)


def test_the_scores_it_is_compared_with_follow_their_formulas(output):
    assignment, logits = network.cluster_assignment(output.responses), output.segmentation
    for b, (z, y, x), shares in _voxels(assignment):
        assert anomaly.max_assignment(output)[b, z, y, x].item() == pytest.approx(1 - max(shares), abs=1e-6)
    for b, (z, y, x), classes in _voxels(logits):
        assert anomaly.maxlogit(output)[b, z, y, x].item() == pytest.approx(-max(classes), abs=1e-6)
        total = sum(math.exp(c) for c in classes)
        expected = 1 - max(math.exp(c) / total for c in classes)
        assert anomaly.msp(output)[b, z, y, x].item() == pytest.approx(expected, abs=1e-6)
        assert anomaly.energy(output)[b, z, y, x].item() == pytest.approx(-math.log(total), abs=1e-5)
        types = [math.exp(c) / total for c in classes[2:]]
        assert anomaly.type_doubt(output)[b, z, y, x].item() == pytest.approx(sum(types) - max(types), abs=1e-6)
        entropy = -sum(p * math.log(p / sum(types)) for p in types)
        assert anomaly.type_entropy(output)[b, z, y, x].item() == pytest.approx(entropy, abs=1e-6)


def test_tumour_maxquery_is_high_at_tumours_that_no_query_answers(output):
    tumour = anomaly.tumour_probability(output)
    for b, (z, y, x), responses in _voxels(output.responses):
        expected = math.sqrt(tumour[b, z, y, x].item() / (1 + math.exp(max(responses))))
        assert anomaly.tumour_maxquery(output)[b, z, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_folding_keys_and_values_into_the_queries_changes_no_number():
    torch.manual_seed(0)
    block = tiny_network().query_decoder.blocks[0]
    channels = block.to_key.in_channels
    torch.nn.init.normal_(block.key_norm.weight), torch.nn.init.normal_(block.key_norm.bias)
    pixels, queries = torch.randn(2, channels, 4, 5, 6) * 3 + 1, torch.randn(2, 7, block.to_key.out_channels)
    keys, values = block.key_norm(block.to_key(pixels)).flatten(2), block.to_value(pixels).flatten(2)
    logits = kmeans_attention.affinity(queries, pixels.flatten(2), block.to_key, block.key_norm)
    torch.testing.assert_close(logits, queries @ keys, atol=1e-4, rtol=1e-4)
    assignment = kmeans_attention.assign(logits)
    torch.testing.assert_close(
        kmeans_attention.gather_values(assignment, pixels.flatten(2), block.to_value),
        kmeans_attention.gather(assignment, values.transpose(1, 2)), atol=1e-4, rtol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("response", network.RESPONSES)
def test_a_window_read_out_slab_by_slab_is_the_window(response, monkeypatch):
    monkeypatch.setattr(pixel_embedding, "_SLAB_VOXELS", 3 * PATCH[1] * PATCH[2])
    net, image = tiny_network(response=response), torch.randn(2, 1, *PATCH)
    for parameter in net.query_decoder.pixel_embedding.parameters():
        torch.nn.init.normal_(parameter)
    whole, slabs = net(image), list(net.in_slabs(image))
    assert [slab.responses.shape[2] for slab in slabs] == [3, 3, 2]
    torch.testing.assert_close(torch.cat([slab.responses for slab in slabs], dim=2), whole.responses)
    assert all((slab.classification == whole.classification).all() for slab in slabs)


@pytest.mark.parametrize("name", anomaly.SCORES)
def test_every_score_maps_each_voxel_once(name, output):
    assert anomaly.SCORES[name](output).shape == (2, 2, 3, 4)


def test_the_network_gives_responses_classes_and_one_attention_a_block():
    output = tiny_network()(torch.randn(2, 1, *PATCH))
    assert output.responses.shape == (2, DISTRIBUTION.total, *PATCH)
    assert output.classification.shape == (2, DISTRIBUTION.total, len(LABELS))
    assert [tuple(a.shape[2:]) for a in output.attention] == [(4, 2, 2), (4, 4, 4), (8, 8, 8), (8, 16, 16)]


def test_the_default_network_is_the_papers():
    six_stages = [[1, 1, 1], *[[2, 2, 2]] * 5]
    strides = [2 ** (5 - i) for i in attended_scales(six_stages)]
    assert strides == [32, 16, 8, 4]
    architecture = network.Architecture(BACKBONE, 1, 7)
    assert architecture.distribution.sizes == (16, 4, 12)
    assert (architecture.heads, architecture.drop_path, architecture.response) == (8, 0.2, "product")


def test_a_stock_nnunet_of_the_same_plan_fills_everything_but_the_queries():
    from maxquery.backbone import build_backbone

    stock = build_backbone(BACKBONE["network_class_name"], BACKBONE["arch_kwargs"], 1).state_dict()
    missing = [name for name in tiny_network().state_dict() if name not in stock]
    assert missing and all(".seg_layers." in name for name in missing)


def test_a_residual_encoder_backbone_works_as_well():
    kwargs = {k: v for k, v in BACKBONE["arch_kwargs"].items() if k != "n_conv_per_stage"}
    residual = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": kwargs | {"n_blocks_per_stage": [1] * 4},
    }
    model = network.MaxQueryNet(network.Architecture(residual, 1, 3, DISTRIBUTION, 16, 8))
    assert model(torch.randn(1, 1, *PATCH)).segmentation.shape == (1, 3, *PATCH)


def test_a_cosine_response_knows_directions_and_not_lengths():
    torch.manual_seed(0)
    centres, pixels = torch.randn(2, 5, 7), torch.randn(2, 7, 2, 3, 4)
    response = network.cosine_response(centres, pixels, sharpness=3.0)
    for b, (z, y, x), feature in _voxels(pixels):
        for n in range(5):
            expected = 3 * torch.cosine_similarity(centres[b, n], torch.tensor(feature), dim=0)
            assert response[b, n, z, y, x].item() == pytest.approx(float(expected), abs=1e-5)
    torch.testing.assert_close(network.cosine_response(5 * centres, 0.1 * pixels, sharpness=3.0), response)


def test_two_probabilities_near_1_are_told_apart_in_16_bits():
    classes = torch.eye(2)[None]
    responses = torch.tensor([[0.0, 0.0], [9.0, 10.0]]).reshape(1, 2, 1, 1, 2)
    less_sure, surer = anomaly.max_assignment(network.Output(responses, classes, ())).half().flatten().tolist()
    assert less_sure > surer > 0
