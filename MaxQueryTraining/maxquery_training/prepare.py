"""A cohort on disk → an nnU-Net dataset: every case looked at, patients dealt out, nothing half-written."""

import csv
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.errors import InputError, MaxQueryError
from maxquery.reading import read_case, read_mask
from maxquery.volume import Grid, whole_hu
from maxquery_training.cohort import CaseFiles, Cohort
from maxquery_training.label_scheme import ORGAN, OUTLIER, LabelScheme
from maxquery_training.nifti_writing import write_nifti
from maxquery_training.planting import plant_inliers
from maxquery_training.split import split_patients

OOD = "ood"
FOLDERS = {"train": "Tr", "val": "Tr", "test": "Ts", OOD: "Ood"}  # imagesTr, labelsTr, …
_STAGED = ("images", "labels")
_GRID_TOLERANCE_MM = 0.05  # headers are often rounded
_ALL_BUT_WHOLE = 1e-3  # a float file's 0.99999994 is a 1


@dataclass
class CaseReport:
    """What was found in one case; with a problem it cannot be used. `set` is empty until patients are dealt out."""

    case: str
    patient: str
    outlier: bool
    set: str = ""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    size_xyz: tuple[int, ...] = ()
    spacing_xyz_mm: tuple[float, ...] = ()
    volumes_ml: dict[str, float] = field(default_factory=dict)


def prepare(
    cohort: Cohort,
    scheme: LabelScheme,
    folder: Path,
    *,
    seed: int = 0,
    skip_faulty: bool = False,
    plant: int = 0,
    processes: int = 1,
    advance: Callable[[CaseReport], None] = lambda report: None,
) -> list[CaseReport]:
    """Writes nnU-Net's raw dataset `folder` (`DatasetNNN_Name`), and `cases.csv` and `cases.json` beside the images.

    Images (HU, int16) and masks (the model's labels) lie in LPS there. Patients with an outlier go to
    `imagesOod` whole, the others are split by `split_patients`; test cases lie in `imagesTs`. Each case with an
    organ, but for those in `imagesOod`, gets `plant` companions with synthetic lesions of the kinds in the scheme.
    `advance` hears of each case as it is done.

    Raises InputError when a case has a problem (unless `skip_faulty` leaves it out), when none is left, when the organ
    or a type is in none of the training cases, when `folder` exists, or another dataset of its number; then nothing is
    written.
    """
    if folder.exists():
        raise InputError("dataset-exists", f"{folder} exists; it was left as it is.", "Remove it, or choose another.")
    if plant and not scheme.planted:
        hint = 'Say which kind stands for which type, such as "plant": "cyst".'
        raise InputError("plant", "The labels do not say what to plant.", hint)
    if plant and len(cohort.phases) > 1:
        message = f"Lesions can be planted into one phase only; the cases have {len(cohort.phases)}."
        raise InputError("plant", message, "Prepare one phase, or plant nothing.")
    _check_names(cohort, folder, plant)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        staged = Path(temporary) / folder.name  # with everybody's permissions, which `temporary` has not
        for kind in _STAGED:
            (staged / kind).mkdir(parents=True)
        reports = []
        with ProcessPoolExecutor(processes) as pool:
            for report in pool.map(partial(_convert, scheme=scheme, folder=staged), cohort.cases):
                reports.append(report)
                advance(report)
        _deal_out(reports, scheme, seed)
        faulty = [report for report in reports if report.problems]
        if faulty and not skip_faulty:
            raise InputError("cases", f"{len(faulty)} of {len(reports)} cases cannot be used.",
                             "Mend them, or leave them out (in a shell: --skip-faulty).")  # fmt: skip
        if not any(report.set == "train" for report in reports):
            raise InputError("cases", "No case is left to train on.", "Mend the cases, or add some.")
        unseen = _unseen_types(reports, scheme, plant)
        if unseen:
            hint = "Give them values that the masks hold; types may be planted (--plant and \"plant\") or left out."
            raise InputError("cases", f"No mask to train on holds {', '.join(unseen)}.", hint)
        _arrange(staged, reports, len(cohort.phases))
        healthy = [r for r in reports if r.set and r.set != OOD and scheme.organ in r.volumes_ml]
        copies = [(report, copy) for report in healthy for copy in range(plant)]
        with ProcessPoolExecutor(processes) as pool:
            for report in pool.map(partial(_plant, scheme=scheme, folder=staged, seed=seed), copies):
                reports.append(report)
                advance(report)
        _describe(staged, reports, scheme, cohort.phases, seed)
        staged.rename(folder)
    return reports


def _check_names(cohort: Cohort, folder: Path, plant: int) -> None:
    """Raises InputError where nnU-Net, or a companion with planted lesions, would take one thing for another."""
    same_number = sorted(folder.parent.glob(f"{folder.name[:10]}_*"))
    if same_number:
        message = f"{same_number[0]} has the same number, and nnU-Net knows datasets by it."
        raise InputError("dataset-exists", message, "Choose another number.")
    names = {case.case for case in cohort.cases}
    taken = sorted(names & {_companion(name, copy) for name in names for copy in range(plant)})
    if taken:
        message = f"The case {taken[0]} is called as a companion with planted lesions will be."
        raise InputError("plant", message, "Rename it, or leave it out if it was planted before.")


def _unseen_types(reports: list[CaseReport], scheme: LabelScheme, plant: int) -> list[str]:
    """The organ and the types that the network could learn from no case; lesions are planted into the organ."""
    seen = {name for report in reports if report.set == "train" for name in report.volumes_ml}
    planted = {scheme.type_of(label) for label in scheme.planted.values()} if plant else set()
    return [name for name in (scheme.organ, *scheme.types) if name not in seen | planted]


def _convert(files: CaseFiles, scheme: LabelScheme, folder: Path) -> CaseReport:
    """Looks at one case and writes its images and its mask into `folder`."""
    report = CaseReport(files.case, files.patient, files.outlier)
    try:
        case = read_case(files.images)
    except MaxQueryError as error:
        report.problems.append(str(error))
        return report
    grid = case.volume.grid
    report.warnings.extend(case.warnings)
    report.size_xyz, report.spacing_xyz_mm = grid.size_xyz, tuple(round(s, 4) for s in grid.spacing_xyz_mm)
    mask = _mask(files, grid, scheme, report)
    if report.problems:
        return report
    for channel, array in enumerate(case.volume.array):
        _write(folder / "images" / f"{files.case}_{channel:04d}.nii.gz", whole_hu(array), grid)
    _write(folder / "labels" / f"{files.case}.nii.gz", mask, grid)
    return report


def _mask(files: CaseFiles, grid: Grid, scheme: LabelScheme, report: CaseReport) -> np.ndarray | None:
    """The mask in the model's labels; adds to the report's problems, warnings and volumes."""
    if files.mask is None:
        report.warnings.append(f"No {scheme.organ} is labelled.")
        _check_outlier(files, report)
        return np.zeros(grid.shape_zyx, np.uint8)
    try:
        array, own = read_mask(files.mask)
    except MaxQueryError as error:
        report.problems.append(f"The mask cannot be used: {error}")
        return None
    if not own.same_as(grid, _GRID_TOLERANCE_MM):
        report.problems.append(
            f"The mask does not lie on the image's grid: {_described(own)}; the image {_described(grid)}."
        )
        return None
    whole = np.rint(array)
    array = np.where(np.abs(array - whole) < _ALL_BUT_WHOLE, whole, array)
    strange = [f"{value:g}" for value in np.unique(array) if value not in scheme.meaning]
    if strange:
        listed = ", ".join(map(str, sorted(scheme.meaning)))
        report.problems.append(
            f"The mask holds values without a meaning: {', '.join(strange[:6])}; the labels list {listed}."
        )
        return None
    mask = scheme.map(array.astype(np.int64))
    report.volumes_ml = _volumes_ml(mask, grid, scheme)
    if scheme.organ not in report.volumes_ml:
        report.warnings.append(f"No {scheme.organ} is labelled.")
    _check_outlier(files, report)
    return mask


def _check_outlier(files: CaseFiles, report: CaseReport) -> None:
    """The table and the mask must agree, or a strange tumour would be measured as liver without one."""
    holds = "outlier" in report.volumes_ml
    if holds and not files.outlier:
        report.problems.append("The mask holds an outlier, but the patient is not listed as one (column 'outlier').")
    if files.outlier and not holds:
        report.problems.append(
            "The case is listed as an outlier, but no mask says where that lies. Outline it, or, for a scan of the "
            "patient without it, say no in the column 'outlier'."
        )


def _plant(report_and_copy: tuple[CaseReport, int], scheme: LabelScheme, folder: Path, seed: int) -> CaseReport:
    """Writes a copy of a case with lesions of its own."""
    report, copy = report_and_copy
    case, suffix = _companion(report.case, copy), FOLDERS[report.set]
    image = sitk.ReadImage(str(folder / f"images{suffix}" / f"{report.case}_0000.nii.gz"))
    mask = sitk.ReadImage(str(folder / f"labels{suffix}" / f"{report.case}.nii.gz"))
    hu, labels = plant_inliers(
        sitk.GetArrayFromImage(image).astype(np.float32), sitk.GetArrayFromImage(mask), image.GetSpacing()[::-1],
        np.random.default_rng([seed, *case.encode()]), scheme.planted,
    )  # fmt: skip
    grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    _write(folder / f"images{suffix}" / f"{case}_0000.nii.gz", whole_hu(hu), grid)
    _write(folder / f"labels{suffix}" / f"{case}.nii.gz", labels, grid)
    return replace(report, case=case, volumes_ml=_volumes_ml(labels, grid, scheme))


def _companion(case: str, copy: int) -> str:
    """What a copy of a case, with planted lesions, is called."""
    return f"{case}_planted{copy:02d}"


def _volumes_ml(labels: np.ndarray, grid: Grid, scheme: LabelScheme) -> dict[str, float]:
    names = {ORGAN: scheme.organ, scheme.ignore: "ignore", OUTLIER: "outlier"}
    return {
        names.get(label) or scheme.type_of(label): round(count * grid.voxel_volume_ml, 3)
        for label, count in zip(*map(np.ndarray.tolist, np.unique(labels, return_counts=True)), strict=True)
        if label
    }


def _described(grid: Grid) -> str:
    spacing = " × ".join(f"{mm:.5g}" for mm in grid.spacing_xyz_mm)
    origin = ", ".join(f"{mm:.1f}" for mm in grid.origin_lps_mm)
    axes = ", ".join(f"{value:.4g}" for value in np.ravel(grid.direction))
    return f"{grid.size_xyz} voxels of {spacing} mm from ({origin}), direction ({axes})"


def _write(path: Path, array: np.ndarray, grid: Grid) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_xyz_mm)
    image.SetOrigin(grid.origin_lps_mm)
    image.SetDirection(np.ravel(grid.direction).tolist())
    # nnU-Net looks at arrays, not at directions.
    write_nifti(sitk.DICOMOrient(image, "LPS"), path)


def _deal_out(reports: list[CaseReport], scheme: LabelScheme, seed: int) -> None:
    """Gives each usable case its set; one outlier case, usable or not, makes the whole patient one.

    Patients of whom nothing is labelled are dealt out on their own: no set must have to do with them alone.
    """
    usable = [report for report in reports if not report.problems]
    outliers = {report.patient for report in reports if report.outlier or "outlier" in report.volumes_ml}
    found: dict[str, set[str]] = {r.patient: set() for r in usable if r.patient not in outliers}
    for report in usable:
        if report.patient in found:
            found[report.patient].update(set(report.volumes_ml) & {scheme.organ, *scheme.types})
    sets = split_patients({p: names - {scheme.organ} for p, names in found.items() if names}, seed)
    for name, patients in split_patients({p: names for p, names in found.items() if not names}, seed).items():
        sets[name if sets[name] else "train"] += patients
    sets[OOD] = sorted(outliers)
    set_of = {patient: name for name, patients in sets.items() for patient in patients}
    for report in usable:
        report.set = set_of[report.patient]


def _arrange(staged: Path, reports: list[CaseReport], channels: int) -> None:
    """Moves the files of the usable cases to where nnU-Net looks for them."""
    for suffix in {"Tr", *(FOLDERS[r.set] for r in reports if r.set)}:
        (staged / f"images{suffix}").mkdir()
        (staged / f"labels{suffix}").mkdir()
    for report in reports:
        if report.set:
            suffix = FOLDERS[report.set]
            for channel in range(channels):
                name = f"{report.case}_{channel:04d}.nii.gz"
                (staged / "images" / name).rename(staged / f"images{suffix}" / name)
            name = f"{report.case}.nii.gz"
            (staged / "labels" / name).rename(staged / f"labels{suffix}" / name)
    for kind in _STAGED:
        (staged / kind).rmdir()


def _describe(
    folder: Path, reports: list[CaseReport], scheme: LabelScheme, phases: tuple[str, ...], seed: int
) -> None:
    document = {
        # nnU-Net chooses the normalisation by this name; what the phases are stands beside it.
        "channel_names": {str(i): "CT" for i in range(len(phases))},
        "phases": list(phases),
        "labels": scheme.nnunet_labels,
        "numTraining": sum(FOLDERS.get(r.set) == "Tr" for r in reports),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    sets = {name: {r.case: 1 for r in reports if r.set == name} for name in FOLDERS}
    patients = {r.case: r.patient for r in reports if r.set}
    (folder / "cases.json").write_text(json.dumps(sets | {"patients": patients, "seed": seed}, indent=2))
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CaseReport.__dataclass_fields__)
        for report in reports:
            row = asdict(report)
            row |= {key: " ".join(row[key]) for key in ("problems", "warnings")}
            row |= {key: " × ".join(map(str, row[key])) for key in ("size_xyz", "spacing_xyz_mm")}
            row["volumes_ml"] = ", ".join(f"{name} {ml:g}" for name, ml in report.volumes_ml.items())
            writer.writerow(row.values())
