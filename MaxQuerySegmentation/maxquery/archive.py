"""The files of a model bundle as bytes, from a folder or a zip that nobody has reason to trust.

Nothing is extracted: a zip is read into memory, so no half-written copy can be left behind, and a
name inside it never becomes a path on the disk.
"""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from maxquery.errors import InputError

REQUIRED = ("bundle.json", "weights.safetensors", "queries.json", "SHA256SUMS")
ALLOWED = (*REQUIRED, "README.md")

# Four times the largest nnU-Net in float32; weights hardly compress, so a high ratio is no model.
TOTAL_LIMIT_BYTES = 2 << 30
TEXT_LIMIT_BYTES = 4_000_000
RATIO_LIMIT = 100

# What file managers drop into a folder that somebody opened: ignored, never read.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")
PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin")

ASK = "Ask whoever gave you the bundle for a fresh copy."


def read_files(path: Path) -> dict[str, bytes]:
    """Name → content of every file of the bundle at `path` (a folder or a zip).

    Raises InputError: 'bundle-not-found', 'bundle-pickle', 'bundle-unsafe', 'bundle-too-large',
    'bundle-damaged' (a zip that cannot be read) or 'bundle-incomplete'.
    """
    if path.is_dir():
        if not any((path / name).exists() for name in REQUIRED):
            raise InputError(
                "bundle-not-found", f"The folder {path} is no bundle: it holds none of {', '.join(REQUIRED)}.",
                "Give the folder that holds them, a zip of it, or the name of an installed bundle.",
            )  # fmt: skip
        files = _read_folder(path)
    elif not path.is_file():
        raise InputError("bundle-not-found", f"There is no bundle at {path}.", "Check the path.")
    elif path.suffix.lower() in PICKLES:
        raise pickle_error(path.name)
    elif zipfile.is_zipfile(path):
        files = _read_zip(path)
    else:
        raise InputError("bundle-damaged", f"{path.name} is neither a folder nor a zip.", ASK)
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise InputError(
            "bundle-incomplete", f"{path.name} is no whole bundle: {', '.join(missing)} is missing.", ASK
        )
    return files


def pickle_error(name: str) -> InputError:
    return InputError(
        "bundle-pickle",
        f"{name} is a pickle, which can run code when it is loaded; it was not opened.",
        "Export the model again: bundles hold their weights as weights.safetensors.",
    )


def _read_folder(folder: Path) -> dict[str, bytes]:
    entries = sorted(entry for entry in folder.iterdir() if entry.name not in LITTER)
    for entry in entries:
        if entry.is_symlink():
            raise _unsafe(f"{entry.name} is a symbolic link, which may point anywhere.")
        _check_name(entry.name)
        if not entry.is_file():
            raise _unsafe(f"{entry.name} is not a plain file.")
    _check_sizes({entry.name: entry.stat().st_size for entry in entries})
    return {entry.name: entry.read_bytes() for entry in entries}


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            sizes = {name: member.file_size for name, member in members.items()}
            _check_sizes(sizes)
            if sum(sizes.values()) > RATIO_LIMIT * path.stat().st_size:
                raise InputError(
                    "bundle-too-large",
                    f"{path.name} would unpack to more than {RATIO_LIMIT} times its size.",
                    ASK,
                )
            return {name: _read_member(archive, member) for name, member in members.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise InputError("bundle-damaged", f"{path.name} cannot be read as a zip: {error}.", ASK) from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The zip's files by name, without the one top folder that may hold them all."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        # `filename` is already tidied for this platform; what was written is in `orig_filename`.
        written = member.orig_filename
        name = PurePosixPath(written)
        outside = not name.parts or name.is_absolute() or ".." in name.parts
        if outside or any(mark in written for mark in ("\\", ":", "\0")):
            raise _unsafe(f"The zip names a file outside itself: {written!r}.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _unsafe(f"{written} is a symbolic link, which may point anywhere.")
        if member.is_dir() or set(name.parts) & set(LITTER):
            continue
        if member.flag_bits & 0x1:
            raise _unsafe(f"{written} is encrypted.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks the others without a bound on memory.
            raise _unsafe(f"{written} is compressed by an unusual method ({member.compress_type}).")
        if name in members:
            raise _unsafe(f"The zip holds two files called {written}.")
        members[name] = member
    tops = {name.parts[0] for name in members}
    if len(tops) == 1 and all(len(name.parts) > 1 for name in members):
        members = {PurePosixPath(*name.parts[1:]): member for name, member in members.items()}
    for name in members:
        _check_name(str(name))
    return {str(name): member for name, member in members.items()}


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    # The header may lie about the size: never read beyond it, whatever the stream would give.
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} is not as long as the zip says")
    return content


def _check_name(name: str) -> None:
    if Path(name).suffix.lower() in PICKLES:
        raise pickle_error(name)
    if name not in ALLOWED:
        raise _unsafe(f"{name} does not belong in a bundle, which holds only {', '.join(ALLOWED)}.")


def _check_sizes(sizes: dict[str, int]) -> None:
    if sum(sizes.values()) > TOTAL_LIMIT_BYTES:
        found = sum(sizes.values()) / 2**30
        raise InputError(
            "bundle-too-large",
            f"The bundle's files take {found:.1f} GiB; the limit is {TOTAL_LIMIT_BYTES >> 30} GiB.",
            ASK,
        )
    for name, size in sizes.items():
        if name != "weights.safetensors" and size > TEXT_LIMIT_BYTES:
            raise InputError(
                "bundle-too-large",
                f"{name} takes {size / 1e6:.1f} MB; the limit is {TEXT_LIMIT_BYTES / 1e6:.0f} MB.",
                ASK,
            )


def _unsafe(message: str) -> InputError:
    return InputError(
        "bundle-unsafe", message, "Do not use this bundle unless you know who made it; " + ASK.lower()
    )
