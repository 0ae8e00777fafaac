"""Who follows a training run: a person (bars), a program (JSON lines), Slicer, TensorBoard."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from maxquery.progress import Style, json_reporter, write_line

STAGES = ("backbone", "joint")


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured.

    `losses` are means over its batches: the total, and unweighted each term of it. `dice` by label is nnU-Net's
    estimate on windows of the validation patients, None where there was nothing to find.
    """

    stage: str
    epoch: int
    epochs: int
    losses: dict[str, float]
    validation_loss: float
    dice: dict[str, float | None]
    rate: float
    seconds: float

    def __str__(self) -> str:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        dice = ", ".join(f"{name} {value:.2f}" for name, value in self.dice.items() if value is not None)
        return (
            f"{self.stage} {self.epoch + 1}/{self.epochs}: loss {losses} (validation {self.validation_loss:.3f}); "
            f"Dice {dice or '-'}; rate {self.rate:.1e}; {self.seconds:.0f} s"
        )


class Watcher:
    """Hears of a run; this one keeps it to itself."""

    def advance(self, stage: str, fraction: float, message: str) -> None:
        """A batch is done: `fraction` of the stage."""

    def finish(self, epoch: Epoch) -> None:
        """An epoch is done, and its checkpoint on the disk."""


class Watchers(Watcher):
    def __init__(self, *watchers: Watcher):
        self.watchers = watchers

    def advance(self, stage: str, fraction: float, message: str) -> None:
        for watcher in self.watchers:
            watcher.advance(stage, fraction, message)

    def finish(self, epoch: Epoch) -> None:
        for watcher in self.watchers:
            watcher.finish(epoch)


class JsonLines(Watcher):
    """`{"stage", "fraction", "message"}` for each batch, an `Epoch`'s fields for each epoch, one object a line."""

    def __init__(self, stream: TextIO):
        self.stream, self.report = stream, json_reporter(stream)

    def advance(self, stage: str, fraction: float, message: str) -> None:
        self.report(stage, fraction, message)

    def finish(self, epoch: Epoch) -> None:
        write_line(self.stream, asdict(epoch))


class SlicerProgress(Watcher):
    """What Slicer reads from a CLI module's stdout: both stages are halves of one bar."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def advance(self, stage: str, fraction: float, message: str) -> None:
        total = (STAGES.index(stage) + fraction) / len(STAGES)
        self.stream.write(
            f"<filter-progress>{total:.4f}</filter-progress>\n"
            f"<filter-stage-progress>{fraction:.4f}</filter-stage-progress>\n"
            f"<filter-comment>{message}</filter-comment>\n"
        )
        self.stream.flush()

    def finish(self, epoch: Epoch) -> None:
        self.stream.write(f"{epoch}\n")
        self.stream.flush()


class Bars(Watcher):
    """A live bar for each stage, with the time left, and a line for each epoch."""

    def __init__(self, bars):
        self.bars, self.tasks = bars, {}

    def advance(self, stage: str, fraction: float, message: str) -> None:
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(message, total=1.0, completed=fraction)
        self.bars.update(self.tasks[stage], completed=fraction, description=message)

    def finish(self, epoch: Epoch) -> None:
        self.bars.console.print(str(epoch), highlight=False, soft_wrap=True)


class TensorBoard(Watcher):
    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writers = {stage: SummaryWriter(str(folder / stage)) for stage in STAGES}

    def finish(self, epoch: Epoch) -> None:
        writer, dice = self.writers[epoch.stage], {n: v for n, v in epoch.dice.items() if v is not None}
        scalars = {"rate": epoch.rate, "loss/validation": epoch.validation_loss}
        scalars |= {f"loss/{name}": value for name, value in epoch.losses.items()}
        for name, value in (scalars | {f"dice/{name}": value for name, value in dice.items()}).items():
            writer.add_scalar(name, value, epoch.epoch)
        writer.flush()


@contextmanager
def watcher(style: Style) -> Iterator[Watcher]:
    """The watcher for a style; bars go to stderr, lines for programs to stdout."""
    if style == "jsonl":
        yield JsonLines(sys.stdout)
    elif style == "none":
        yield Watcher()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description:<40}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600) as bars:
            yield Bars(bars)
