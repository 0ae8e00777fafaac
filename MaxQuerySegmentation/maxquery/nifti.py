"""What ITK lets pass in a NIfTI file: a wrong header, missing voxels, and voxels that are not numbers."""

import gzip
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from maxquery.errors import InputError
from maxquery.plausibility import SHEAR, bad_spacing, not_finite

HEADER_BYTES = 348
CHUNK_BYTES = 1 << 22
FLOATS = {16: "f4", 64: "f8"}  # NIfTI's numbers for its datatypes
_NOT_PLACED = ("The header does not say how the image lies in the patient (qform_code and sform_code are 0); left and "
               "right may be swapped.")
_SAME_PLACE_MM = 1.0  # headers hold 32-bit numbers, and some programs round them


class Announced(NamedTuple):
    """What a header says: where the voxels start, how many bytes they fill, their type if it is a float, and what is
    to be doubted of their place in the patient."""

    start: int
    voxel_bytes: int
    float_type: np.dtype | None
    doubts: list[str]


def check_nifti(path: Path) -> list[str]:
    """Reads the file once without keeping it; gives warnings.

    Raises `InputError` where it is not NIfTI-1, is damaged or ends early, where a size or a spacing is
    zero, negative or not a number, and where a voxel is not a finite number. ITK would read missing and
    invalid voxels as 0, a spacing of 0 as 1 mm, and invents directions where the header has none.
    """
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            announced = _announced(stream.read(HEADER_BYTES), path.name)
            stream.read(announced.start - HEADER_BYTES)
            found, invalid = _read_through(stream, announced)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise truncated(path.name, "its compressed data ends early or is damaged") from error
    if found < announced.voxel_bytes:
        raise truncated(path.name, f"its header announces {announced.voxel_bytes:,} bytes of voxels and the "
                        f"file holds {found:,}")
    if invalid:
        raise not_finite(invalid, announced.voxel_bytes // announced.float_type.itemsize)
    return announced.doubts


def truncated(name: str, evidence: str) -> InputError:
    return InputError("truncated", f"{name} is incomplete or damaged: {evidence}.",
                      "Copy or download the file again.")


def _announced(header: bytes, name: str) -> Announced:
    if len(header) < HEADER_BYTES:
        raise truncated(name, f"a NIfTI header has {HEADER_BYTES} bytes and the file holds {len(header)}")
    order = next((o for o in "<>" if struct.unpack_from(o + "i", header)[0] == HEADER_BYTES), None)
    rank, *size = struct.unpack_from(f"{order}8h", header, 40) if order else (0,)
    if not 1 <= rank <= 7 or header[344:347] != b"n+1":
        raise InputError("unreadable", f"{name} does not hold a NIfTI-1 image.",
                         "Save the CT again as .nii.gz or .nrrd, for example with 3D Slicer.")
    if min(size[: min(rank, 3)]) < 1:
        raise InputError("size", f"{name} announces a size of {' × '.join(map(str, size[:3]))} voxels.",
                         "Export the CT again.")
    spacing = struct.unpack_from(f"{order}3f", header, 80)[: min(rank, 3)]
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise bad_spacing(spacing)
    datatype, bits = struct.unpack_from(f"{order}2h", header, 70)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    start = int(offset) if math.isfinite(offset) and HEADER_BYTES < offset < CHUNK_BYTES else HEADER_BYTES
    float_type = np.dtype(order + FLOATS[datatype]) if datatype in FLOATS else None
    voxel_bytes = math.prod(max(n, 1) for n in size[:rank]) * max(bits, 1) // 8
    return Announced(start, voxel_bytes, float_type, _doubts(header, order, size[: min(rank, 3)], spacing))


def _doubts(header: bytes, order: str, size_xyz: Sequence[int], spacing_xyz_mm: Sequence[float]) -> list[str]:
    """Where the header places the image nowhere, or in two ways: ITK takes one in silence."""
    by_quaternion, by_rows = struct.unpack_from(f"{order}2h", header, 252)  # qform_code, sform_code
    if by_quaternion <= 0 and by_rows <= 0:
        return [_NOT_PLACED]
    rows = np.reshape(struct.unpack_from(f"{order}12f", header, 280), (3, 4))
    if by_quaternion <= 0 and len(size_xyz) == 3:
        _check_lengths(rows[:, :3], spacing_xyz_mm)
    if by_quaternion <= 0 or by_rows <= 0 or len(size_xyz) < 3:
        return []
    b, c, d, *origin = struct.unpack_from(f"{order}6f", header, 256)
    rotation = Rotation.from_quat([b, c, d, math.sqrt(max(0.0, 1 - b * b - c * c - d * d))]).as_matrix()
    left_handed = struct.unpack_from(f"{order}f", header, 76)[0] < 0
    axes = rotation * np.array(spacing_xyz_mm) * (1, 1, -1 if left_handed else 1)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size_xyz))))
    apart_mm = float(np.linalg.norm(corners @ (axes - rows[:, :3]).T + origin - rows[:, 3], axis=1).max())
    if apart_mm <= _SAME_PLACE_MM:
        return []
    return [f"The header says in two ways how the image lies in the patient (qform and sform), up to {apart_mm:.0f} mm "
            "apart; check left and right."]


def _check_lengths(axes_mm: np.ndarray, spacing_xyz_mm: Sequence[float]) -> None:
    """Raises `InputError` where sform, which alone places the image, has other voxels than pixdim: ITK takes these.

    `axes_mm` `(3, 3)`: sform's, a column each. Of axes at other than right angles ITK speaks.
    """
    lengths_mm = np.linalg.norm(axes_mm, axis=0)
    angled = np.abs(axes_mm.T @ axes_mm - np.diag(lengths_mm**2)).max() > SHEAR * lengths_mm.max() ** 2
    if angled or np.allclose(lengths_mm, spacing_xyz_mm, rtol=0.01):
        return
    rows, pixdim = (" × ".join(f"{mm:.3g}" for mm in lengths) for lengths in (lengths_mm, spacing_xyz_mm))
    raise InputError("spacing", f"The header gives two voxel spacings: {rows} mm (sform) and {pixdim} mm (pixdim).",
                     "Export the CT again from its DICOM images, or correct the header.")


def _read_through(stream: BinaryIO, announced: Announced) -> tuple[int, int]:
    """Bytes of voxels found (counted not far beyond what is announced), and how many floats are invalid."""
    found = invalid = 0
    while found <= announced.voxel_bytes and (chunk := stream.read(CHUNK_BYTES)):
        if announced.float_type is not None:
            count = min(len(chunk), announced.voxel_bytes - found) // announced.float_type.itemsize
            values = np.frombuffer(chunk, announced.float_type, count)
            invalid += count - int(np.isfinite(values).sum())
        found += len(chunk)
    return found, invalid
