"""The command `maxquery-train`: from images and masks on disk to a model and its figures."""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from maxquery.cli import run_command
from maxquery.errors import Cancelled, InputError
from maxquery_training.folders import DatasetFiles, set_folders
from maxquery_training.preset import PRESETS, Preset
from maxquery_training.quiet import quiet
from maxquery_training.watching import STAGES, TensorBoard, Watchers, watcher

_TABLES = ("calibration", "case_calibration")
_LABELS_HELP = """\
LABELS is a JSON file that says what the values in the masks mean; 0 is background, a value that is not listed is an error:
  {"organ": {"name": "liver", "values": [1]},
   "types": [{"name": "HCC", "values": [2]}, {"name": "cyst", "values": [3, 4], "plant": "cyst"}],
   "ignore": [5],        what teaches nothing, such as a tumour of unknown type
   "outlier": [6],       tumours of types that are never trained on
   "background": [7]}    the last three may be left out
"plant" says which synthetic lesions --plant adds to a type, seen in the portal venous phase: hcc, icc, metastasis,
haemangioma or cyst. They are appearance models, not pathology.

SOURCE is a table or a folder:
  a CSV file with the columns case, mask and image (or image:PHASE for each phase), and, if you like, patient and outlier
  (yes or no); paths are relative to the file; images may be folders of DICOM slices
  a folder with imagesTr and labelsTr (nnU-Net's, the Decathlon's), or with pairs such as a_ct.nii.gz and a_seg.nii.gz
"""  # noqa: E501


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, as `run_command` has it."""
    hint = "Install the training packages: pip install --editable '.[training]'."
    stopped = Cancelled("Stopped on request. The same command goes on from the last whole step.")
    return run_command(_parser(), arguments, hint, stopped)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maxquery-train", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="print where an unexpected error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_prepare(commands)
    _add_plan(commands)
    _add_train(commands)
    _add_calibrate(commands)
    _add_export(commands)
    _add_evaluate(commands)
    _add_near_ood(commands)
    return parser


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, type=_dataset, help="nnU-Net's name for it: Dataset701_Liver")
    parser.add_argument("--work", type=Path, required=True, help="folder of nnU-Net's raw, preprocessed, results")


def _add_processes(parser: argparse.ArgumentParser, default: int = 2, purpose: str = "that read and convert") -> None:
    parser.add_argument("--processes", type=_positive, default=default, help=f"{purpose} (%(default)s)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto", help="(%(default)s)")


def _dataset(text: str) -> str:
    if not re.fullmatch(r"Dataset\d{3}_\w+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form Dataset701_Liver")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _add_prepare(commands) -> None:
    prepare = commands.add_parser(
        "prepare", help="images and masks → a checked nnU-Net dataset, split by patient",
        epilog=_LABELS_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    prepare.add_argument("source", type=Path, help="table or folder, see below")
    prepare.add_argument("--labels", type=Path, required=True, help="JSON file, see below")
    _add_dataset(prepare)
    prepare.add_argument("--seed", type=int, default=0, help="of the split (%(default)s)")
    prepare.add_argument("--plant", type=int, default=0, metavar="COPIES",
                         help="companions of each case, with synthetic lesions (%(default)s)")  # fmt: skip
    prepare.add_argument("--skip-faulty", action="store_true", help="leave out cases that cannot be used")
    _add_processes(prepare)
    prepare.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> None:
    from maxquery_training.cohort import read_cohort
    from maxquery_training.label_scheme import read_label_scheme
    from maxquery_training.prepare import CaseReport, prepare

    def tell(report: CaseReport) -> None:
        volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in report.volumes_ml.items()) or "nothing labelled"
        print(f"{report.case}: {'; '.join(report.problems) or volumes}")
        for warning in report.warnings:
            print(f"    {warning}")

    if not options.labels.is_file():
        raise InputError("missing", f"There is no file {options.labels}.", "See --help for what it holds.")
    scheme = read_label_scheme(options.labels.name, options.labels.read_bytes())
    folder, cohort = _files(options).raw, read_cohort(options.source)
    reports = prepare(
        cohort, scheme, folder,
        seed=options.seed, skip_faulty=options.skip_faulty, plant=options.plant, processes=options.processes,
        advance=tell,
    )  # fmt: skip
    count = Counter(report.set or "left out" for report in reports)
    print(", ".join(f"{name} {n}" for name, n in count.items()) + f" cases. Dataset in {folder}")
    if cohort.remark:
        print(cohort.remark)


def _add_plan(commands) -> None:
    plan = commands.add_parser("plan", help="nnU-Net's planning and preprocessing, on the preset's grid")
    _add_dataset(plan)
    plan.add_argument("--preset", choices=PRESETS, default="paper-liver", help="numbers to use (%(default)s)")
    _add_processes(plan)
    plan.set_defaults(run=_plan)


def _plan(options: argparse.Namespace) -> None:
    files, preset = _files(options), PRESETS[options.preset]
    _need(files.raw / "cases.json", "prepare")
    if any(files.results.rglob("checkpoint_*.pth")):
        plans = files.read_plans()
        files.check_planned(plans)
        if Preset.from_json(plans["maxquery"]) != preset:
            raise InputError(
                "trained", f"{files.results} holds a training with other plans than {options.preset}.",
                "Remove it, or choose another --work.",
            )  # fmt: skip
    set_folders(options.work, options.processes)
    print("Planning and preprocessing with nnU-Net", flush=True)
    with quiet():
        from maxquery_training.planning import plan_and_preprocess

        plan_and_preprocess(int(options.dataset[7:10]), options.dataset, preset, options.processes)
    print(f"Planned with the preset {options.preset}: {files.plans}. Next: maxquery-train train")


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="both stages, each resumed where it was left")
    _add_dataset(train)
    _add_device(train)
    train.add_argument("--stage", choices=("both", *STAGES), default="both", help="(%(default)s)")
    train.add_argument("--backbone", type=Path, help="stock nnU-Net's checkpoint on these plans, to train none")
    train.add_argument("--trust-backbone", action="store_true", help="load it though it could run code")
    train.add_argument("--backbone-epochs", type=_positive, help="instead of the preset's")
    train.add_argument("--joint-epochs", type=_positive, help="instead of the preset's")
    train.add_argument("--seed", type=int, help="instead of the preset's")
    train.add_argument("--progress", choices=("rich", "jsonl", "none"), default="rich", help="(%(default)s)")
    train.add_argument("--tensorboard", action="store_true", help="curves for TensorBoard beside the checkpoints")
    of_nnunet = min(12, os.cpu_count() or 1)
    _add_processes(train, of_nnunet, "one that trains, the others draw windows for it")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    files = _files(options)
    _need(files.plans.with_name("splits_final.json"), "plan")
    files.check_planned(files.read_plans())
    from maxquery.device import find_device

    device = find_device(options.device)
    set_folders(options.work, options.processes)
    from maxquery_training.distributed import process_group, rank

    if int(os.environ.get("RANK", 0)) > 0:  # torchrun's first process speaks for all
        options.progress = "none"
    terminal = sys.stdout
    with process_group(device), watcher(options.progress) as follower, quiet():
        from maxquery_training.planning import with_schedule
        from maxquery_training.stages import finished, train

        plans = with_schedule(files.read_plans(), options.backbone_epochs, options.joint_epochs, options.seed)
        ended = finished(options.dataset, options.stage)
        if options.progress == "rich" and ended is None:
            preset = plans["maxquery"]
            print(
                f"{preset['backbone_epochs']} backbone and {preset['joint_epochs']} joint epochs of "
                f"{preset['iterations']} batches on {device}; what is done is not done again. Logs in {files.results}",
                file=terminal, flush=True,
            )  # fmt: skip
        if options.tensorboard and rank() == 0:
            follower = Watchers(follower, TensorBoard(files.results / "tensorboard"))
        checkpoint = train(
            plans, files.read_description(), device, follower, options.stage, options.backbone, options.trust_backbone
        )
    if options.progress == "rich":
        print(f"Checkpoint in {checkpoint}")
        if ended is not None:
            print("The training had ended before, so nothing was done. To train anew, remove that folder.")


def _add_calibrate(commands) -> None:
    calibrate = commands.add_parser("calibrate", help="what known voxels of the validation patients score")
    _add_dataset(calibrate)
    _add_device(calibrate)
    calibrate.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    files = _files(options)
    _need(files.plans, "plan")
    set_folders(options.work)
    from maxquery.bundle import weights_sha256
    from maxquery.prediction import PredictionParameters
    from maxquery_training.calibration import calibrate
    from maxquery_training.prepared_case import read_prepared
    from maxquery_training.release import trained_bundle

    bundle = trained_bundle(files, name=options.dataset, licence="none", data="unsaid", limits="unsaid")
    parameters = PredictionParameters(device=options.device)
    bundle = calibrate(bundle, read_prepared(files.raw, ("val",)), parameters)
    tables = {name: getattr(bundle, name) for name in _TABLES}
    written = {name: table and table.to_json() for name, table in tables.items()}
    files.calibration.write_text(json.dumps({"weights_sha256": weights_sha256(bundle.weights)} | written))
    print(f"Calibrated. Tables in {files.calibration}")


def _add_export(commands) -> None:
    export = commands.add_parser("export", help="the trained, calibrated network as a bundle for 'maxquery segment'")
    _add_dataset(export)
    export.add_argument("--bundle", type=Path, required=True, help="folder for it; its name is the model's")
    export.add_argument("--version", default="0.1.0", help="of the model (%(default)s)")
    export.add_argument("--licence", required=True, help="of the weights, as the data allow")
    export.add_argument("--data", required=True, help="what it learned from, in a sentence")
    export.add_argument("--limits", required=True, help="what it must not be used for, and what it never saw")
    export.add_argument("--description", default="", help="one line, for a list of models")
    export.add_argument("--card", type=Path, help="a model card in Markdown (made of the above)")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    files = _files(options)
    _need(files.calibration, "calibrate")
    set_folders(options.work)
    from maxquery.bundle import save_bundle, weights_sha256
    from maxquery.calibration import CalibrationTable
    from maxquery_training.release import trained_bundle

    bundle = trained_bundle(
        files, name=options.bundle.resolve().name, version=options.version, licence=options.licence,
        description=options.description, data=options.data, limits=options.limits, card=options.card,
    )  # fmt: skip
    written = json.loads(files.calibration.read_text("utf-8"))
    if written.pop("weights_sha256", "") != weights_sha256(bundle.weights) or set(written) != set(_TABLES):
        raise InputError(
            "calibration", f"{files.calibration} is of another training, or of another version of MaxQuery.",
            "Give 'calibrate' again.",
        )  # fmt: skip
    tables = {name: table and CalibrationTable(**table) for name, table in written.items()}
    save_bundle(replace(bundle, **tables), options.bundle)
    print(f"Bundle in {options.bundle}")


def _add_evaluate(commands) -> None:
    evaluate = commands.add_parser("evaluate", help="figures on the test patients and the held-out outliers")
    _add_dataset(evaluate)
    _add_device(evaluate)
    evaluate.add_argument("--bundle", required=True, help="a bundle's folder, zip or name")
    evaluate.add_argument("--output", type=Path, required=True, help="folder for the tables")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from maxquery.bundle import find_bundle, load_bundle
    from maxquery.output_folder import check_folder
    from maxquery.prediction import PredictionParameters
    from maxquery_training.evaluation import measure, scores_of, write_evaluation
    from maxquery_training.prepare import OOD
    from maxquery_training.prepared_case import read_prepared

    files = _files(options)
    _need(files.raw / "cases.json", "prepare")
    check_folder(options.output)
    bundle = load_bundle(find_bundle(options.bundle))
    asked = [name for name in files.read_description()["labels"] if name != "ignore"]
    known = [label.name for label in bundle.labels]
    if asked != known:
        raise InputError(
            "labels",
            f"The model's labels are {', '.join(known)}; the dataset's {', '.join(asked)}.",
            "Evaluate it on a dataset that was prepared with the model's labels.",
        )
    parameters, cases = PredictionParameters(device=options.device), []
    for case in read_prepared(files.raw, ("test", OOD)):
        cases.append(measure(case, bundle, parameters, scores_of(bundle)))
        print(f"{case.name}: " + ", ".join(f"{name} {value:.3f}" for name, value in cases[-1].dice.items()), flush=True)
    if not cases:
        raise InputError("no-cases", f"{options.dataset} holds no test case.", "Prepare it from more patients.")
    about = {"bundle": bundle.name, "version": bundle.version, "dataset": options.dataset, "cases": len(cases)}
    for name, value in write_evaluation(options.output, cases, about).items():
        print(f"{name}: {value:.4f}")
    if not any(case.has_outlier for case in cases):
        print("No patient is listed as an outlier, so there are no AUROC, AUPR and FPR95: see 'prepare --help'.")
    if len({case.patient for case in cases}) < 2:
        print("One patient gives no intervals.")
    print(f"Tables in {options.output}")


def _add_near_ood(commands) -> None:
    benchmark = commands.add_parser("benchmark", help="the paper's tables, on data that you have")
    kinds = benchmark.add_subparsers(required=True, metavar="BENCHMARK")
    near_ood = kinds.add_parser("near-ood", help="outliers that look much like what was learned: Tables 1-4")
    near_ood.add_argument("config", type=Path, help="JSON file: data, runs, networks; see Testing/benchmarks/near_ood")
    near_ood.add_argument("--data", type=Path, required=True, help="folder that the files in CONFIG lie under")
    near_ood.add_argument("--work", type=Path, required=True, help="folder of nnU-Net's files and what was measured")
    near_ood.add_argument("--output", type=Path, required=True, help="folder for the report")
    near_ood.add_argument("--seeds", type=int, nargs="+", help="some of CONFIG's runs, such as one a process (all)")
    _add_processes(near_ood)
    near_ood.add_argument("--progress", choices=("rich", "jsonl", "none"), default="rich", help="(%(default)s)")
    _add_device(near_ood)
    near_ood.set_defaults(run=_near_ood)


def _near_ood(options: argparse.Namespace) -> None:
    from maxquery_training.near_ood.config import read_benchmark

    benchmark = read_benchmark(options.config, options.data)
    chosen = [run for run in benchmark.runs if options.seeds is None or run.seed in options.seeds]
    if not chosen:
        seeds = ", ".join(str(run.seed) for run in benchmark.runs)
        raise InputError("argument", f"{options.config} has no run of these seeds.", f"It has {seeds}.")
    set_folders(options.work, options.processes)
    from maxquery.device import find_device
    from maxquery_training.near_ood.report import write
    from maxquery_training.near_ood.run import BenchmarkRun

    say = partial(print, flush=True, file=sys.stderr if options.progress == "jsonl" else sys.stdout)
    with watcher(options.progress) as follower:
        runs = [
            BenchmarkRun(benchmark, run, options.work, find_device(options.device), options.processes, follower)
            for run in chosen
        ]
        for run in runs:
            with quiet():
                run.prepare()
            for network in benchmark.networks:
                run.measure(network, say)
        write(benchmark, runs, options.output)
    say(f"Report in {options.output}")


def _files(options: argparse.Namespace) -> DatasetFiles:
    return DatasetFiles(options.work, options.dataset)


def _need(path: Path, command: str) -> None:
    if not path.exists():
        raise InputError("order", f"{path} is not there.", f"Run 'maxquery-train {command}' first.")


if __name__ == "__main__":
    sys.exit(main())
