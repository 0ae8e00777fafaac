"""Where the organ is, found by a small model, so that a large one need not compute all of the patient."""

from collections.abc import Iterator

import numpy as np

from maxquery.boxes import WHOLE, Box, grown
from maxquery.bundle import Bundle, find_bundle, load_bundle
from maxquery.errors import InputError
from maxquery.model_grid import ModelGrid
from maxquery.network_run import Slice, build_network, check_channels, foreground, patient_input, run_network
from maxquery.organ import largest_piece
from maxquery.parameters import PredictionParameters, RunLog
from maxquery.progress import Report
from maxquery.volume import Volume

_MARGIN_MM, _SPARE_MM = 20.0, 10.0


def organ_part(
    volume: Volume, bundle: Bundle, grid: ModelGrid, parameters: PredictionParameters, report: Report, log: RunLog
) -> Box:
    """The part of `grid`, the bundle's, that holds the organ and 20 mm around it, or 10 where that saves windows; all
    where none is found.

    A box too small cuts nothing: see `stitch`. Raises InputError where `parameters.locator` knows another organ, or
    other phases.
    """
    locator = load_bundle(find_bundle(parameters.locator))
    wanted, known = (_organs(model) for model in (bundle, locator))
    if wanted != known:
        raise InputError(
            "locator", f"The locator '{locator.name}' finds {known}, and the model '{bundle.name}' segments {wanted}.",
            "Choose a locator for the same organ, or compute the whole CT.",
        )  # fmt: skip
    check_channels(volume, locator)

    def looking(stage: str, fraction: float, message: str) -> None:
        report("locate", fraction, f"Looking for the {wanted}")

    small, image, body = patient_input(volume, locator)
    shown = run_network(build_network(locator), image, body, locator, [], parameters, looking, RunLog(), _foreground)
    voxel_ml = float(np.prod(locator.spacing_zyx_mm)) / 1000
    found = largest_piece(shown, voxel_ml)
    if found is None:
        log.warnings.append(f"'{locator.name}' found no {wanted}, so the whole CT was computed.")
        return WHOLE
    margin = np.ceil(_MARGIN_MM / np.array(locator.spacing_zyx_mm)).astype(int)
    part = grid.over(small, grown(found[0], margin.tolist(), small.shape_zyx))
    step = parameters.step(grid.shape_zyx, bundle.patch_zyx)
    return tuple(
        _fitted(side, patch, int(patch * step), int(_SPARE_MM / spacing))
        for side, patch, spacing in zip(part, bundle.patch_zyx, bundle.spacing_zyx_mm, strict=True)
    )


def _foreground(slices: Iterator[Slice]) -> np.ndarray:
    """`(z, y, x)` bool."""
    return np.stack([foreground(one.logits).cpu().numpy() for one in slices])


def _fitted(side: slice, patch: int, step: int, spare: int) -> slice:
    """Shorter by up to `spare` voxels at both ends, where that saves a window.

    >>> _fitted(slice(100, 205), patch=100, step=70, spare=10), _fitted(slice(100, 225), patch=100, step=70, spare=10)
    (slice(102, 202, None), slice(100, 225, None))
    """
    beyond = side.stop - side.start - patch
    excess = beyond % step if beyond > 0 else 0
    if excess > 2 * spare:
        return side
    return slice(side.start + excess // 2, side.stop - (excess - excess // 2))


def _organs(bundle: Bundle) -> str:
    return ", ".join(label.name for label in bundle.labels if label.role == "organ")
