"""Small CT files for tests: what a scanner, a converter and a careless export leave behind."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIZE_ZYX = (16, 20, 24)
SPACING_XYZ_MM = (2.5, 3.0, 4.0)


def ct_array(shape_zyx=SIZE_ZYX, seed: int = 0) -> np.ndarray:
    """int16 HU: a noisy body of fat and soft tissue in air."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape_zyx], indexing="ij")
    radius = np.sqrt(0.2 * z**2 + y**2 + x**2)
    hu = np.select([radius < 0.6, radius < 0.8], [50.0, -100.0], -1000.0)
    noise = np.random.default_rng(seed).normal(0, 10, shape_zyx)
    return np.round(hu + noise).clip(-1024).astype(np.int16)


def image_of(array: np.ndarray, spacing=SPACING_XYZ_MM, origin=(-10.0, 20.0, 5.0), direction=None):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(spacing))
    image.SetOrigin(tuple(origin))
    if direction is not None:
        image.SetDirection(np.ravel(direction).tolist())
    return image


def write_ct(path: Path, array: np.ndarray | None = None, *, compress: bool = False, **geometry) -> Path:
    sitk.WriteImage(image_of(ct_array() if array is None else array, **geometry), str(path), compress)
    return path


def write_dicom(folder: Path, array: np.ndarray | None = None, *, positions=None, axes=((1, 0, 0), (0, 1, 0)),
                series="1.2.826.1", **tags: str) -> Path:
    """One file per slice, in an order that the names do not tell.

    `positions` `(Z, 3)` in mm (default: 2.5 mm apart along the normal); `tags` such as `t0008_0060="MR"`.
    """
    folder.mkdir(exist_ok=True)
    array = ct_array((6, 12, 10)) if array is None else array
    if positions is None:
        positions = np.arange(len(array))[:, None] * 2.5 * np.cross(*axes) + [-30.0, 12.5, 100.0]
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, (pixels, position) in enumerate(zip(array, positions, strict=True)):
        image = sitk.GetImageFromArray(pixels)
        if image.GetNumberOfComponentsPerPixel() == 1:
            image.SetSpacing((0.7, 0.8))
        uid = f"{series}.{number + 1}"
        meta = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0018": uid, "0008|0060": "CT",
            "0008|103e": "Abdomen venous", "0010|0010": "Doe^Jane", "0010|0020": "PID4711",
            "0020|000d": "1.2.826", "0020|000e": series, "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
            "0020|0037": "\\".join(f"{v:.9f}" for v in np.ravel(axes)),
            "0028|1052": "-1024", "0028|1053": "1",
        }
        meta |= {f"{name[1:5]}|{name[6:]}": value for name, value in tags.items()}
        for tag, value in meta.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}.{(number * 5 + 3) % 97:02d}.dcm"))
        writer.Execute(image)
    return folder
