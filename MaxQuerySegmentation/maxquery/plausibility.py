"""Can this be a CT in Hounsfield units on a true grid? Every refusal and warning names its evidence."""

import math
from collections.abc import Sequence

import numpy as np

from maxquery.errors import InputError
from maxquery.volume import Grid

AIR_HU = -1024.0
SPACING_MM = (0.05, 20.0)  # below: micro-CT or a wrong unit; above: a wrong unit
PATIENT_MM = (1000.0, 2500.0)  # no CT is larger: across, and from head to foot
SHEAR = 1e-4  # moves no voxel of a 500 mm stack by more than 0.05 mm; ITK refuses NIfTI from here on, too
SAMPLE = 500_000  # voxels that judge the distribution


def checked_grid(size_xyz: Sequence[int], spacing_xyz_mm: Sequence[float],
                 origin_lps_mm: Sequence[float], direction: np.ndarray) -> Grid:
    """The grid, the axes of `direction` `(3, 3)` made exactly orthonormal.

    Raises `InputError` where a spacing, position or direction cannot be that of a CT.
    """
    spacing = tuple(float(s) for s in spacing_xyz_mm)
    # A NRRD header keeps spacing as the length of an axis, which is not exact.
    if not all(SPACING_MM[0] <= round(s, 6) <= SPACING_MM[1] for s in spacing):
        raise bad_spacing(spacing)
    axes = np.asarray(direction, float).reshape(3, 3)
    if not (np.isfinite(axes).all() and np.isfinite(origin_lps_mm).all()):
        raise InputError("position", "The header gives the image's position or direction as not a number.",
                         "Export the CT again from its DICOM images.")
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR:
        raise sheared()
    left, _, right = np.linalg.svd(axes)
    origin = tuple(float(o) for o in origin_lps_mm)
    return Grid(tuple(int(n) for n in size_xyz), spacing, origin, left @ right)


def bad_spacing(spacing_xyz_mm: Sequence[float]) -> InputError:
    found = " × ".join(f"{s:g}" for s in spacing_xyz_mm)
    return InputError("spacing", f"The header gives a voxel spacing of {found} mm; a CT's lies between "
                      f"{SPACING_MM[0]:g} and {SPACING_MM[1]:g} mm.",
                      "Export the CT again from its DICOM images, or correct the spacing in its header.")


def sheared() -> InputError:
    return InputError("sheared", "The image's axes are not at right angles of unit length (a sheared grid, "
                      "as gantry tilt or an affine registration leaves it).",
                      "Resample the CT onto a rectangular grid first; 3D Slicer does so when it loads the "
                      "DICOM images with 'Acquisition geometry regularization' on.")


def not_finite(invalid: int, voxels: int) -> InputError:
    return InputError("not-finite", f"{invalid:,} of {voxels:,} voxels are not a number or infinite.",
                      f"Replace them by air ({AIR_HU:.0f}) if they are padding, or export the CT again.")


def extent_warnings(grid: Grid) -> list[str]:
    """What to know of a grid that is too small to show an organ, or too large for a patient."""
    found = []
    if min(grid.size_xyz) < 8:
        found.append(f"The CT is only {min(grid.size_xyz)} voxels thick along one axis; "
                     "a result from so few slices means little.")
    extent = [n * s for n, s in zip(grid.size_xyz, grid.spacing_xyz_mm, strict=True)]
    if min(extent) < 50:
        found.append(f"The CT covers only {' × '.join(f'{e:.0f}' for e in extent)} mm; "
                     "organs that are cut off are recognised poorly.")
    if sorted(extent)[1] > PATIENT_MM[0] or max(extent) > PATIENT_MM[1]:
        found.append(f"The CT covers {' × '.join(f'{e:.0f}' for e in extent)} mm, more than a patient; "
                     "its voxel spacing may be wrong, and with it every volume and diameter.")
    return found


def check_hounsfield(array: np.ndarray) -> list[str]:
    """Warnings on the values `(Z, Y, X)` of one phase, which are left as they are.

    Raises `InputError` for values that are not finite or not Hounsfield units. The evidence for HU is what
    any body shows: soft tissue between -200 and 300, and fat, lung or air below -50. Padding below -1024
    says nothing and is left out.
    """
    invalid = array.size - int(np.isfinite(array).sum())
    if invalid:
        raise not_finite(invalid, array.size)
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise InputError("constant", f"Every voxel is {low:g}: the image is empty.", "Choose the CT itself.")
    step = math.ceil(math.sqrt(array.size / SAMPLE))
    rows = array[::step, ::step]
    if low >= 0:
        _refuse_labels(rows, low, high)
        _refuse_picture(rows, low, high)
    if high - low < 50:
        raise _not_hu(f"all values lie between {low:g} and {high:g}, as in a normalised image")
    known = rows[rows >= AIR_HU]
    if _share(known, -200, 300) < 0.02:
        raise _not_hu(f"{_share(known, -200, 300):.1%} of its voxels lie between -200 and 300 HU, where soft "
                      "tissue would be" + _offset_evidence(known))
    found = []
    if _share(known, AIR_HU, -50) < 0.001:
        first, last = np.percentile(known, (1, 99))
        tissue_only = last - first < 300 and last <= 400 and not 0 <= first <= 20
        if not tissue_only:
            raise _not_hu("it has no fat, lung or air (nothing below -50), and its values spread from "
                          f"{first:.0f} to {last:.0f}" + _offset_evidence(known))
        found.append("No fat, lung or air is in view, so that the values cannot be checked to be HU.")
    at_low = float((known == low).mean())
    if low > -900 and at_low >= 0.01:
        found.append(f"The HU were clipped to [{low:g}, {high:g}] ({at_low:.0%} of voxels lie at the lower "
                     "end); where lung, fat or bone matters the result is less certain.")
    return found


def clip_padding(array: np.ndarray) -> list[str]:
    """Raises values below -1024 HU to it, in place: beyond air there is only padding and noise."""
    below = int((array < AIR_HU).sum())
    if not below:
        return []
    lowest = float(array.min())
    np.maximum(array, array.dtype.type(AIR_HU), out=array)
    return [f"{below:,} voxels ({below / array.size:.2%}) lie below {AIR_HU:.0f} HU, the lowest at "
            f"{lowest:.0f}; they were read as air."]


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(((values >= low) & (values < high)).mean()) if values.size else 0.0


def _whole(rows: np.ndarray) -> bool:
    return bool((rows == np.round(rows)).all())


def _refuse_labels(rows: np.ndarray, low: float, high: float) -> None:
    """Labels repeat from voxel to voxel; a CT's noise does not let it, the background apart."""
    if not _whole(rows):
        return
    left, right = rows[..., :-1], rows[..., 1:]
    values, counts = np.unique(rows, return_counts=True)
    inside = left != values[counts.argmax()]
    repeats = float((left == right)[inside].mean()) if inside.any() else 0.0
    if high - low < 50 or repeats > 0.8:
        raise InputError("label-map", f"The image is a label map, not a CT: whole numbers from {low:g} to "
                         f"{high:g}, and {repeats:.0%} of neighbours inside are equal.",
                         "Choose the CT that the labels were drawn on.")


def _refuse_picture(rows: np.ndarray, low: float, high: float) -> None:
    if low <= 20 and high <= 255 and _whole(rows):
        raise _not_hu(f"its values are whole numbers from {low:g} to {high:g}, as in an 8-bit picture")


def _offset_evidence(known: np.ndarray) -> str:
    around_water, between = _share(known, 900, 1150), _share(known, 400, 800)
    if around_water > 0.1 and around_water > between:
        return (f"; {around_water:.0%} lie around 1024, so that it seems to be a CT stored with 1024 added: "
                "subtract 1024, or export it again with its rescale intercept applied")
    return ""


def _not_hu(evidence: str) -> InputError:
    return InputError("not-hu", f"The image is not a CT in Hounsfield units: {evidence}.",
                      "Choose a CT with its original values (air -1000, water 0); "
                      "MR and rescaled images are not supported.")
