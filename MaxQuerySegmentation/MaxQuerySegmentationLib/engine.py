"""Where the engine runs: Slicer's own Python, or another one that a person names."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slicer.i18n import tr as _

from MaxQuerySegmentationLib.child import NO_WINDOW

ENGINE_FOLDER = Path(__file__).resolve().parents[1]
"""The folder that holds the package `maxquery`, in the sources and in an installed extension alike."""

_ASKED = "import importlib.util as u, maxquery as m; print(m.__version__, u.find_spec('torch') is not None)"
_ASKING_SECONDS = 30


@dataclass(frozen=True)
class Engine:
    """A Python that can import `maxquery`, from `package_folder` or, if that is None, as it is installed there.

    `environment`: what a child process inherits; Slicer's own for its own Python, the one that Slicer was started
    with for any other.
    """

    python: Path
    package_folder: Path | None = ENGINE_FOLDER
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def command(self, *arguments: str) -> list[str]:
        """`maxquery` with these arguments, as a list for a child process."""
        return [str(self.python), "-m", "maxquery", *arguments]

    def child_environment(self) -> dict[str, str]:
        environment = {**self.environment, "PYTHONUTF8": "1"}
        if self.package_folder is None:
            for name in ("PYTHONHOME", "PYTHONPATH"):  # where Slicer's Python lives would mislead another one
                environment.pop(name, None)
        else:
            paths = [str(self.package_folder), *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        return environment


def about_python(python: Path, environment: Mapping[str, str]) -> str:
    """A sentence about another Python: which `maxquery` it has, or what stands in the way of a run in `environment`."""
    if not python.is_file():
        return _("No program lies there.")
    engine = Engine(python, None, environment)
    try:
        done = subprocess.run(
            [str(python), "-c", _ASKED], env=engine.child_environment(), capture_output=True, encoding="utf-8",
            errors="replace", timeout=_ASKING_SECONDS, check=False, **NO_WINDOW,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return _("It cannot be used: {error}").format(error=error)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        return _("maxquery is not installed there: {error}").format(error=last)
    version, _space, has_torch = done.stdout.strip().rpartition(" ")
    if has_torch != "True":
        return _("maxquery {version} is installed there, but torch is not.").format(version=version)
    return _("maxquery {version} is installed there.").format(version=version)
