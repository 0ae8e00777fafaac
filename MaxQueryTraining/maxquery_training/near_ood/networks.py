"""Trains what a benchmark's configuration names, from one backbone, and gives it ready to predict."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from maxquery.bundle import Bundle
from maxquery.prediction import build_network
from maxquery_training.checkpoints import read_checkpoint
from maxquery_training.export import bundle_labels, plans_bundle
from maxquery_training.folders import DatasetFiles
from maxquery_training.near_ood.config import Network
from maxquery_training.near_ood.monte_carlo_dropout import DropoutNet
from maxquery_training.near_ood.resynthesis import CompareNet, Synthesis, SynthesisTrainer
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

    def __init__(self, files: DatasetFiles, networks: Sequence[Network], device: torch.device, watcher: Watcher):
        self.files, self.device, self.watcher = files, device, watcher
        self.stock = next((network for network in networks if network.kind == "nnunet"), None)
        self.plans, self.description = files.read_plans(), files.read_description()
        self.labels, self.channels = bundle_labels(self.description), list(self.description["channel_names"].values())
        self.bundle = plans_bundle(self.plans, self.labels, self.channels)

    def train(self, network: Network) -> Path:
        """The checkpoint of `network`, which goes on from the run's backbone; SynthCP's, of what paints it."""
        begin = train(self.plans, self.description, self.device, self.watcher, stage="backbone")
        if network.kind == "synthesis":
            begin = self.train(self.stock)
        weights, trainer = read_checkpoint(begin)["network_weights"], _TRAINERS[network.kind]
        return run_stage(trainer, self._plans(network), self.description, self.device, self.watcher, weights)

    def seconds(self, network: Network) -> float:
        """That its own training took, all resumed parts together."""
        return seconds(self._checkpoint(network))

    def _checkpoint(self, network: Network) -> Path:
        plans_name = self._plans(network)["plans_name"]
        return final_checkpoint(_TRAINERS[network.kind], self.files.dataset, plans_name)

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
            return CompareNet(self._stock(self.stock), self._synthesis(network))
        stock = self._stock(network)
        return DropoutNet(stock) if network.kind == "dropout" else stock

    def bundle_of(self, network: Network) -> Bundle:
        """Of a trained one of the kind `maxquery`."""
        return replace(plans_bundle(self._plans(network), self.labels, self.channels), weights=self._weights(network))

    def _weights(self, network: Network) -> dict[str, Tensor]:
        return read_checkpoint(self._checkpoint(network))["network_weights"]

    def _stock(self, network: Network) -> StockNet:
        return StockNet(self._weights(network), self.plans, len(self.channels), len(self.labels))

    def _synthesis(self, network: Network) -> Synthesis:
        manager = PlansManager(self._plans(network))
        synthesis = SynthesisTrainer.build_network_architecture(
            manager, manager.get_configuration(CONFIGURATION), len(self.channels), len(self.labels)
        )
        synthesis.load_state_dict(self._weights(network))
        return synthesis
