"""Files → a CT that the engine can trust, or a sentence that says why not."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

from maxquery.dicom import find_ct_series
from maxquery.errors import InputError, MachineError
from maxquery.itk_path import itk_path
from maxquery.nifti import check_nifti, truncated
from maxquery.plausibility import check_hounsfield, checked_grid, clip_padding, extent_warnings, sheared
from maxquery.text_header import check_compressed, check_spacing, data_file, most_voxel_bytes, not_placed
from maxquery.volume import Grid, Volume

FORMATS = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
_WITHIN_INT16 = (sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16)
IMAGE_IO = {"NIfTI": "NiftiImageIO", "NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}


@dataclass(frozen=True)
class ReadCase:
    """A case as read; nothing in it names the patient or the files.

    `warnings` are sentences for the person who reads the result; `source_kind` names the file format.
    """

    volume: Volume
    warnings: tuple[str, ...]
    source_kind: str


def read_case(paths: Sequence[Path]) -> ReadCase:
    """Reads one case, `paths` being its phases in the model's order: files, or folders of DICOM slices.

    Values are `(C, Z, Y, X)` HU, not below -1024: int16 where all are whole, as a scanner gives them, else float32.
    Raises `InputError` where a file, a geometry or the values cannot be used, and `MachineError` where they do not
    fit in memory.
    """
    if not paths:
        raise InputError("no-image", "No CT was given.", "Give a CT file or a folder of DICOM slices.")
    with _quiet_itk():
        phases = [_read_phase(Path(path)) for path in paths]
    arrays, grids, kinds, remarks = zip(*phases, strict=True)
    for number, grid in enumerate(grids[1:], 2):
        _require_same_grid(grids[0], grid, number)
    warnings = extent_warnings(grids[0])
    for number, (array, of_file) in enumerate(zip(arrays, remarks, strict=True), 1):
        prefix = f"Phase {number}: " if len(arrays) > 1 else ""
        warnings += [prefix + each for each in of_file] + _checked_values(array, prefix)
    arrays = [_compact(array) for array in arrays]
    stacked = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
    return ReadCase(Volume(stacked, grids[0]), tuple(warnings), ", ".join(dict.fromkeys(kinds)))


def read_mask(path: Path) -> tuple[np.ndarray, Grid]:
    """Labels `(Z, Y, X)` as they are stored, and their grid. Raises as `read_case`, but for what makes a CT."""
    with _quiet_itk():
        array, grid, _kind, _warnings = _read_phase(path)
    return array, grid


def _checked_values(array: np.ndarray, prefix: str) -> list[str]:
    """Warnings on one phase's values `(Z, Y, X)`; its padding becomes air, in place."""
    try:
        return [prefix + each for each in (*check_hounsfield(array), *clip_padding(array))]
    except InputError as error:
        raise InputError(error.code, prefix + error.message, error.hint) from error


def _compact(array: np.ndarray) -> np.ndarray:
    """`array` `(Z, Y, X)` as int16, half the memory, where that changes no value; as it is where it would."""
    if array.dtype == np.int16 or array.max() > np.iinfo(np.int16).max:
        return array
    whole = np.empty(array.shape, np.int16)
    for values, kept in zip(array, whole, strict=True):
        kept[:] = values
        if (kept != values).any():
            return array
    return whole


def _read_phase(path: Path) -> tuple[np.ndarray, Grid, str, list[str]]:
    """Array `(Z, Y, X)` int16 or float32, its grid, the kind of source, and warnings on the file."""
    try:
        if path.is_dir():
            return _read_series(path)
        if not path.exists():
            raise InputError("missing", f"There is no file {path.name}.", "Check the path.")
        return _read_file(path)
    except OSError as error:
        raise InputError("unreadable", f"{path.name} cannot be opened: {error.strerror}.",
                         "Check the path and your permission to read it.") from error


def _read_series(folder: Path) -> tuple[np.ndarray, Grid, str, list[str]]:
    files, grid = find_ct_series(folder)
    _require_memory(grid, 4)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([itk_path(file) for file in files])
    reader.SetOutputPixelType(sitk.sitkFloat32)  # each slice may have its own rescale slope
    return _pixels(reader, grid, "The DICOM series"), grid, "DICOM series", []


def _read_file(path: Path) -> tuple[np.ndarray, Grid, str, list[str]]:
    name = path.name
    kind = next((k for suffix, k in FORMATS.items() if name.lower().endswith(suffix)), None)
    if kind is None:
        raise InputError("file-type", f"{name} is not of a type that is read here.",
                         f"Give a {', '.join(FORMATS)} file, or the folder that holds a DICOM series.")
    if path.stat().st_size == 0:
        raise InputError("empty", f"{name} is empty (0 bytes).", "Copy or download the file again.")
    warnings = []
    if kind == "NIfTI":
        warnings = check_nifti(path)
    else:
        data_file(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[kind])
    reader.SetFileName(itk_path(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(error, name) from error
    if kind != "NIfTI":
        check_spacing(path)
        warnings = not_placed(path)
    grid = _file_grid(reader, name)
    stored = reader.GetPixelID()
    voxel_bytes = sitk.Image([1, 1, 1], stored).GetSizeOfPixelComponent()
    announced = math.prod(grid.size_xyz) * voxel_bytes
    if kind != "NIfTI" and announced > most_voxel_bytes(path):
        raise truncated(name, f"its header announces {announced:,} bytes of voxels, more than it can hold")
    _require_memory(grid, voxel_bytes)
    if kind != "NIfTI":
        check_compressed(path, announced)
    reader.SetOutputPixelType(sitk.sitkInt16 if stored in _WITHIN_INT16 else sitk.sitkFloat32)
    return _pixels(reader, grid, name), grid, kind, warnings


def _file_grid(reader: sitk.ImageFileReader, name: str) -> Grid:
    size, rank = reader.GetSize(), reader.GetDimension()
    pixel_type = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in pixel_type:
        raise InputError("not-scalar", f"{name} holds {reader.GetNumberOfComponents()} values in each voxel "
                         f"({pixel_type}), as colour images and vector fields do.", "Give the CT itself.")
    if rank < 3 or any(n != 1 for n in size[3:]):
        raise InputError("not-3d", f"{name} is {rank}D ({' × '.join(map(str, size))}).",
                         "Give one 3D volume; of a series in time or of several phases, one file each.")
    direction = np.reshape(reader.GetDirection(), (rank, rank))[:3, :3]
    return checked_grid(size[:3], reader.GetSpacing()[:3], reader.GetOrigin()[:3], direction)


def _pixels(reader: sitk.ImageFileReader | sitk.ImageSeriesReader, grid: Grid, name: str) -> np.ndarray:
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(error, name) from error
    return sitk.GetArrayFromImage(image).reshape(grid.shape_zyx)


def _unreadable(error: RuntimeError, name: str) -> InputError:
    if "orthonormal" in str(error):
        return sheared()
    return InputError("unreadable", f"{name} cannot be read: it is incomplete, damaged or not of the type "
                      "that its name says.", "Copy or download it again, or save the CT anew.")


def _require_memory(grid: Grid, voxel_bytes: int) -> None:
    """Room for the voxels as stored, as float32, and once more as an array."""
    needed = math.prod(grid.size_xyz) * (voxel_bytes + 8)
    free = psutil.virtual_memory().available
    if needed > free:
        size = " × ".join(map(str, grid.size_xyz))
        raise MachineError("memory", f"The CT ({size} voxels) needs {needed / 1e9:.1f} GB of memory to be "
                           f"read, and {free / 1e9:.1f} GB are free.",
                           "Close other programs, crop or resample the CT, or use a larger machine.")


def _require_same_grid(first: Grid, other: Grid, number: int) -> None:
    if first.same_as(other):
        return
    pairs = [("size", first.size_xyz, other.size_xyz),
             ("spacing", first.spacing_xyz_mm, other.spacing_xyz_mm),
             ("origin", first.origin_lps_mm, other.origin_lps_mm),
             ("direction", first.direction.ravel(), other.direction.ravel())]
    differing = [f"{what} {_listed(one)} and {_listed(two)}" for what, one, two in pairs
                 if not np.allclose(one, two, rtol=0, atol=1e-5)]
    raise InputError("phases-differ", f"Phases 1 and {number} do not lie on the same grid: "
                     f"{'; '.join(differing)}.", f"Resample phase {number} onto phase 1 first, for example "
                     "with 3D Slicer's Resample Image (BRAINS).")


def _listed(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in values) + ")"


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """ITK's own warnings would stand beside ours on stderr, in its words."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
