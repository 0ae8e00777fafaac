"""Trains what a benchmark's configuration names, from one backbone, and gives it ready to predict."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from maxquery.bundle import Bundle
from maxquery.network_run import build_network
from maxquery_training.checkpoints import read_checkpoint
from maxquery_training.class_weights import CLASS_CONSTANT, class_weights, unweighted
from maxquery_training.export import bundle_labels, plans_bundle
from maxquery_training.folders import DatasetFiles
from maxquery_training.near_ood.config import Network
from maxquery_training.near_ood.deep_ensemble import EnsembleNet
from maxquery_training.near_ood.monte_carlo_dropout import DropoutNet
from maxquery_training.near_ood.outlier_exposure import ExposedTrainer
from maxquery_training.near_ood.resynthesis import CompareNet, SynthesisTrainer
from maxquery_training.near_ood.segmenters import FromScratchTrainer, SegmentingNet, SwinTrainer, TransUNetTrainer
from maxquery_training.near_ood.trainers import ContinuedTrainer, DropoutTrainer
from maxquery_training.preset import CONFIGURATION, Preset
from maxquery_training.stages import backbone_checkpoint, final_checkpoint, run_stage, seconds
from maxquery_training.stock import StockNet
from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer
from maxquery_training.watching import Watcher

_TRAINERS = {
    "nnunet": ContinuedTrainer, "dropout": DropoutTrainer, "synthesis": SynthesisTrainer, "maxquery": MaxQueryTrainer,
    "exposed": ExposedTrainer,
    "member": ContinuedTrainer, "swin": SwinTrainer, "transunet": TransUNetTrainer,
}  # fmt: skip


class Networks:
    """The networks of one run, trained on one dataset; each is resumed where it was left."""

    def __init__(self, files: DatasetFiles, networks: Sequence[Network], device: torch.device, watcher: Watcher):
        self.files, self.device, self.watcher = files, device, watcher
        self.stock = next((network for network in networks if network.kind == "nnunet"), None)
        self.plans, self.description = files.read_plans(), files.read_description()
        self.labels, self.channels = bundle_labels(self.description), list(self.description["channel_names"].values())
        self.bundle = plans_bundle(self.plans, self.labels, self.channels)

    def train(self, network: Network) -> None:
        """To its end, and first what it starts from, such as the run's backbone."""
        for part in self._parts(network):
            self._train(part)

    def is_trained(self, network: Network) -> bool:
        return all(self._checkpoint(part, _TRAINERS[part.kind]).exists() for part in self._parts(network))

    def _parts(self, network: Network) -> list[Network]:
        """What is trained for it: itself, or an ensemble's members, the run's own nnU-Net the first of them."""
        if network.kind != "ensemble":
            return [network]
        seed = self.plans["maxquery"]["seed"]
        others = [
            Network(f"{network.name} {i}", "member", {"seed": seed + 1000 * i}) for i in range(1, network.members)
        ]
        return [self.stock, *others]

    def _train(self, part: Network) -> Path:
        plans, trainer, weights = self._plans(part), _TRAINERS[part.kind], None
        if part.kind == "synthesis":
            weights = read_checkpoint(self._train(self.stock))["network_weights"]
        elif not issubclass(trainer, FromScratchTrainer):
            own = plans if part.kind == "member" else self.plans
            weights = read_checkpoint(self._run(BackboneTrainer, own))["network_weights"]
        return self._run(trainer, plans, weights)

    def _run(self, trainer: type[BackboneTrainer], plans: dict, weights: dict[str, Tensor] | None = None) -> Path:
        return run_stage(trainer, plans, self.description, self.device, self.watcher, weights)

    def seconds(self, network: Network) -> float:
        """That its own training took after the run's backbone, all resumed parts together."""
        stages = [(part, _TRAINERS[part.kind]) for part in self._parts(network)]
        stages += [(part, BackboneTrainer) for part, _ in stages if part.kind == "member"]
        return sum(seconds(self._checkpoint(part, trainer)) for part, trainer in stages)

    def _checkpoint(self, part: Network, trainer: type[BackboneTrainer]) -> Path:
        return final_checkpoint(trainer, self.files.dataset, self._plans(part)["plans_name"])

    def backbone_seconds(self) -> float:
        return seconds(backbone_checkpoint(self.files.dataset))

    def _plans(self, network: Network) -> dict:
        """Of another name for each network, so that their checkpoints keep apart."""
        name = "".join(letter if letter.isalnum() else "-" for letter in network.name)
        return self.plans | {
            "plans_name": f"{self.plans['plans_name']}-{name}",
            "maxquery": self.plans["maxquery"] | dict(network.changes),
        }

    def load(self, network: Network) -> nn.Module:
        """A trained one, ready to predict as the engine's `infer` wants it."""
        if network.kind == "maxquery":
            return build_network(self.bundle_of(network))
        if network.kind == "synthesis":
            return CompareNet(self._stock(self.stock), self._built(network))
        if network.kind in ("swin", "transunet"):
            weights = class_weights(Preset.from_json(self._plans(network)["maxquery"]), len(self.labels))
            return SegmentingNet(self._built(network), weights.log())
        if network.kind == "ensemble":
            return EnsembleNet([self._stock(part) for part in self._parts(network)])
        stock = self._stock(network)
        return DropoutNet(stock) if network.kind == "dropout" else stock

    def bundle_of(self, network: Network) -> Bundle:
        """Of a trained one of the kind `maxquery`."""
        plans = self._plans(network)
        weights = unweighted(self._weights(network), CLASS_CONSTANT, Preset.from_json(plans["maxquery"]))
        return replace(plans_bundle(plans, self.labels, self.channels), weights=weights)

    def _weights(self, network: Network) -> dict[str, Tensor]:
        return read_checkpoint(self._checkpoint(network, _TRAINERS[network.kind]))["network_weights"]

    def _stock(self, network: Network) -> StockNet:
        return StockNet(self._weights(network), self._plans(network), len(self.channels), len(self.labels))

    def _built(self, network: Network) -> nn.Module:
        """As its trainer builds it."""
        manager = PlansManager(self._plans(network))
        built = _TRAINERS[network.kind].build_network_architecture(
            manager, manager.get_configuration(CONFIGURATION), len(self.channels), len(self.labels), False
        )
        built.load_state_dict(self._weights(network))
        return built
