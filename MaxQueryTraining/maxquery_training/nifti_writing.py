"""Images of a dataset: whole on the disk, or an error."""

from pathlib import Path

import SimpleITK as sitk

from maxquery.errors import InputError, MachineError
from maxquery.nifti import check_nifti


def write_nifti(image: sitk.Image, path: Path) -> None:
    """Raises MachineError where not all of it arrived: ITK says nothing of a full disk or quota, and would read what is
    missing as 0 HU."""
    try:
        sitk.WriteImage(image, str(path))
        check_nifti(path)
    except (InputError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        hint = "Make room on the disk, or in the quota, and give the command again."
        raise MachineError("disk_full", f"{path} could not be written whole.", hint) from error
