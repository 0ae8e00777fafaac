"""SynthCP: paint the image again from its segmentation, and compare (Xia et al., ECCV 2020), in three dimensions.

What the segmentation did not understand comes out as something else. Their generator is SPADE and their comparison
looks at a segmentation network's features; here the generator is an nnU-Net, and so are the features.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from maxquery.anomaly import msp
from maxquery_training.near_ood.trainers import ContinuedTrainer
from maxquery_training.stock import Logits, StockNet

_L1_WEIGHT, _FEATURE_WEIGHT = 10.0, 10.0  # beside 1 for the critic, as SPADE has them for what stands in their place


class Synthesis(nn.Module):
    """A generator, one-hot labels `(B, K, Z, Y, X)` to an image, and the critic that it is trained against."""

    def __init__(self, generator: nn.Module, classes: int, channels: int):
        super().__init__()
        self.generator = generator
        widths = (classes + channels, 16, 32, 64)
        blocks = [
            layer
            for before, after in pairwise(widths)
            for layer in (nn.Conv3d(before, after, 4, 2, 1), nn.InstanceNorm3d(after), nn.LeakyReLU(0.2))
        ]
        self.critic = nn.Sequential(*blocks, nn.Conv3d(widths[-1], 1, 3, 1, 1))

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the labels again for the loss."""
        return self.generator(labels), labels


class SynthesisLoss(nn.Module):
    """L1, likeness of a stock network's features, and a hinge loss against the critic; the critic's own in one sum.

    Gradients do not mix: the generator is judged by a frozen critic, and the critic sees a detached image.
    """

    def __init__(self, critic: nn.Module, reference: StockNet):
        super().__init__()
        self.critic, self.reference = [critic], [reference]  # neither is a part of the loss

    def forward(self, output: tuple[Tensor, Tensor], image: Tensor) -> Tensor:
        (painted, labels), (critic,) = output, self.critic
        frozen = {name: weight.detach() for name, weight in critic.named_parameters()}
        judged = functional_call(critic, frozen, torch.cat([labels, painted], dim=1))
        unlike = 1 - likeness(self.reference[0](painted), self.reference[0](image)).mean()
        generator = _L1_WEIGHT * functional.l1_loss(painted, image) + _FEATURE_WEIGHT * unlike - judged.mean()
        real, fake = (critic(torch.cat([labels, one.detach()], dim=1)) for one in (image, painted))
        return generator + functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


class SynthesisTrainer(ContinuedTrainer):
    """Trains a `Synthesis` on nnU-Net's windows, from scratch for as many epochs as all others have in both stages.

    `backbone_weights` are those of the network it is compared by.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.num_epochs = self.preset.backbone_epochs + self.preset.joint_epochs
        self.initial_lr = self.preset.query_rate

    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, num_input_channels, num_output_channels,
                                   enable_deep_supervision=True) -> Synthesis:  # fmt: skip
        generator = get_network_from_plans(
            configuration_manager.network_arch_class_name, configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import, num_output_channels, num_input_channels,
            deep_supervision=False,
        )  # fmt: skip
        return Synthesis(generator, num_output_channels, num_input_channels)

    def get_training_transforms(self, *arguments, **keywords) -> BasicTransform:
        """Of space alone: labels say nothing of noise, blur or contrast, so that none of it could be painted."""
        transforms = super().get_training_transforms(*arguments, **keywords)
        transforms.transforms = [step for step in transforms.transforms if not isinstance(step, RandomTransform)]
        return transforms

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is none."""

    def on_train_start(self) -> None:
        super().on_train_start()
        reference = StockNet(self.backbone_weights, self.plans_manager.plans, self.num_input_channels, self.classes)
        self.loss = SynthesisLoss(self.bare_network.critic, reference.requires_grad_(False).to(self.device))

    def load_backbone(self, weights: dict[str, Tensor]) -> None:
        """The generator begins at random; the weights are the reference's."""

    @property
    def classes(self) -> int:
        return len(self.label_names)

    def _swapped(self, batch: dict) -> dict:
        labels = batch["target"][:, 0].long()
        return {"data": one_hot(labels, self.classes), "target": batch["data"]}

    def train_step(self, batch: dict) -> dict:
        return super().train_step(self._swapped(batch))

    @torch.no_grad()
    def validation_step(self, batch: dict) -> dict:
        swapped = {name: tensor.to(self.device) for name, tensor in self._swapped(batch).items()}
        loss = self.loss(self.network(swapped["data"]), swapped["target"])
        nothing = np.zeros(self.classes - 1)  # it segments nothing that could be counted
        return {"loss": loss.cpu().numpy(), "tp_hard": nothing, "fp_hard": nothing, "fn_hard": nothing}


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """`(B, Z, Y, X)` to `(B, K, Z, Y, X)`; nothing where the label is beyond the classes, and so to be ignored."""
    return functional.one_hot(labels, classes + 1)[..., :classes].movedim(-1, 1).float()


def likeness(one: Logits, other: Logits) -> Tensor:
    """The cosine of the features' angle `(B, Z, Y, X)`."""
    return functional.cosine_similarity(one.features.float(), other.features.float(), dim=1)


@dataclass(frozen=True)
class Compared(Logits):
    """With how like the image is to what was painted from its segmentation, `(B, Z, Y, X)`."""

    alike: Tensor


class CompareNet(nn.Module):
    """A stock network, and a generator that paints what it says."""

    def __init__(self, network: StockNet, synthesis: Synthesis):
        super().__init__()
        self.network, self.generator = network, synthesis.generator
        self.eval()

    def forward(self, image: Tensor) -> Compared:
        seen = self.network(image)
        classes = seen.segmentation.shape[1]
        painted = self.generator(one_hot(seen.segmentation.argmax(dim=1), classes))
        return Compared(seen.segmentation, seen.features, likeness(self.network(painted), seen))


@dataclass(frozen=True)
class SynthCP:
    """1 − likeness where the network is less sure than `sure`, MSP elsewhere: their filter."""

    sure: float = 0.999

    def __call__(self, output: Compared) -> Tensor:
        doubt = msp(output)
        return torch.where(doubt < 1 - self.sure, doubt, 1 - output.alike)
