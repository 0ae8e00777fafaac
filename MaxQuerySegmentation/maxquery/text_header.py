"""What the text header of a NRRD or MetaImage file says that ITK does not check before it allocates."""

import math
import re
from pathlib import Path

from .errors import InputError
from .plausibility import bad_spacing

DATA_FILE = re.compile(rb"(?im)^(?:data ?file|ElementDataFile)\s*[:=]\s*(\S.*?)\s*$")
SPACINGS = re.compile(rb"(?im)^(?:spacings|ElementSpacing|ElementSize)\s*[:=]\s*(.*?)\s*$")
RAW = re.compile(rb"(?im)^(?:encoding\s*:\s*raw|CompressedData\s*=\s*False)\s*$")
AS_TEXT = re.compile(rb"(?im)^BinaryData\s*=\s*False\s*$")
LARGEST_RATIO = 1032  # of DEFLATE
DIRECTIONS = re.compile(rb"(?im)^space directions\s*:")


def data_file(path: Path) -> Path:
    """The file that holds the voxels: the header's own, or another one that it names.

    Raises `InputError` where that is missing, or is more than one file.
    """
    named = DATA_FILE.search(_header(path))
    if named is None or named[1].upper() == b"LOCAL":
        return path
    data = named[1].decode(errors="replace")
    if "%" in data or data.upper().startswith("LIST"):
        raise InputError("file-type", f"{path.name} spreads its voxels over several files.",
                         "Save the CT as one file, for example .nrrd or .nii.gz.")
    if not (path.parent / data).is_file():
        raise InputError("missing", f"{path.name} names {data} as its data file, which is not there.",
                         "Keep the header and its data file in one folder.")
    return path.parent / data


def most_voxel_bytes(path: Path) -> int:
    """What the voxels can fill in memory at most, judged by the bytes that are stored."""
    header = _header(path)
    raw = RAW.search(header) and not AS_TEXT.search(header)
    return data_file(path).stat().st_size * (1 if raw else LARGEST_RATIO)


def check_spacing(path: Path) -> None:
    """Raises `InputError` where the header gives no spacing: ITK would read 1 mm."""
    header = _header(path)
    if DIRECTIONS.search(header):
        return
    found = SPACINGS.search(header)
    try:
        spacing = [float(s) for s in found[1].split()[:3]] if found else []
    except ValueError:
        spacing = []
    if not spacing:
        raise InputError("spacing", f"{path.name} does not give the spacing of its voxels.",
                         "Export the CT again from its DICOM images.")
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise bad_spacing(spacing)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16).replace(b"\r", b"").split(b"\n\n")[0]
