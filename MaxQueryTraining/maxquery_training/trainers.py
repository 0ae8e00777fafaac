"""nnU-Net trainers: the stock backbone stage, then the paper's joint stage (Sec. 3.2, 4.2)."""

import numpy as np
import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import Tensor, nn

from maxquery.errors import InputError
from maxquery.labels import QueryDistribution
from maxquery.network import Architecture, MaxQueryNet, Output
from maxquery_training.checkpoints import FINAL, read_checkpoint
from maxquery_training.class_weights import class_weights
from maxquery_training.exposure import PlantExposure, check_exposable
from maxquery_training.heap import keep_freed_memory
from maxquery_training.losses import MaxQueryLoss, segmentation_loss
from maxquery_training.pictures import draw_ownership
from maxquery_training.preset import Preset
from maxquery_training.resumable import ResumableTrainer

# Segmentation layers differ from stage to stage; the decoder of stock nnU-Net lists the encoder once more.
_NOT_THE_BACKBONE = ("decoder.seg_layers.", "decoder.encoder.")


class BackboneTrainer(ResumableTrainer):
    """Stock nnU-Net with the preset's length, its losses, and its augmentation.

    It begins with `backbone_weights`, if there are any. `can_be_exposed`: whether its loss knows outlier exposure.
    """

    can_be_exposed = False
    backbone_weights: dict[str, Tensor] | None = None

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.preset.backbone_epochs
        self.num_iterations_per_epoch = self.preset.iterations
        self.num_val_iterations_per_epoch = self.preset.validation_iterations
        self.initial_lr = self.preset.backbone_rate
        self.oversample_foreground_percent = self.preset.foreground_share

    def on_train_start(self) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        super().on_train_start()
        if self.current_epoch == 0 and self.backbone_weights is not None:
            self.load_backbone(self.backbone_weights)

    def load_backbone(self, weights: dict[str, Tensor]) -> None:
        """Takes encoder and decoder of a stock nnU-Net checkpoint's `network_weights`. Raises InputError."""
        backbone = {
            name: tensor.shape for name, tensor in self.bare_network.state_dict().items()
            if name.startswith(("encoder.", "decoder.")) and not name.startswith(_NOT_THE_BACKBONE)
        }  # fmt: skip
        found = {name: tensor.shape for name, tensor in weights.items()}
        unfit = [name for name, shape in backbone.items() if found.get(name) != shape]
        if unfit:
            raise InputError(
                "backbone", f"The backbone is not of these plans: {len(unfit)} of {len(backbone)} tensors do not fit, "
                f"among them {unfit[0]}.", "Use a checkpoint that was trained on this dataset's MaxQueryPlans.",
            )  # fmt: skip
        self.bare_network.load_state_dict({name: weights[name] for name in backbone}, strict=False)

    def _cpu_autocast(self) -> torch.autocast:
        # nnU-Net trains in 32 bit on a CPU.
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16_on_cpu)

    def _build_loss(self) -> nn.Module:
        loss = segmentation_loss(
            self.configuration_manager.batch_dice, self.class_weights, self.label_manager.ignore_label,
            dist.is_initialized(),
        )  # fmt: skip
        if not self.enable_deep_supervision:
            return loss
        stock = super()._build_loss()  # deep supervision around Dice + cross-entropy
        stock.loss = loss
        return stock

    @property
    def class_weights(self) -> Tensor | None:
        """`(K,)`, of each label in cross-entropy; None where all weigh the same."""
        weights = class_weights(self.preset, len(self.label_names))
        return None if (weights == weights[0]).all() else weights.to(self.device)

    def configure_optimizers(self):
        if self.preset.backbone_optimiser == "sgd":
            return super().configure_optimizers()
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def get_training_transforms(self, *arguments, **keywords) -> BasicTransform:
        transforms = super().get_training_transforms(*arguments, **keywords)
        if self.can_be_exposed and self.preset.exposure_weight:
            check_exposable(self.num_input_channels, list(self.dataset_json["labels"]))
            of_space = SpatialTransform, Convert2DTo3DTransform
            last = max(i for i, step in enumerate(transforms.transforms) if isinstance(step, of_space))
            intensities = self.plans_manager.foreground_intensity_properties_per_channel["0"]
            exposure = PlantExposure(tuple(self.configuration_manager.spacing), intensities)
            transforms.transforms.insert(last + 1, exposure)
        return transforms

    def train_step(self, batch: dict) -> dict:
        with self._cpu_autocast():
            return super().train_step(batch)

    def validation_step(self, batch: dict) -> dict:
        with self._cpu_autocast():
            return super().validation_step(batch)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        _, dummy_2d, patch, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        limit = np.deg2rad(self.preset.rotation_degrees)
        if not self.preset.mirror:
            self.inference_allowed_mirroring_axes = mirror_axes = None
        if self.preset.rotation_degrees < 30:  # a smaller patch to cut and rotate
            patch = np.ceil(np.asarray(self.configuration_manager.patch_size) * 1.3).astype(int)
            if dummy_2d:  # rotated in plane only
                patch[0] = self.configuration_manager.patch_size[0]
        return (-limit, limit), dummy_2d, patch, mirror_axes


class SupervisedNet(MaxQueryNet):
    """MaxQueryNet as nnU-Net calls it: `[Z, Output]` under deep supervision, the logits Z alone otherwise."""

    def forward(self, image: Tensor) -> list | Tensor:
        output = super().forward(image)
        return [output.segmentation, output] if self.decoder.deep_supervision else output.segmentation


class SupervisedLoss(nn.Module):
    """`MaxQueryLoss` on what `SupervisedNet` returns and nnU-Net's targets; `terms` are those of the last call."""

    def __init__(self, loss: MaxQueryLoss):
        super().__init__()
        self.loss = loss
        self.terms: dict[str, Tensor] = {}

    def forward(self, outputs: list, targets: list[Tensor]) -> Tensor:
        terms = self.loss.terms(outputs[1], targets[0])
        self.terms = {name: term.detach() for name, term in terms.items()}
        return self.loss.total(terms)


class MaxQueryTrainer(BackboneTrainer):
    """The joint stage: the backbone frozen at first, then at `backbone_rate_factor` of the queries' rate (the paper: a
    tenth, Sec. 4.2).

    It begins with `backbone_weights`, or with what `BackboneTrainer` left for the same plans.
    """

    stage = "joint"
    can_be_exposed = True

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.preset.joint_epochs
        self.initial_lr = self.preset.query_rate
        self.owned = np.zeros((sum(self.preset.query_distribution), len(self.label_names)), int)

    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, num_input_channels, num_output_channels,
                                   enable_deep_supervision=True) -> SupervisedNet:  # fmt: skip
        preset = Preset.from_json(plans_manager.plans["maxquery"])
        network = SupervisedNet(
            architecture_of(configuration_manager, preset, num_input_channels, num_output_channels)
        )
        network.decoder.deep_supervision = enable_deep_supervision
        return network

    def on_train_start(self) -> None:
        if self.backbone_weights is None and self.current_epoch == 0:
            stage = self.folder.parent.name.replace(type(self).__name__, BackboneTrainer.__name__)
            checkpoint = self.folder.parents[1] / stage / self.folder.name / FINAL
            self.backbone_weights = read_checkpoint(checkpoint)["network_weights"]
        super().on_train_start()

    def _get_deep_supervision_scales(self) -> list[list[int]]:
        return [[1, 1, 1]]  # the loss makes the targets of the coarser attention maps itself

    def _build_loss(self) -> SupervisedLoss:
        return SupervisedLoss(
            MaxQueryLoss(
                QueryDistribution(*self.preset.query_distribution),
                qd_weight=self.preset.qd_weight,
                attention_weight=self.preset.attention_weight,
                exposure_weight=self.preset.exposure_weight,
                batch_dice=self.configuration_manager.batch_dice,
                class_weights=self.class_weights,
                ignore_label=self.label_manager.ignore_label,
                several_processes=dist.is_initialized(),
            )
        )

    def _do_i_compile(self) -> bool:
        return False  # the attention's argmax and the output's type are not made for it

    def train_step(self, batch: dict) -> dict:
        return super().train_step(batch) | {name: float(term) for name, term in self.loss.terms.items()}

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.owned[:] = 0

    def validation_step(self, batch: dict) -> dict:
        labels = batch["target"][0].clone()  # nnU-Net overwrites what is to be ignored
        with self.network.register_forward_hook(lambda *call: self._count_owned(call[-1][1], labels)):
            return super().validation_step(batch)

    def _count_owned(self, output: Output, labels: Tensor) -> None:
        owner, labels = output.responses.argmax(dim=1).cpu().flatten(), labels.long().flatten()
        known = labels < self.owned.shape[1]
        pairs = owner[known] * self.owned.shape[1] + labels[known]
        self.owned += torch.bincount(pairs, minlength=self.owned.size).reshape(self.owned.shape).numpy()

    def draw(self) -> None:
        super().draw()
        distribution = QueryDistribution(*self.preset.query_distribution)
        draw_ownership(self.owned, distribution, self.label_names, self.folder / "queries.png")

    def configure_optimizers(self):
        queries = list(self.network.query_decoder.parameters())
        backbone = [p for name, p in self.network.named_parameters() if ".seg_layers." not in name]
        groups = [{"params": queries}, {"params": backbone}]
        optimizer = torch.optim.RAdam(groups, lr=self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, FreezeThenPolynomial(optimizer, self.preset)


class FreezeThenPolynomial:
    """Polynomial decay; the second parameter group rests for `frozen_epochs`, then runs at its factor."""

    def __init__(self, optimizer: torch.optim.Optimizer, preset: Preset):
        self.optimizer, self.preset = optimizer, preset

    def step(self, epoch: int) -> None:
        preset = self.preset
        rate = preset.query_rate * (1 - epoch / preset.joint_epochs) ** 0.9
        frozen = epoch < preset.frozen_epochs
        queries, backbone = self.optimizer.param_groups
        queries["lr"] = rate
        backbone["lr"] = 0.0 if frozen else rate * preset.backbone_rate_factor
        for parameter in backbone["params"]:
            parameter.requires_grad_(not frozen)


def architecture_of(configuration_manager, preset: Preset, input_channels: int, classes: int) -> Architecture:
    """The engine's architecture for a configuration of nnU-Net's plans."""
    return Architecture(
        backbone={
            "network_class_name": configuration_manager.network_arch_class_name,
            "arch_kwargs": dict(configuration_manager.network_arch_init_kwargs),
        },
        input_channels=input_channels,
        classes=classes,
        distribution=QueryDistribution(*preset.query_distribution),
        query_channels=preset.query_channels,
        embedding_channels=preset.embedding_channels,
        response=preset.response,
    )
