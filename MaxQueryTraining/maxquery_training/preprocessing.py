"""What a network is trained on is what the engine will show it: raw HU on the model's grid, then normalised."""

from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from maxquery.model_grid import ModelGrid
from maxquery.volume import Grid
from maxquery_training.labelled_case import model_labels


class ModelGridPreprocessor(DefaultPreprocessor):
    """nnU-Net's, with the engine's way to the grid. Its own clips first and does not average, so that a fine scan keeps
    more noise in training than the engine leaves it."""

    def run_case_npy(
        self, data: np.ndarray, seg: np.ndarray, properties: dict[str, Any], plans_manager: PlansManager,
        configuration_manager: ConfigurationManager, dataset_json: dict[str, Any],
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:  # fmt: skip
        """`data` HU `(C, Z, Y, X)` and `seg` `(1, Z, Y, X)` in LPS, on the model's grid; `properties` with what
        nnU-Net needs to draw windows, and to bring a prediction back."""
        shape, spacing = data.shape[1:], properties["spacing"]
        grid = ModelGrid.of(Grid(shape[::-1], spacing[::-1], (0.0, 0.0, 0.0)), configuration_manager.spacing)
        image = torch.stack([grid.resample_in(channel) for channel in data]).numpy()
        labels = model_labels(grid, seg[0])[None].numpy().astype(np.int8)
        intensities = plans_manager.foreground_intensity_properties_per_channel
        image = self._normalize(image, labels, configuration_manager, intensities)
        label_manager = plans_manager.get_label_manager(dataset_json)
        known = [*label_manager.foreground_labels, [-1, *label_manager.all_labels]]  # the last: all but what to ignore
        return image, labels, properties | {
            "shape_before_cropping": shape,
            "bbox_used_for_cropping": [[0, size] for size in shape],  # nothing is cropped
            "shape_after_cropping_and_before_resampling": shape,
            "class_locations": self._sample_foreground_locations(labels, known),
        }
