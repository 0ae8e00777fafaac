"""What every query answers in a part of a CT: R, on the model's own grid, for whoever wants to look inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from maxquery.bundle import Bundle, weights_sha256
from maxquery.device import find_device
from maxquery.errors import InputError, MachineError
from maxquery.lattice import cut
from maxquery.model_grid import ModelGrid
from maxquery.network_run import build_network, check_channels, patient_input
from maxquery.output_folder import check_output_file
from maxquery.parameters import PredictionParameters
from maxquery.progress import Report, silent
from maxquery.volume import Volume
from maxquery.windows import gaussian_weight
from maxquery.writing import part_of


@dataclass(frozen=True)
class Responses:
    """R `(N, z, y, x)` float32; `to_ras` `(4, 4)` brings a voxel index (x, y, z) to RAS, mm.

    `weights_sha256`: which network's queries these are.
    """

    values: np.ndarray
    to_ras: np.ndarray
    weights_sha256: str

    def save(self, path: Path) -> None:
        """As .npz without pickles, so that reading it runs no code; R in 16 bit, as anomaly maps are."""
        with path.open("wb") as file:
            stored = {"values": self.values.astype(np.float16), "to_ras": self.to_ras}
            np.savez_compressed(file, **stored, weights_sha256=self.weights_sha256)


def responses_in(
    volume: Volume,
    bundle: Bundle,
    centre_ras_mm: Sequence[float],
    size_mm: float,
    parameters: PredictionParameters = PredictionParameters(),
    report: Report = silent,
) -> Responses:
    """R in a cube of `size_mm` around `centre_ras_mm`, or what of it lies in the CT.

    From the windows of a whole run of the same quality, weighted alike. An accurate run of a long CT has others than a
    fast one, and so has a run of a crop, or around the organ. In a run a voxel's Eq. 9 is the mean over windows of each
    one's −max R; here R is the mean, so that −max R of it is a little lower where windows disagree. Raises InputError
    when the cube lies outside the CT, or the CT has other channels than the model.
    """
    check_channels(volume, bundle)
    report("prepare", 0.0, "Resampling to the model's grid")
    grid, image, _ = patient_input(volume, bundle)
    to_ras = model_to_ras(grid, volume)
    box = _box(to_ras, grid.shape_zyx, centre_ras_mm, size_mm)
    device = find_device(parameters.device)
    network = build_network(bundle).to(device)
    total = torch.zeros((bundle.query_distribution.total, *(side.stop - side.start for side in box)))
    weight = torch.zeros(total.shape[1:])
    windows = [
        (inner, outer, window)
        for start, window in cut(image, bundle.patch_zyx, parameters.step(grid.shape_zyx, bundle.patch_zyx))
        for inner, outer in [_overlap(start, bundle.patch_zyx, box)]
        if all(side.stop > side.start for side in inner)
    ]
    for done, (inner, outer, window) in enumerate(windows, start=1):
        with torch.inference_mode():
            responses = network(window[None].to(device)).responses[0][(slice(None), *inner)].cpu()
        share = gaussian_weight(bundle.patch_zyx)[inner]
        total[(slice(None), *outer)] += responses * share
        weight[outer] += share
        report("network", done / len(windows), "Asking every query")
    corner = np.eye(4)
    corner[:3, 3] = [side.start for side in box[::-1]]
    return Responses((total / weight).numpy(), to_ras @ corner, weights_sha256(bundle.weights))


def model_to_ras(grid: ModelGrid, volume: Volume) -> np.ndarray:
    """`(4, 4)`: the model grid's voxel index (x, y, z) to RAS, mm; voxels are matched edge to edge."""
    to_input = np.zeros((4, 4))
    to_input[3, 3] = 1
    for i, (axis, flip) in enumerate(zip(grid.axes, grid.flips, strict=True)):
        size, scale = grid.input_shape_zyx[axis], grid.input_shape_zyx[axis] / grid.whole_zyx[i]
        first = (grid.first_zyx[i] + 0.5) * scale - 0.5
        row, column = 2 - axis, 2 - i  # z, y, x to x, y, z
        to_input[row, column] = -scale if flip else scale
        to_input[row, 3] = size - 1 - first if flip else first
    return volume.grid.index_to_ras @ to_input


def write_responses(
    volume: Volume, bundle: Bundle, output: Path, centre_ras_mm: Sequence[float], size_mm: float,
    parameters: PredictionParameters, report: Report,
) -> None:  # fmt: skip
    """`responses_in`, saved as `output`, whole or not at all.

    Raises InputError or MachineError where it cannot be written; before anything is computed, if that can be seen.
    """
    check_output_file(output)
    if output.suffix != ".npz":  # the CT's own path, perhaps
        raise InputError("output_type", f"The output {output} is no .npz file.", "Give a name that ends with .npz.")
    found, part = responses_in(volume, bundle, centre_ras_mm, size_mm, parameters, report), part_of(output)
    try:
        found.save(part)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        message = f"The responses could not be written to {output}: {error.strerror}."
        raise MachineError("output_not_writable", message, "Choose another file, or free some space.") from error


def _box(
    to_ras: np.ndarray, shape_zyx: tuple[int, int, int], centre_ras_mm: Sequence[float], size_mm: float
) -> tuple[slice, slice, slice]:
    centre = (np.linalg.inv(to_ras) @ [*centre_ras_mm, 1.0])[:3]
    reach = 0.5 * size_mm / np.linalg.norm(to_ras[:3, :3], axis=0)
    first = np.clip(np.ceil(centre - reach), 0, shape_zyx[::-1]).astype(int)
    last = np.clip(np.floor(centre + reach) + 1, 0, shape_zyx[::-1]).astype(int)
    if (last <= first).any():
        place = [round(float(mm), 1) for mm in centre_ras_mm]
        raise InputError(
            "region", f"There is nothing of the CT within {size_mm / 2:g} mm of {place} (RAS, mm).",
            "Choose a place in the CT, or a larger region.",
        )  # fmt: skip
    return tuple(slice(int(a), int(b)) for a, b in zip(first[::-1], last[::-1], strict=True))


def _overlap(start: Sequence[int], patch: Sequence[int], box: Sequence[slice]) -> tuple[tuple, tuple]:
    """The part of a window that lies in `box`: within the window, and within the box."""
    inner, outer = [], []
    for corner, length, side in zip(start, patch, box, strict=True):
        first, last = max(corner, side.start), min(corner + length, side.stop)
        inner.append(slice(first - corner, last - corner))
        outer.append(slice(first - side.start, last - side.start))
    return tuple(inner), tuple(outer)
