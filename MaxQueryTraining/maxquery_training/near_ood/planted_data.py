"""Real scans, every tumour type planted into them: five to learn, others to find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from maxquery_training.dataset import TrainingCase, write_raw_dataset
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.lesions.types import INLIERS, LESION_TYPES
from maxquery_training.near_ood.data import Run
from maxquery_training.planted_cases import planted_case
from maxquery_training.preset import Preset

_VALIDATION_SEED, _TEST_SEED = 1000, 2000  # so that what is tested on is not what settings were chosen by


@dataclass(frozen=True)
class PlantedCase:
    """The scan, what is planted into it, and from which seed: in another scan, the same seed makes other lesions."""

    scan: TrainingCase
    kinds: tuple[str, ...]
    seed: int

    @property
    def outlier(self) -> str:
        return "" if LESION_TYPES[self.kinds[0]].inlier else LESION_TYPES[self.kinds[0]].name

    @property
    def patient(self) -> str:
        return self.scan.patient

    @property
    def name(self) -> str:
        return f"{self.scan.name}_{self.kinds[0] if self.outlier else 'inliers'}_{self.seed}"

    def read(self) -> LabelledCase:
        seed = crc32(f"{self.scan.name} {self.seed}".encode())
        case = planted_case(self.scan.image, self.scan.mask, self.kinds, seed, self.scan.labels)
        return replace(case, name=self.name, patient=self.patient)


@dataclass(frozen=True)
class PlantedData:
    """`kinds`: of the outliers; `rounds`: how often each scan of `validation` and of `test` is measured on, with other
    lesions each time."""

    scans: tuple[TrainingCase, ...]
    kinds: tuple[str, ...]
    rounds: Mapping[str, int]

    @property
    def outliers(self) -> tuple[str, ...]:
        return tuple(LESION_TYPES[kind].name for kind in self.kinds)

    @property
    def cases_are(self) -> str:
        return f"each scan with one planted outlier, or with {len(INLIERS)} planted inliers"

    def write(self, raw: Path, run: Run, preset: Preset, processes: int) -> None:
        """Scans without copies are there to test on."""
        seen = [
            scan for scan in self.scans if scan.patient not in run.test and (scan.copies or scan.mask is None)
        ]  # fmt: skip
        write_raw_dataset(raw, seen, run.validation, preset.spacing_zyx_mm, run.seed, processes)

    def validation(self, raw: Path, run: Run) -> list[PlantedCase]:
        return self._cases(run.validation, self.rounds["validation"], _VALIDATION_SEED)

    def test(self, raw: Path, run: Run) -> list[PlantedCase]:
        return self._cases(run.test, self.rounds["test"], _TEST_SEED)

    def _cases(self, patients: Sequence[str], rounds: int, seed: int) -> list[PlantedCase]:
        """Of each scan and round: one case with all inlier types, and one for each type of outlier alone."""
        scans = [scan for scan in self.scans if scan.patient in patients and scan.mask]
        kinds = (INLIERS, *((kind,) for kind in self.kinds))
        return [PlantedCase(scan, kind, seed + i) for scan in scans for i in range(rounds) for kind in kinds]
