"""The other networks of Table 2: Swin UNETR, and TransUNet in nnU-Net's frame; trained from scratch, as long in all."""

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from maxquery.errors import MachineError
from maxquery_training.stock import Logits
from maxquery_training.trainers import BackboneTrainer

_RATE = 4e-4  # of AdamW, for transformers
_STRIDE, _LEAST_WIDTH = 32, 64  # of Swin UNETR: sizes are multiples of it, and its bottleneck normalises two voxels
_LAYERS, _HEADS = 12, 8  # of TransUNet's encoder, as in its paper but for the heads: nnU-Net's widths divide by 8


class FromScratchTrainer(BackboneTrainer):
    """As many epochs as both of MaxQuery's stages have together, on nnU-Net's windows with its augmentation."""

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.preset.backbone_epochs + self.preset.joint_epochs
        self.initial_lr = _RATE

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class SwinNet(nn.Module):
    """MONAI's Swin UNETR (Hatamizadeh et al., 2022) on images of any size."""

    def __init__(self, input_channels: int, classes: int, features: int):
        super().__init__()
        try:
            from monai.networks.nets import SwinUNETR
        except ModuleNotFoundError as error:
            hint = "Install it: pip install --editable '.[benchmark]'."
            raise MachineError("package", "Swin UNETR needs the Python package 'monai'.", hint) from error
        self.swin = SwinUNETR(input_channels, classes, feature_size=features)

    def forward(self, image: Tensor) -> Tensor:
        shape = image.shape[2:]
        wanted = [size + -size % _STRIDE for size in shape]
        wanted[2] = max(wanted[2], _LEAST_WIDTH)
        beyond = [extra for size, whole in zip(shape[::-1], wanted[::-1], strict=True) for extra in (0, whole - size)]
        z, y, x = (slice(size) for size in shape)
        return self.swin(functional.pad(image, beyond, mode="replicate"))[:, :, z, y, x]


class SwinTrainer(FromScratchTrainer):
    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False

    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, num_input_channels, num_output_channels,
                                   enable_deep_supervision=True) -> SwinNet:  # fmt: skip
        """As wide at full resolution as the plan's U-Net, rounded to what its heads share, 12 and its multiples."""
        width = configuration_manager.network_arch_init_kwargs["features_per_stage"][0]
        return SwinNet(num_input_channels, num_output_channels, 12 * max(1, round(width / 12)))

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is none."""


class BottleneckTransformer(nn.Module):
    """What TransUNet (Chen et al., 2021) adds: a transformer over the coarsest features `(B, C, z, y, x)`."""

    def __init__(self, channels: int, tokens_zyx: tuple[int, int, int]):
        super().__init__()
        layers = (
            nn.TransformerEncoderLayer(
                channels, _HEADS, 4 * channels, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(_LAYERS)
        )
        self.layers = nn.Sequential(*layers, nn.LayerNorm(channels))  # nn.TransformerEncoder begins with equal ones
        self.position = nn.Parameter(0.02 * torch.randn(1, channels, *tokens_zyx))

    def forward(self, features: Tensor) -> Tensor:
        position = functional.interpolate(self.position, features.shape[2:], mode="trilinear")
        tokens = (features + position).flatten(2).transpose(1, 2)
        return self.layers(tokens).transpose(1, 2).reshape(features.shape)


class TransUNetTrainer(FromScratchTrainer):
    """Its U-Net has the rate that the plain one has in the backbone stage, if that is AdamW's too."""

    def configure_optimizers(self):
        transformer = list(self.network.encoder.stages[-1][1].parameters())
        of_transformer = set(map(id, transformer))
        unet = [weight for weight in self.network.parameters() if id(weight) not in of_transformer]
        of_unet = self.preset.backbone_rate if self.preset.backbone_optimiser == "adamw" else _RATE
        groups = [{"params": unet, "lr": of_unet}, {"params": transformer, "lr": _RATE}]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        return optimizer, LambdaLR(optimizer, lambda epoch: (1 - epoch / self.num_epochs) ** 0.9)

    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, num_input_channels, num_output_channels,
                                   enable_deep_supervision=True) -> nn.Module:  # fmt: skip
        unet = get_network_from_plans(
            configuration_manager.network_arch_class_name, configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import, num_input_channels, num_output_channels,
            deep_supervision=enable_deep_supervision,
        )  # fmt: skip
        strides = torch.tensor(configuration_manager.network_arch_init_kwargs["strides"]).prod(dim=0)
        tokens = [max(1, size // stride) for size, stride in
                  zip(configuration_manager.patch_size, strides.tolist(), strict=True)]  # fmt: skip
        transformer = BottleneckTransformer(unet.encoder.output_channels[-1], tuple(tokens))
        unet.encoder.stages[-1] = nn.Sequential(unet.encoder.stages[-1], transformer)
        return unet


class SegmentingNet(nn.Module):
    """A trained one behind the engine's interface, less `log_weights` `(K,)` of its classes in training."""

    def __init__(self, network: nn.Module, log_weights: Tensor):
        super().__init__()
        self.network = network.eval()
        self.register_buffer("log_weights", log_weights)

    def forward(self, image: Tensor) -> Logits:
        with torch.autocast(image.device.type, enabled=False):  # scores of 16-bit logits would have many ties
            logits = self.network(image) - self.log_weights[:, None, None, None]
        return Logits(logits, logits)
