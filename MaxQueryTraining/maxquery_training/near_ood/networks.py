"""Trains what a benchmark's configuration names, from one backbone, and gives it ready to predict."""

from dataclasses import replace
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from maxquery.prediction import build_network
from maxquery_training.checkpoints import read_checkpoint
from maxquery_training.export import bundle_labels, plans_bundle
from maxquery_training.folders import DatasetFiles
from maxquery_training.near_ood.config import Network
from maxquery_training.near_ood.monte_carlo_dropout import DropoutNet
from maxquery_training.near_ood.resynthesis import CompareNet, SynthesisTrainer
from maxquery_training.near_ood.trainers import ContinuedTrainer, DropoutTrainer
from maxquery_training.preset import CONFIGURATION
from maxquery_training.stages import backbone_checkpoint, final_checkpoint, run_stage, seconds, train
from maxquery_training.stock import StockNet
from maxquery_training.trainers import MaxQueryTrainer
from maxquery_training.watching import Watcher

_TRAINERS = {
    "nnunet": ContinuedTrainer, "dropout": DropoutTrainer, "synthesis": SynthesisTrainer, "maxquery": MaxQueryTrainer,
}  # fmt: skip


class Networks:
    """The networks of one run, trained on one dataset; each is resumed where it was left."""

    def __init__(self, files: DatasetFiles, device: torch.device, watcher: Watcher):
        self.files, self.device, self.watcher = files, device, watcher
        self.plans, self.description = files.read_plans(), files.read_description()
        self.labels, self.channels = bundle_labels(self.description), list(self.description["channel_names"].values())
        self.bundle = plans_bundle(self.plans, self.labels, self.channels)

    def train(self, network: Network, reference: Path | None = None) -> Path:
        """The checkpoint of `network`, which goes on from the run's backbone; `reference`: see `SynthesisTrainer`."""
        backbone = train(self.plans, self.description, self.device, self.watcher, stage="backbone")
        weights = read_checkpoint(reference or backbone)["network_weights"]
        trainer = _TRAINERS[network.kind]
        return run_stage(trainer, self._plans(network), self.description, self.device, self.watcher, weights)

    def seconds(self, network: Network) -> float:
        """That its own training took, all resumed parts together."""
        plans_name = self._plans(network)["plans_name"]
        return seconds(final_checkpoint(_TRAINERS[network.kind], self.files.dataset, plans_name))

    def backbone_seconds(self) -> float:
        return seconds(backbone_checkpoint(self.files.dataset))

    def _plans(self, network: Network) -> dict:
        """Of another name for each network, so that their checkpoints keep apart."""
        name = "".join(letter if letter.isalnum() else "-" for letter in network.name)
        return self.plans | {
            "plans_name": f"{self.plans['plans_name']}-{name}",
            "maxquery": self.plans["maxquery"] | dict(network.changes),
        }

    def load(self, network: Network, checkpoint: Path, reference: Path | None = None) -> nn.Module:
        """Ready to predict, as the engine's `infer` wants it."""
        if network.kind == "maxquery":
            plans, weights = self._plans(network), read_checkpoint(checkpoint)["network_weights"]
            return build_network(replace(plans_bundle(plans, self.labels, self.channels), weights=weights))
        if network.kind == "synthesis":
            return CompareNet(self._stock(reference), self._synthesis(network, checkpoint))
        stock = self._stock(checkpoint)
        return DropoutNet(stock) if network.kind == "dropout" else stock

    def _stock(self, checkpoint: Path) -> StockNet:
        weights = read_checkpoint(checkpoint)["network_weights"]
        return StockNet(weights, self.plans, len(self.channels), len(self.labels))

    def _synthesis(self, network: Network, checkpoint: Path) -> nn.Module:
        manager = PlansManager(self._plans(network))
        synthesis = SynthesisTrainer.build_network_architecture(
            manager, manager.get_configuration(CONFIGURATION), len(self.channels), len(self.labels)
        )
        synthesis.load_state_dict(read_checkpoint(checkpoint)["network_weights"])
        return synthesis
