"""What the engine needs beside Slicer's own packages, installed when a person first presses the button."""

from importlib.util import find_spec
from pathlib import Path

import slicer
from slicer.i18n import tr as _


def ensure_packages(requirements: Path) -> None:
    """Asks, then installs what is missing of `requirements`; torch by the PyTorch extension alone.

    Slicer's own numpy, SimpleITK and torch stay as they are. Raises RuntimeError when the person declines or the
    PyTorch extension is missing.
    """
    if find_spec("torch") is None:
        if find_spec("PyTorchUtils") is None:
            raise RuntimeError(_("PyTorch is missing: install the extension 'PyTorch' in the Extensions Manager."))
        import PyTorchUtils

        if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
            raise RuntimeError(_("PyTorch was not installed, and nothing can run without it."))
    slicer.packaging.pip_ensure(
        slicer.packaging.load_requirements(requirements), requester=_("MaxQuery Segmentation")
    )
