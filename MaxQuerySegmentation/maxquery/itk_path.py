"""A path as ITK takes it."""

import os
from pathlib import Path

from maxquery.errors import InputError


def itk_path(path: Path) -> str:
    """`path` with its bytes on the disk read as UTF-8, whatever the locale, as ITK writes them again; InputError where
    they are not: ITK would end the whole process."""
    on_disk = os.fsencode(path)
    try:
        return on_disk.decode()
    except UnicodeDecodeError as error:
        shown = on_disk.decode(errors="replace")
        raise InputError("path", f"The path {shown} is not in UTF-8.", "Rename it, without special letters.") from error
