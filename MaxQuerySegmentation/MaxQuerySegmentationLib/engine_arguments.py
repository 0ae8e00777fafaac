"""What a run asks of the engine, as the command line has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEVICES, QUALITIES = ("auto", "cpu", "cuda", "mps"), ("fast", "accurate")


@dataclass(frozen=True)
class RunParameters:
    """What a person chooses about a run; the names are those of `maxquery segment`'s options."""

    bundle: str = "liver-demo"
    device: str = "auto"
    quality: str = "fast"


def segment_arguments(phases: Sequence[Path], output: Path, parameters: RunParameters) -> list[str]:
    """The arguments of `maxquery segment` for one case; `phases` are its images, in the model's order.

    >>> segment_arguments([Path("ct.nrrd")], Path("result"), RunParameters())[:3]
    ['segment', 'ct.nrrd', '--output']
    """
    return [
        "segment", *map(str, phases), "--output", str(output), "--bundle", parameters.bundle,
        "--device", parameters.device, "--quality", parameters.quality, "--units", "raw", "--progress", "jsonl",
    ]  # fmt: skip


def responses_arguments(
    phases: Sequence[Path], output: Path, parameters: RunParameters, centre_ras_mm: Sequence[float], size_mm: float
) -> list[str]:
    """The arguments of `maxquery responses` for a cube around a place in the CT."""
    return [
        "responses", *map(str, phases), "--output", str(output), "--bundle", parameters.bundle,
        "--device", parameters.device, "--centre", *(f"{mm:.3f}" for mm in centre_ras_mm),
        "--size", f"{size_mm:g}", "--progress", "jsonl",
    ]  # fmt: skip
