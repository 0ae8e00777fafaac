"""The command `maxquery`: a CT in, a result folder out."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maxquery.errors import Cancelled, InputError, MachineError, MaxQueryError, unforeseen
from maxquery.interruption import sigterm_interrupts

if TYPE_CHECKING:
    from maxquery.progress import Report
    from maxquery.segment import SegmentParameters

T = TypeVar("T")
DEFAULT_BUNDLE = "liver-demo"
_READER_GONE = 141  # as a shell has it of a program that SIGPIPE ended before its work was done


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, as `run_command` has it."""
    return run_command(build_parser(), arguments, f"Install it into this Python: {sys.executable}.")


def run_command(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, package_hint: str,
    stopped: Cancelled = Cancelled(),
) -> int:  # fmt: skip
    """Runs what `arguments` ask for, and says how it ended: people on stderr, programs on stdout.

    Exit code 0; 1 for an error of ours, 2 for the input or arguments, 3 for the machine, 130 when cancelled, 141 when
    nobody reads.
    `package_hint` says how a missing package is installed, `stopped` what Ctrl-C leaves behind.
    """
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # a terminal without "×" gets "?"
    options = parser.parse_args(arguments)
    code, error = None, None
    try:
        with sigterm_interrupts():
            code = options.run(options) or 0
        sys.stdout.flush()
    except MaxQueryError as caught:
        error = caught
    except KeyboardInterrupt:
        error = stopped
    except BrokenPipeError:  # whoever reads, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE if code is None else code
    except ModuleNotFoundError as caught:
        error = MachineError("package", f"The Python package '{caught.name}' is missing.", package_hint)
    except Exception as caught:
        error = unforeseen(caught)
        if options.traceback:
            traceback.print_exc()
    if getattr(options, "progress", "none") == "jsonl":
        from maxquery.progress import report_end

        report_end("jsonl", error, sys.stdout)
    if error is not None:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    return code


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maxquery", description="Tumours by type, and what the model never saw.")
    parser.add_argument("--traceback", action="store_true", help="print where an unexpected error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    segment = commands.add_parser("segment", help="segment a CT and map its anomaly")
    segment.add_argument("ct", nargs="+", type=Path, help="CT file or DICOM folder; several are phases of one case")
    segment.add_argument("--output", type=Path, required=True, help="folder for the result")
    add_run_options(segment)
    segment.add_argument("--scene", action="store_true", help="also write scene.mrb for 3D Slicer")
    segment.add_argument("--preview", action="store_true", help="also write preview.png")
    segment.set_defaults(run=_segment)

    responses = commands.add_parser("responses", help="what every query answers around one place, for inspection")
    responses.add_argument("ct", nargs="+", type=Path, help="as for segment")
    responses.add_argument("--output", type=Path, required=True, help="the .npz file to write")
    responses.add_argument("--centre", nargs=3, type=float, required=True, metavar=("R", "A", "S"), help="mm")
    responses.add_argument("--size", type=float, default=80.0, help="edge of the cube around it, mm (%(default)s)")
    responses.add_argument("--bundle", default=DEFAULT_BUNDLE, help="as for segment (%(default)s)")
    responses.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    responses.add_argument("--progress", choices=("rich", "jsonl", "none"), default="rich")
    responses.set_defaults(run=_responses)

    info = commands.add_parser("info", help="what a model was trained on, its labels, limits and figures")
    info.add_argument("bundle")
    info.set_defaults(run=_info)
    commands.add_parser("bundles", help="list the models that are installed").set_defaults(run=_bundles)
    samples = commands.add_parser("samples", help="list sample CT, or download one")
    samples.add_argument("name", nargs="?", help="the sample to download")
    samples.set_defaults(run=_samples)
    for command in entry_points(group="maxquery.commands"):  # packages built on this one add theirs
        command.load()(commands)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run, shared by every command that makes one."""
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="model: a name, folder or zip (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--quality", choices=("accurate", "fast"), default="fast")
    parser.add_argument("--roi", choices=("whole", "organ"), default="whole",
                        help="organ finds the organ first, and computes what lies around it (%(default)s)")  # fmt: skip
    parser.add_argument("--locator", default=DEFAULT_BUNDLE,
                        help="the small model that finds the organ, with --roi organ (%(default)s)")  # fmt: skip
    parser.add_argument("--backend", choices=("auto", "torch", "openvino"), default="auto",
                        help="auto takes OpenVINO for a CPU where it is installed (%(default)s)")  # fmt: skip
    parser.add_argument("--units", choices=("percentile", "minmax", "raw"), default="percentile",
                        help="of anomaly.nrrd (%(default)s)")  # fmt: skip
    parser.add_argument("--progress", choices=("rich", "jsonl", "none"), default="rich")


def run_parameters(options: argparse.Namespace) -> "SegmentParameters":
    """From the options that `add_run_options` added, `preview` and `scene`."""
    from maxquery.prediction import PredictionParameters
    from maxquery.segment import SegmentParameters

    prediction = PredictionParameters(
        device=options.device, quality=options.quality, roi=options.roi, locator=options.locator,
        backend=options.backend,
    )  # fmt: skip
    return SegmentParameters(prediction, units=options.units, preview=options.preview, scene=options.scene)


def cancellable(options: argparse.Namespace, discard: Callable[[], None], work: Callable[["Report"], T]) -> T:
    """Runs `work(report)` with progress as asked for; signals cancel it, and `discard` what it has half written."""
    from maxquery.interruption import run_cancellable
    from maxquery.progress import report_end, reporter

    def on_cancel() -> None:
        discard()
        report_end(options.progress, Cancelled(), sys.stdout)
        print(f"maxquery: {Cancelled()}", file=sys.stderr, flush=True)

    def watched(stop):
        with reporter(options.progress) as report:

            def report_or_stop(stage: str, fraction: float, message: str) -> None:
                if stop.is_set():
                    raise Cancelled()
                report(stage, fraction, message)

            return work(report_or_stop)

    return run_cancellable(watched, on_cancel)


def _segment(options: argparse.Namespace) -> None:
    from maxquery.writing import discard_unfinished

    def work(report):
        report("start", 0.0, "Loading the model")
        from maxquery.bundle import find_bundle, load_bundle
        from maxquery.segment import segment_files

        bundle = load_bundle(find_bundle(options.bundle))
        return segment_files(options.ct, bundle, options.output, run_parameters(options), report)

    made = not os.path.exists(options.output)
    document = cancellable(options, lambda: discard_unfinished(options.output, made), work)
    if options.progress != "jsonl":
        print(summary(document, options.output))


def _responses(options: argparse.Namespace) -> None:
    from maxquery.writing import discard_part

    def work(report):
        report("start", 0.0, "Loading the model")
        from maxquery.bundle import find_bundle, load_bundle
        from maxquery.prediction import PredictionParameters
        from maxquery.reading import read_case
        from maxquery.responses import write_responses

        bundle = load_bundle(find_bundle(options.bundle))
        volume = read_case(options.ct).volume
        parameters = PredictionParameters(device=options.device)
        write_responses(volume, bundle, options.output, options.centre, options.size, parameters, report)

    cancellable(options, lambda: discard_part(options.output), work)


def summary(document: dict, output: Path) -> str:
    """A few lines for a person: volumes, findings, case score, warnings, and where the files are."""
    lines = ["Volumes:  " + ", ".join(f"{n} {v:.1f} ml" for n, v in document["volumes_ml"].items() if v > 0)]
    score = document["case_score"]
    lines.append(
        f"Case score: {score['raw']:.2f} raw, percentile {score['percentile']:.1f}"
        if score
        else "Case score: none, no tumour is predicted"
    )
    lines.append(f"Findings: {len(document['findings'])}")
    shown = document["findings"][:8]
    width = max((len(f["label"]) for f in shown), default=0)
    for f in shown:
        sides = zip(("RL", "AP", "SI"), f["centroid_ras_mm"], strict=True)
        place = " ".join(f"{ends[mm < 0]}{abs(mm):.0f}" for ends, mm in sides)
        lines.append(
            f"  {f['id']:>2}  {f['label']:<{width}}  {'OOD' if f['ood'] else '':<4}{f['volume_ml']:8.1f} ml "
            f"{f['longest_diameter_mm']:6.0f} mm  mean percentile {f['mean_percentile']:5.1f}  at {place}"
        )
    if len(document["findings"]) > len(shown):
        lines.append(f"  and {len(document['findings']) - len(shown)} more in findings.csv")
    lines += [f"Warning:  {w}" for w in document["warnings"]]
    seconds, memory = document["seconds"]["total"], document["peak_memory_mb"]
    lines.append(
        f"Read and computed in {seconds:.1f} s on {document['device']} ({document['backend']}), "
        f"with {memory:.0f} MB at most"
    )
    lines.append(f"Result in {output}")
    return "\n".join(lines)


def _info(options: argparse.Namespace) -> None:
    import json

    from maxquery.bundle import find_bundle, load_bundle

    bundle = load_bundle(find_bundle(options.bundle), with_weights=False)
    print(f"{bundle.name} {bundle.version} ({bundle.licence})\n{bundle.description}\n")
    print("Labels:   " + ", ".join(f"{label.value} {label.name}" for label in bundle.labels))
    print("Channels: " + ", ".join(channel.name for channel in bundle.channels))
    print(f"Grid:     {bundle.spacing_zyx_mm} mm (z, y, x), windows of {bundle.patch_zyx} voxels")
    print(f"Queries:  {bundle.query_distribution.sizes} for background, organ, tumours")
    smoothed = f", smoothed (sigma {bundle.smoothing_mm:g} mm)" if bundle.smoothing_mm else ""
    print(f"Heatmap:  {bundle.score}{smoothed}, percentiles of patients kept out of training")
    print(f"Trained on: {bundle.training['data']}\nLimits:     {bundle.training['limits']}")
    print("Metrics:\n" + json.dumps(bundle.metrics, indent=2, ensure_ascii=False))


def _bundles(options: argparse.Namespace) -> None:
    from maxquery.bundle import list_bundles, load_bundle

    for name, path in list_bundles().items():
        try:
            print(f"{name:<20}{load_bundle(path, with_weights=False).description}")
        except InputError as error:
            print(f"{name:<20}cannot be used: {error}")


def _samples(options: argparse.Namespace) -> None:
    from maxquery.samples import SAMPLES, fetch_sample

    if options.name is None:
        for sample in SAMPLES.values():
            print(f"{sample.name:<12}{sample.description} Licence: {sample.licence}.")
        return
    if options.name not in SAMPLES:
        raise InputError("sample", f"There is no sample '{options.name}'.", f"Known: {', '.join(SAMPLES)}.")
    print(fetch_sample(options.name))


if __name__ == "__main__":
    sys.exit(main())
