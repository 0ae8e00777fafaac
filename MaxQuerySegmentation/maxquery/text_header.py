"""What the text header of a NRRD or MetaImage file says that ITK does not check before it allocates."""

import math
import re
import zlib
from pathlib import Path
from typing import BinaryIO

from maxquery.errors import InputError
from maxquery.nifti import truncated
from maxquery.plausibility import bad_spacing

DATA_FILE = re.compile(rb"(?im)^(?:data ?file|ElementDataFile)\s*[:=]\s*(\S.*?)\s*$")
SPACINGS = re.compile(rb"(?im)^(?:spacings|ElementSpacing|ElementSize)\s*[:=]\s*(.*?)\s*$")
RAW = re.compile(rb"(?im)^(?:encoding\s*:\s*raw|CompressedData\s*=\s*False)\s*$")
AS_TEXT = re.compile(rb"(?im)^BinaryData\s*=\s*False\s*$")
DEFLATED = re.compile(rb"(?im)^(?:encoding\s*:\s*gz(?:ip)?|CompressedData\s*=\s*True)\s*$")
SKIPPED = re.compile(rb"(?im)^(?:line|byte) ?skip\s*:\s*[^0\s]")
ATTACHED = re.compile(rb"\r?\n\r?\n|(?i:ElementDataFile\s*=\s*LOCAL)[^\n]*\n")  # after it the voxels begin
PLACED = re.compile(rb"(?im)^(?:space\s*:|(?:TransformMatrix|Rotation|Orientation)\s*=)")
LARGEST_RATIO = 1032  # of DEFLATE
_HEADER_BYTES, _CHUNK_BYTES = 1 << 20, 1 << 16
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


def check_compressed(path: Path, voxel_bytes: int) -> None:
    """Reads compressed voxels through once, where the header at `path` says that they are.

    Raises `InputError` where they are damaged or are not `voxel_bytes`: ITK would read what it cannot inflate as 0.
    """
    header, data = _header(path), data_file(path)
    if not DEFLATED.search(header) or SKIPPED.search(header):
        return
    with data.open("rb") as file:
        if data == path:
            file.seek(ATTACHED.search(file.read(_HEADER_BYTES)).end())
        try:
            found = _inflated_bytes(file, voxel_bytes)
        except zlib.error as error:
            raise truncated(data.name, "its compressed data ends early or is damaged") from error
    if found < voxel_bytes:
        raise truncated(data.name, f"its header announces {voxel_bytes:,} bytes of voxels and it holds {found:,}")


def _inflated_bytes(file: BinaryIO, enough: int) -> int:
    """How many bytes come out, to the end of the stream in which they are `enough`; a gzip file may have several.

    Raises `zlib.error` where a stream is damaged or ends early.
    """
    inflater, found = zlib.decompressobj(zlib.MAX_WBITS | 32), 0  # gzip's header or zlib's
    while not (inflater.eof and found >= enough) and (chunk := inflater.unused_data or file.read(_CHUNK_BYTES)):
        if inflater.eof:
            inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        found += len(inflater.decompress(chunk))
    if not inflater.eof:
        raise zlib.error("the stream ends early")
    return found


def not_placed(path: Path) -> list[str]:
    """A warning where the header does not say how the image lies in the patient: ITK then takes LPS."""
    if PLACED.search(_header(path)):
        return []
    return ["The header does not say how the image lies in the patient; left and right may be swapped."]


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
        return file.read(_HEADER_BYTES).replace(b"\r", b"").split(b"\n\n")[0]
