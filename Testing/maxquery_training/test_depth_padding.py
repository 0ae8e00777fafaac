"""Convolutions that are padded in depth in advance learn what they would have learned."""

import pytest
import torch
from torch import nn

from maxquery_training.depth_padding import DepthPaddedConv3d, pad_depth_first

only_avx2 = pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX2", reason="another kind of CPU")


@pytest.mark.parametrize("stride", [1, 2])
def test_outputs_and_gradients_are_those_of_the_plain_convolution(stride):
    torch.manual_seed(0)
    plain, padded = (kind(8, 16, 3, stride, padding=1) for kind in (nn.Conv3d, DepthPaddedConv3d))
    padded.load_state_dict(plain.state_dict())
    outcomes = []
    for convolution in (plain, padded):
        image = torch.randn(2, 8, 6, 10, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
        output = convolution(image)
        output.square().sum().backward()
        outcomes.append((output, image.grad, convolution.weight.grad, convolution.bias.grad))
    for expected, found in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@only_avx2
def test_a_network_keeps_its_weights_and_what_need_not_be_padded_stays_as_it_is():
    network = nn.Sequential(nn.Conv3d(1, 16, 3, padding=1), nn.Conv3d(16, 16, 3, padding=1), nn.Conv3d(16, 3, 1))
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pad_depth_first(network)
    assert [type(layer) for layer in network] == [nn.Conv3d, DepthPaddedConv3d, nn.Conv3d]
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


@only_avx2
def test_the_gradient_of_weights_has_a_direct_kernel(capfd):
    convolution = DepthPaddedConv3d(16, 16, 3, padding=1)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        convolution(torch.randn(2, 16, 8, 8, 8)).sum().backward()
    of_weights = [line for line in capfd.readouterr().out.splitlines() if "exec" in line and "backward_weights" in line]
    assert of_weights and all("jit:avx2" in line for line in of_weights)
