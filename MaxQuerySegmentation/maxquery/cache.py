"""Where a person's computer keeps what can be made or downloaded again; deleting it costs nothing but time."""

import os
import sys
from pathlib import Path

from maxquery.errors import MachineError

_WINDOWS, _OTHERS = ("LOCALAPPDATA", "", "MaxQuery"), ("XDG_CACHE_HOME", ".cache", "maxquery")


def cache_folder(kind: str) -> Path:
    """Raises MachineError where the user has no home, as a service may have none."""
    variable, usual, name = _WINDOWS if sys.platform == "win32" else _OTHERS
    if folder := os.environ.get(variable):
        return Path(folder) / name / kind
    home = os.path.expanduser("~")
    if home == "~":
        raise MachineError("home", "This user has no home folder to keep files in.", f"Name a folder in {variable}.")
    return Path(home) / usual / name / kind
