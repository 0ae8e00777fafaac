"""A folder or a table of images and masks → the list of cases in it."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxquery.errors import InputError

_TRUE, _FALSE = ("yes", "true", "1"), ("", "no", "false", "0")
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_MASK = re.compile(r"[_-](seg|mask|label|labels)$", re.IGNORECASE)
_IMAGE = re.compile(r"[_-](ct|image|img)$", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFiles:
    """`images`: one file, or folder of DICOM slices, a phase. `outlier`: the patient has a type never trained on."""

    case: str
    patient: str
    images: tuple[Path, ...]
    mask: Path | None
    outlier: bool = False


@dataclass(frozen=True)
class Cohort:
    """`phases` names the channels; every case has that many images, in that order."""

    phases: tuple[str, ...]
    cases: tuple[CaseFiles, ...]

    @property
    def remark(self) -> str | None:
        """What a person should know who did not say which cases are of one patient."""
        if len(self.cases) < 2 or any(case.patient != case.case for case in self.cases):
            return None
        return (
            f"Each of the {len(self.cases)} cases counts as a patient of its own. If some are of one patient, say so "
            "in a table with the column 'patient': else a patient may be in training and in test."
        )


def read_cohort(source: Path) -> Cohort:
    """The cases in a CSV table or a folder; whether the files can be used is not looked at.

    A table has the columns `case`, `mask` and `image`, or one column a phase named `image:` and the phase
    (`image:venous`); `patient` (default: the case) and `outlier` (yes or no) may follow. Paths are relative to
    the table. A case without a mask holds neither organ nor tumour.

    A folder is either nnU-Net's or the Decathlon's (`imagesTr`, `labelsTr`), or holds pairs such as
    `a_ct.nii.gz` and `a_seg.nii.gz`; each case is a patient then. Raises InputError.
    """
    if source.is_dir():
        cohort = _nnunet_folder(source) if (source / "imagesTr").is_dir() else _flat_folder(source)
    elif source.is_file():
        try:
            cohort = _table(source)
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02X}"
            raise InputError(
                "table", f"{source.name} is not in UTF-8: it holds the byte {byte}.",
                "Save it as UTF-8 (in Excel: CSV UTF-8).",
            ) from error  # fmt: skip
    else:
        raise InputError("missing", f"There is no folder or table {source}.", "Check the path.")
    if not cohort.cases:
        raise InputError("no-case", f"{source} holds no case.", "See --help for the ways to name images and masks.")
    names = [case.case for case in cohort.cases]
    twice = _repeated(names)
    if twice:
        raise InputError("case-twice", f"A case stands twice in {source.name}: {', '.join(twice)}.", "Name each once.")
    wrong = [name for name in names if not re.fullmatch(r"[\w.-]+", name)]
    if wrong:
        raise InputError("case-name", f"'{wrong[0]}' cannot be a file's name.", "Use letters, digits, '_', '-', '.'.")
    return cohort


def _table(path: Path) -> Cohort:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        image_columns = [c for c in columns if c == "image" or c.startswith("image:")]
        known = {"case", "patient", "mask", "outlier", *image_columns}
        if not {"case", "mask"} <= set(columns) or not image_columns or set(columns) - known or _repeated(columns):
            raise InputError(
                "table", f"{path.name} has the columns {', '.join(columns) or '(none)'}.",
                "It needs case, mask and image (or image:PHASE for each phase); patient and outlier are optional.",
            )  # fmt: skip
        cases = [_row(path, reader.line_num, row, image_columns) for row in reader]
    phases = tuple(c.partition(":")[2] or "CT" for c in image_columns)
    return Cohort(phases, tuple(cases))


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _row(table: Path, number: int, row: dict, image_columns: list[str]) -> CaseFiles:
    def refuse(what: str) -> InputError:
        return InputError("table", f"{table.name}, line {number}: {what}.", "Mend that line.")

    if None in row or None in row.values():
        raise refuse("it has another number of fields than the heading")
    row = {key: value.strip() for key, value in row.items()}
    empty = [c for c in ("case", *image_columns) if not row[c]]
    if empty:
        raise refuse(f"{empty[0]} is empty")
    outlier = row.get("outlier", "").lower()
    if outlier not in _TRUE + _FALSE:
        raise refuse(f"outlier is '{outlier}', neither yes nor no")
    return CaseFiles(
        row["case"],
        row.get("patient") or row["case"],
        tuple(table.parent / row[c] for c in image_columns),
        table.parent / row["mask"] if row["mask"] else None,
        outlier in _TRUE,
    )


def _nnunet_folder(folder: Path) -> Cohort:
    images: dict[str, list[Path]] = {}
    masks = _by_name(_images(folder / "labelsTr"))
    for path, name in _images(folder / "imagesTr"):
        case = re.sub(r"_\d{4}$", "", name)
        if case not in masks and name in masks:  # the Decathlon's names have no channel, and may end in a number
            case = name
        images.setdefault(case, []).append(path)
    if len({len(paths) for paths in images.values()}) > 1:
        raise InputError("phases", f"The cases in {folder.name} have different numbers of channels.", "Complete them.")
    channels = max(map(len, images.values()), default=0)
    phases = ("CT",) if channels == 1 else tuple(f"channel {i}" for i in range(channels))
    cases = [CaseFiles(name, name, tuple(paths), masks.get(name)) for name, paths in sorted(images.items())]
    return Cohort(phases, tuple(cases))


def _flat_folder(folder: Path) -> Cohort:
    found = _images(folder)
    masks = _by_name((path, _MASK.sub("", name)) for path, name in found if _MASK.search(name))
    images = _by_name((path, _IMAGE.sub("", name)) for path, name in found if not _MASK.search(name))
    orphans = sorted(masks.keys() - images.keys())
    if orphans:
        raise InputError("no-image", f"{masks[orphans[0]].name} has no image beside it.", "Add it, or remove the mask.")
    return Cohort(("CT",), tuple(CaseFiles(n, n, (path,), masks.get(n)) for n, path in sorted(images.items())))


def _by_name(found: Iterable[tuple[Path, str]]) -> dict[str, Path]:
    """The file of each case. Raises InputError where two are of one."""
    files: dict[str, Path] = {}
    for path, case in found:
        if case in files:
            message = f"{files[case].name} and {path.name} both seem to be of the case {case}."
            raise InputError("case-twice", message, "Leave one of them, or say in a table which is which.")
        files[case] = path
    return files


def _images(folder: Path) -> list[tuple[Path, str]]:
    """Image files and their names without the suffix, in order; a hidden file is none."""
    found = []
    for path in sorted(folder.glob("[!.]*")):
        suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is not None:
            found.append((path, path.name[: -len(suffix)]))
    return found
