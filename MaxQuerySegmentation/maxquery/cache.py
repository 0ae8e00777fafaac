"""Where a person's computer keeps what can be made or downloaded again; deleting it costs nothing but time."""

import os
import sys
from pathlib import Path


def cache_folder(kind: str) -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "MaxQuery" / kind
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "maxquery" / kind
