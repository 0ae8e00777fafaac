"""What the engine needs beside Slicer's own packages, installed when a person first presses the button."""

import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import slicer
import slicer.packaging
from slicer.i18n import tr as _

_TORCH = ">=2.6"  # as in pyproject.toml
_KEPT = ("numpy", "scipy", "SimpleITK", "torch", "torchvision")
"""Of Slicer or of the PyTorch extension: whatever else is installed must get along with these as they are."""


def about_first_run(requirements: Path) -> str:
    """A sentence for a person: what is still to be installed, and how large it is; empty when all is there."""
    needed = slicer.packaging.load_requirements(requirements)
    missing = [str(each) for each in needed if not slicer.packaging.pip_check(each)]
    without_torch = not slicer.packaging.pip_check(f"torch{_TORCH}")
    if not missing and not without_torch:
        return ""
    # Sizes: of the installed packages on Linux, torch without CUDA.
    return _("The first run asks, and then installs in Slicer: {packages}. About {size} on disk.").format(
        packages=", ".join([*(["torch"] if without_torch else []), *missing]),
        size=_("0.8 GB, several GB with CUDA") if without_torch else _("50 MB"),
    )


def ensure_packages(requirements: Path) -> None:
    """Asks, then installs what is missing of `requirements`; torch by the PyTorch extension alone.

    Slicer's own numpy, SimpleITK and torch stay as they are. Raises RuntimeError when the person declines or the
    PyTorch extension is missing.
    """
    if not slicer.packaging.pip_check(f"torch{_TORCH}"):
        if find_spec("PyTorchUtils") is None:
            raise RuntimeError(_("PyTorch is missing: install the extension 'PyTorch' in the Extensions Manager."))
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        if logic.installTorch(askConfirmation=True, torchVersionRequirement=_TORCH) is None:
            raise RuntimeError(_("PyTorch was not installed, and nothing can run without it."))
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(_as_installed()), "utf-8")
        slicer.packaging.pip_ensure(
            slicer.packaging.load_requirements(requirements), constraints=constraints,
            requester=_("MaxQuery Segmentation"),
        )  # fmt: skip


def _as_installed() -> list[str]:
    lines = []
    for name in _KEPT:
        try:
            lines.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return lines
