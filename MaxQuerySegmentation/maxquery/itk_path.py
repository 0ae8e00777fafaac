"""A path as ITK takes it."""

from pathlib import Path

from maxquery.errors import InputError


def itk_path(path: Path) -> str:
    """`path` in UTF-8, else InputError: ITK ends the whole process where it is given another one."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "surrogateescape").decode(errors="replace")
        raise InputError("path", f"The path {shown} is not in UTF-8.", "Rename it, without special letters.") from error
    return text
