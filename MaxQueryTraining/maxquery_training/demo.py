"""`maxquery demo`: the main job on a real CT, twice: as it is, and with one planted lesion of an unseen type."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from maxquery.bundle import Bundle
    from maxquery.result import Prediction
    from maxquery.volume import Volume

DEFAULT_OUTLIER = "abscess"
DIAMETER_MM = 40.0
SEED = 7
FOUND_SHARE = 0.1  # of a lesion marked OOD: what a reader would look at
LIVER = 5  # in the organ map of the sample
AS_IT_IS, PLANTED = "as-it-is", "planted"  # folders
CT_FILE, MASK_FILE = "planted_ct.nrrd", "planted_mask.nrrd"


def add_command(commands) -> None:
    """Adds `demo` to the parser of the command `maxquery`."""
    from maxquery.cli import add_run_options

    demo = commands.add_parser("demo", help="segment a sample CT, as it is and with a planted unseen lesion")
    demo.add_argument("--input", type=Path, help="a CT of your own instead of the sample")
    demo.add_argument("--output", type=Path, default=Path("demo-output"))
    demo.add_argument("--outlier", default=DEFAULT_OUTLIER, help="type of the planted lesion (%(default)s)")
    add_run_options(demo)
    demo.set_defaults(run=_run, preview=True, scene=True)


def _run(options: argparse.Namespace) -> None:
    from maxquery.cli import cancellable
    from maxquery.errors import InputError
    from maxquery.writing import discard_unfinished
    from maxquery_training.lesions.types import OUTLIERS

    if options.outlier not in OUTLIERS:
        raise InputError("outlier", f"'{options.outlier}' is no outlier type.", f"Known: {', '.join(OUTLIERS)}.")
    folders = (options.output / AS_IT_IS, options.output / PLANTED, options.output)
    made = [folder for folder in folders if not os.path.exists(folder)]

    def discard() -> None:
        for folder in folders:
            discard_unfinished(folder, folder in made)

    told = cancellable(options, discard, lambda report: _demo(options, report))
    if options.progress != "jsonl":
        print(told)


def _demo(options: argparse.Namespace, report) -> str:
    import SimpleITK as sitk

    from maxquery.bundle import find_bundle, load_bundle
    from maxquery.cli import run_parameters, summary
    from maxquery.prediction import RunLog
    from maxquery.reading import read_case
    from maxquery.samples import fetch_sample
    from maxquery.segment import segment_volume
    from maxquery.writing import remove_results
    from maxquery_training.lesions.types import LESION_TYPES
    from maxquery_training.metrics import dice

    report("sample", 0.0, "Reading the CT" if options.input else "Fetching the sample CT")
    bundle = load_bundle(find_bundle(options.bundle))
    sample = None if options.input else fetch_sample("abdomen")
    case = read_case([options.input or sample / "ct.nii.gz"])
    parameters = run_parameters(options)

    def run(volume, name: str, planted: str = ""):
        def staged(stage: str, fraction: float, message: str) -> None:
            report(f"{name}/{stage}", fraction, f"{message} ({name})")

        log = RunLog(warnings=list(case.warnings))
        return segment_volume(volume, bundle, options.output / name, parameters, staged, log,
                              source_kind=case.source_kind, planted=planted)  # fmt: skip

    prediction, document = run(case.volume, AS_IT_IS)
    remove_results(options.output / PLANTED, CT_FILE, MASK_FILE)  # of an earlier CT, perhaps
    parts = ["The CT as it is", summary(document, options.output / AS_IT_IS)]
    healthy, forbidden = prediction.labels == 1, prediction.labels > 1
    if sample is not None:
        organs = sitk.GetArrayFromImage(sitk.ReadImage(str(sample / "organs.nii.gz")))
        overlap = dice(prediction.labels > 0, organs == LIVER)
        parts.append(f"Liver Dice against the sample's automatic organ map: {overlap:.3f}")
        healthy, forbidden = organs == LIVER, None  # the same lesion whatever a model says of the CT

    lesion = LESION_TYPES[options.outlier].name.lower()
    planted = plant_into(case.volume, healthy, forbidden, options.outlier)
    if planted is None:
        why = "no liver was found, or none with room for it."
        return "\n".join([*parts, "", f"No outlier of {DIAMETER_MM:.0f} mm was planted: {why}"])
    volume, mask = planted
    prediction, document = run(volume, PLANTED, lesion)
    write_planted(options.output / PLANTED, volume, mask, lesion)
    parts += ["", f"The same CT with one PLANTED (synthetic) {lesion}, a type the model never saw",
              summary(document, options.output / PLANTED), found(prediction, mask, volume, bundle)]  # fmt: skip
    return "\n".join([*parts, "", "Research use only. Not for diagnosis."])


def plant_into(
    volume: "Volume", healthy: "np.ndarray", forbidden: "np.ndarray | None", kind: str
) -> "tuple[Volume, np.ndarray] | None":
    """`(volume, mask)` with one lesion of `kind` in the `healthy` liver; None where there is no room."""
    import numpy as np

    from maxquery.volume import Volume
    from maxquery_training.lesions.planting import plant

    planted = plant(
        volume.array[0], healthy, volume.grid.spacing_xyz_mm[::-1], kind,
        np.random.default_rng(SEED), forbidden=forbidden, diameter_mm=DIAMETER_MM,
    )  # fmt: skip
    return planted and (Volume(planted.image[None], volume.grid), planted.mask)


def write_planted(folder: Path, volume: "Volume", mask: "np.ndarray", lesion: str) -> None:
    """The CT `(1, Z, Y, X)`, in whole HU as a scene has it, and the lesion's mask `(Z, Y, X)`."""
    from maxquery.nrrd import write_nrrd
    from maxquery.volume import whole_hu

    write_nrrd(folder / CT_FILE, whole_hu(volume.array[0]), volume.grid, {"planted": lesion})
    write_nrrd(folder / MASK_FILE, mask.astype("uint8"), volume.grid, {"planted": lesion})


def found(prediction: "Prediction", mask: "np.ndarray", volume: "Volume", bundle: "Bundle") -> str:
    """One sentence: whether the planted lesion was found as out of distribution, and how much of it."""
    from maxquery.findings import ood_mask

    percentile = bundle.calibration.percentile(prediction.anomaly)
    ood = ood_mask(percentile, prediction.labels, volume.grid)
    share = float(ood[mask].mean())
    tumour = float((prediction.labels[mask] > 1).mean())
    verdict = "found" if share >= FOUND_SHARE else "MISSED"
    return (
        f"The planted lesion ({mask.sum() * volume.grid.voxel_volume_ml:.1f} ml) was {verdict}: {share:.0%} of it is "
        f"marked OOD, its mean anomaly percentile is {percentile[mask].mean():.1f}, and {tumour:.0%} of it is "
        "labelled a tumour of a known type."
    )
