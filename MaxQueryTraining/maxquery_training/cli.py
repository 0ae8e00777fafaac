"""The command `maxquery-train`: from images and masks on disk to a trained network."""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from maxquery.errors import InputError, MaxQueryError
from maxquery_training.folders import set_folders
from maxquery_training.preset import PLANS, PRESETS

_LABELS_HELP = """\
LABELS is a JSON file that says what the values in the masks mean; 0 is background, a value that is not listed is an error:
  {"organ": {"name": "liver", "values": [1]},
   "types": [{"name": "HCC", "values": [2]}, {"name": "cyst", "values": [3, 4]}],
   "ignore": [5],        what teaches nothing, such as a tumour of unknown type
   "outlier": [6],       tumours of types that are never trained on
   "background": [7]}    the last three may be left out

SOURCE is a table or a folder:
  a CSV file with the columns case, mask and image (or image:PHASE for each phase), and, if you like, patient and outlier
  (yes or no); paths are relative to the file; images may be folders of DICOM slices
  a folder with imagesTr and labelsTr (nnU-Net's, the Decathlon's), or with pairs such as a_ct.nii.gz and a_seg.nii.gz
"""  # noqa: E501


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for the input or arguments, 3 for the machine."""
    sys.stdout.reconfigure(errors="replace")  # a terminal without "×" gets "?"
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except MaxQueryError as error:
        print(f"maxquery-train: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maxquery-train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser(
        "prepare", help="images and masks → a checked nnU-Net dataset, split by patient",
        epilog=_LABELS_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    prepare.add_argument("source", type=Path, help="table or folder, see below")
    prepare.add_argument("--labels", type=Path, required=True, help="JSON file, see below")
    _add_dataset(prepare)
    prepare.add_argument("--seed", type=int, default=0, help="of the split (%(default)s)")
    prepare.add_argument("--skip-faulty", action="store_true", help="leave out cases that cannot be used")
    prepare.set_defaults(run=_prepare)

    plan = commands.add_parser("plan", help="nnU-Net's planning and preprocessing, on the preset's grid")
    _add_dataset(plan)
    plan.add_argument("--preset", choices=PRESETS, default="paper-liver", help="numbers to use (%(default)s)")
    plan.set_defaults(run=_plan)

    train = commands.add_parser("train", help="both stages, each resumed where it was left")
    _add_dataset(train)
    train.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    train.set_defaults(run=_train)
    return parser


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, type=_dataset, help="nnU-Net's name for it: Dataset701_Liver")
    parser.add_argument("--work", type=Path, required=True, help="folder of nnU-Net's raw, preprocessed, results")
    parser.add_argument("--processes", type=int, default=2, help="that read and convert (%(default)s)")


def _dataset(text: str) -> str:
    if not re.fullmatch(r"Dataset\d{3}_\w+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form Dataset701_Liver")
    return text


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
    folder = options.work / "raw" / options.dataset
    reports = prepare(
        read_cohort(options.source), scheme, folder,
        seed=options.seed, skip_faulty=options.skip_faulty, processes=options.processes, advance=tell,
    )  # fmt: skip
    count = Counter(report.set or "left out" for report in reports)
    print(", ".join(f"{name} {n}" for name, n in count.items()) + f" cases. Dataset in {folder}")


def _plan(options: argparse.Namespace) -> None:
    _need(options.work / "raw" / options.dataset / "cases.json", "prepare")
    set_folders(options.work, options.processes)
    from maxquery_training.planning import plan_and_preprocess

    number = int(options.dataset[7:10])
    plan_and_preprocess(number, options.dataset, PRESETS[options.preset], options.processes)


def _train(options: argparse.Namespace) -> None:
    plans = options.work / "preprocessed" / options.dataset / f"{PLANS}.json"
    _need(plans.with_name("splits_final.json"), "plan")
    from maxquery.device import find_device

    device = find_device(options.device)
    set_folders(options.work, options.processes)
    from maxquery_training.stages import train

    dataset = json.loads((options.work / "raw" / options.dataset / "dataset.json").read_text("utf-8"))
    checkpoint, seconds = train(json.loads(plans.read_text("utf-8")), dataset, device)
    print(f"{seconds} s of training. Checkpoint in {checkpoint}")


def _need(path: Path, command: str) -> None:
    if not path.exists():
        raise InputError("order", f"{path} is not there.", f"Run 'maxquery-train {command}' first.")


if __name__ == "__main__":
    sys.exit(main())
