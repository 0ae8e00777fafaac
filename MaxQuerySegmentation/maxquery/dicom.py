"""A folder of DICOM files → the one CT series in it, its slices in order on a grid that is checked."""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.errors import InputError
from maxquery.itk_path import itk_path
from maxquery.plausibility import checked_grid
from maxquery.volume import Grid

TOLERANCE_MM = 0.1  # positions are often written with one decimal
CT_IMAGE_STORAGE = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.2(\.[12])?[^.\d]")
SLICE_NAME = re.compile(r"[^.].*\.(dcm|ima|\d+)|[^.]+", re.IGNORECASE)
"""As scanners and archives call them; LICENSE.txt and .hidden are something else."""


@dataclass(frozen=True)
class Slice:
    """What one DICOM image says of itself; `axes` holds the row's and the column's direction `(2, 3)`."""

    path: Path
    series: str
    modality: str
    description: str
    size_xyz: tuple[int, ...]
    spacing_xy_mm: tuple[float, float]
    position_lps_mm: np.ndarray
    axes: np.ndarray


def find_ct_series(folder: Path) -> tuple[list[Path], Grid]:
    """The files of the folder's CT series, in order along the slices' normal, and their grid.

    Raises `InputError` unless the folder holds exactly one series, of CT, without gaps, repeats or tilt.
    """
    found = [_read_slice(path) for path in sorted(folder.iterdir()) if path.is_file()]
    series = defaultdict(list)
    for each in found:
        if each is not None:
            series[each.series].append(each)
    if not series:
        raise InputError("no-dicom", f"The folder {folder.resolve().name} holds no DICOM image.",
                         "Give the folder whose files are the slices themselves, or a NIfTI, NRRD or "
                         "MetaImage file.")
    if len(series) > 1:
        listed = "; ".join(_told(slices) for slices in series.values())
        raise InputError("several-series", f"The folder holds {len(series)} DICOM series: {listed}.",
                         "Move the wanted series into a folder of its own.")
    (slices,) = series.values()
    if slices[0].modality != "CT":
        raise InputError("not-ct", f"The DICOM series is not a CT: {_told(slices)}.", "Choose a CT series.")
    slices, grid = _stacked(slices)
    return [each.path for each in slices], grid


def _read_slice(path: Path) -> Slice | None:
    """None for a file that is no DICOM image (a directory, a report, a structure set, a note)."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_path(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        with path.open("rb") as file:
            start = file.read(1024)
        if start[128:132] == b"DICM" and CT_IMAGE_STORAGE.search(start):
            raise InputError("unreadable", "A CT slice in the folder is incomplete or damaged.",
                             "Export or copy the series again.") from error
        if len(start) < 132 and SLICE_NAME.fullmatch(path.name):
            raise InputError("unreadable", f"A file of the folder ends after {len(start)} bytes, as a slice does whose "
                             "copy was interrupted.", "Copy the series again, or remove the file if it is no "
                             "slice.") from error
        return None

    def text(tag: str) -> str:
        return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str, count: int) -> np.ndarray:
        try:
            values = np.array([float(v) for v in text(tag).split("\\")])
        except ValueError:
            values = np.empty(0)
        return values if values.size == count else np.full(count, np.nan)

    between_rows_mm, between_columns_mm = numbers("0028|0030", 2)
    return Slice(path, text("0020|000e"), text("0008|0060"), _description(text), reader.GetSize(),
                 (between_columns_mm, between_rows_mm), numbers("0020|0032", 3),
                 numbers("0020|0037", 6).reshape(2, 3))


def _description(text: Callable[[str], str]) -> str:
    """The series' description, left out where it repeats a part of the patient's name or number."""
    description = text("0008|103e")
    personal = re.split(r"[\s^=,]+", f"{text('0010|0010')} {text('0010|0020')}".lower())
    named = any(len(part) > 2 and part in description.lower() for part in personal)
    return "" if named else description


def _told(slices: list[Slice]) -> str:
    first = slices[0]
    return f"{first.modality or 'unknown'} '{first.description or 'no description'}', {len(slices)} images"


def _stacked(slices: list[Slice]) -> tuple[list[Slice], Grid]:
    first = slices[0]
    if any(len(s.size_xyz) > 2 and s.size_xyz[2] > 1 for s in slices):
        raise InputError("multi-frame", "The series is a multi-frame (enhanced) DICOM file.",
                         "Load it in 3D Slicer and save the volume as .nrrd or .nii.gz.")
    values = np.array([[*s.spacing_xy_mm, *s.position_lps_mm, *s.axes.ravel()] for s in slices])
    if not np.isfinite(values).all():
        raise InputError("no-position", f"{int((~np.isfinite(values)).any(axis=1).sum())} of {len(slices)} "
                         "DICOM images do not say where in the patient they lie (position, orientation or "
                         "pixel spacing is missing).", "Export the original axial series.")
    if len(slices) < 2:
        raise InputError("one-slice", "The series has one image only; a CT volume needs more.",
                         "Give the folder with all slices.")
    if any(s.size_xyz != first.size_xyz or not np.allclose(s.spacing_xy_mm, first.spacing_xy_mm, atol=1e-4)
           for s in slices):
        raise InputError("mixed-sizes", "The slices differ in size or pixel spacing.",
                         "Leave only the slices of one reconstruction in the folder.")
    if any(np.abs(s.axes - first.axes).max() > 1e-3 for s in slices):
        raise InputError("mixed-orientations", "The slices differ in orientation, as when a scout view lies "
                         "among them.", "Leave only the parallel slices in the folder.")
    normal = np.cross(*first.axes)
    slices = sorted(slices, key=lambda s: float(s.position_lps_mm @ normal))
    positions = np.array([s.position_lps_mm for s in slices])
    spacing_z_mm = _even_spacing(positions @ normal)
    _refuse_tilt(positions @ first.axes.T, spacing_z_mm * (len(slices) - 1))
    grid = checked_grid((*first.size_xyz[:2], len(slices)), (*first.spacing_xy_mm, spacing_z_mm),
                        positions[0], np.column_stack([*first.axes, normal]))
    return slices, grid


def _even_spacing(heights_mm: np.ndarray) -> float:
    """The distance between neighbouring slices whose `heights_mm` along the normal are sorted."""
    gaps = np.diff(heights_mm)
    repeated = int((gaps < 0.01).sum())
    if repeated:
        raise InputError("duplicate-slices", f"{repeated} of {len(heights_mm)} slices lie where another one "
                         "lies: copies, or several phases in one series.",
                         "Leave one slice for each position, one phase to a folder.")
    spacing = float(heights_mm[-1] - heights_mm[0]) / len(gaps)
    off = np.abs(heights_mm - heights_mm[0] - spacing * np.arange(len(heights_mm))).max()
    if off <= TOLERANCE_MM:
        return spacing
    usual = float(np.median(gaps))
    wide = int(gaps.argmax())
    missing = int(sum(round(gap / usual) - 1 for gap in gaps if gap > 1.5 * usual))
    where = f"the widest gap is {gaps[wide]:.2f} mm, after slice {wide + 1} of {len(heights_mm)}"
    if missing:
        raise InputError("missing-slices", f"Slices are missing (about {missing}): neighbours usually "
                         f"lie {usual:.2f} mm apart, {where}.", "Export the whole series again.")
    raise InputError("uneven-slices", f"The slices are unevenly spaced: usually {usual:.2f} mm, {where}.",
                     "Resample the CT to even slices first, for example in 3D Slicer.")


def _refuse_tilt(in_plane_mm: np.ndarray, height_mm: float) -> None:
    """`in_plane_mm`: `(Z, 2)`, where each slice's corner lies along its own rows and columns."""
    drift = in_plane_mm[-1] - in_plane_mm[0]
    if np.linalg.norm(drift) > TOLERANCE_MM:
        angle = math.degrees(math.atan2(float(np.linalg.norm(drift)), height_mm))
        raise InputError("gantry-tilt", f"The stack of slices leans by {angle:.1f}° (gantry tilt).",
                         "Load the series in 3D Slicer with 'Acquisition geometry regularization' on, harden "
                         "the transform and save the volume.")
    if np.abs(in_plane_mm - in_plane_mm[0]).max() > TOLERANCE_MM:
        raise InputError("shifted-slices", "Some slices are shifted sideways against the others.",
                         "Export the original series again.")
