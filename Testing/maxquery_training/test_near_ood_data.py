"""Where a benchmark's cases come from, and what its configuration may say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maxquery.errors import InputError
from maxquery_training.cohort import read_cohort
from maxquery_training.label_scheme import OUTLIER, read_label_scheme
from maxquery_training.near_ood.config import read_benchmark
from maxquery_training.near_ood.data import Run
from maxquery_training.near_ood.planted_data import PlantedCase
from maxquery_training.near_ood.prepared_data import PreparedData
from maxquery_training.prepare import prepare
from maxquery_training.prepared_case import read_prepared
from maxquery_training.preset import QUICK

from .phantoms import training_case, write_pairs

RUN = Run(0)


@pytest.fixture
def prepared(tmp_path) -> Path:
    """Seven patients with an HCC, two with a cyst, one with a tumour that is an outlier anyway."""
    cohort = read_cohort(write_pairs(tmp_path, (2,) * 7 + (3, 3, 6)))
    cases = tuple(replace(case, outlier=case.case == "9") for case in cohort.cases)
    labels = tmp_path / "labels.json"
    scheme = read_label_scheme("labels.json", labels.read_bytes())
    prepare(replace(cohort, cases=cases), scheme, tmp_path / "Dataset700_Cases")
    return tmp_path / "Dataset700_Cases"


def test_patients_with_a_type_that_is_left_out_are_there_to_be_tested_on(prepared, tmp_path):
    data = PreparedData(prepared, ("cyst",))
    data.write(tmp_path / "raw", RUN, QUICK, 1)
    tests = {case.name: case.outlier for case in data.test(tmp_path / "raw", RUN)}
    assert {name: kind for name, kind in tests.items() if kind} == {
        "7": "cyst", "8": "cyst", "9": "held-out tumour"
    }  # fmt: skip
    trained = json.loads((tmp_path / "raw" / "cases.json").read_text())
    assert not {"7", "8", "9"} & {*trained["train"], *trained["val"]}


def test_what_is_left_out_is_an_outlier_and_the_labels_close_up(prepared, tmp_path):
    data = PreparedData(prepared, ("HCC",))
    with pytest.raises(InputError, match="too few cases"):
        data.write(tmp_path / "raw", RUN, QUICK, 1)
    assert not (tmp_path / "raw").exists()

    data = PreparedData(prepared, ("cyst",))
    data.write(tmp_path / "raw", RUN, QUICK, 1)
    labels = json.loads((tmp_path / "raw" / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "liver": 1, "HCC": 2, "ignore": 3}
    cyst = next(case for case in data.test(tmp_path / "raw", RUN) if case.outlier == "cyst").read()
    assert set(np.unique(cyst.truth)) == {0, 1, OUTLIER} and cyst.ignore == 3
    hcc = next(iter(read_prepared(tmp_path / "raw", ("train",))))
    assert set(np.unique(hcc.truth)) == {0, 1, 2}


def test_a_type_that_the_dataset_does_not_have_is_named(prepared, tmp_path):
    with pytest.raises(InputError, match="no type FNH") as caught:
        PreparedData(prepared, ("FNH",)).write(tmp_path / "raw", RUN, QUICK, 1)
    assert "HCC, cyst" in caught.value.hint


def test_the_same_seed_plants_another_lesion_into_another_scan(tmp_path):
    scans = [training_case(tmp_path, f"case{number}", number) for number in (1, 2)]
    one, again, other = (
        PlantedCase(scan, ("abscess",), 2000).read().outlier for scan in (scans[0], scans[0], scans[1])
    )  # fmt: skip
    assert one.any() and (one == again).all() and one.sum() != other.sum()


def document(**changes) -> dict:
    return {
        "name": "Any", "preset": "quick", "changes": {}, "prepared": "Dataset700_Cases", "leave_out": ["cyst"],
        "runs": [{"seed": 0}, {"seed": 1}], "networks": {"MaxQuery": {"kind": "maxquery"}},
    } | changes  # fmt: skip


def test_a_configuration_of_prepared_data_is_read(prepared, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(document(changes={"backbone_epochs": 3})))
    benchmark = read_benchmark(tmp_path / "config.json", tmp_path)
    assert benchmark.data == PreparedData(prepared, ("cyst",))
    assert [run.seed for run in benchmark.runs] == [0, 1]
    assert benchmark.preset == replace(QUICK, backbone_epochs=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "slow"}, "preset: expected one of"),
        ({"prepared": "Dataset701_Others"}, "is no dataset that 'maxquery-train prepare' wrote"),
        ({"networks": {"X": {"kind": "resnet"}}}, "networks.X.kind: expected one of"),
        ({"networks": {"X": {"kind": "maxquery", "changes": {"lambda": 1}}}}, "unknown entry 'lambda'"),
        ({"networks": {"X": {"kind": "synthesis"}}}, "need a network of the kind nnunet"),
        ({"networks": {"X": {"kind": "nnunet"}, "Y": {"kind": "nnunet"}}}, "2 are of the kind nnunet"),
        ({"networks": {"X": {"kind": "nnunet", "members": 3}}}, "unknown entry 'members'"),
        ({"networks": {}}, "networks: there is none"),
        ({"epochs": 3}, "unknown entry 'epochs'"),
    ],
)
def test_a_mistake_in_a_configuration_is_named(changes, message, prepared, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(document(**changes)))
    with pytest.raises(InputError, match=message):
        read_benchmark(tmp_path / "config.json", tmp_path)


def test_shares_of_a_folders_patients_are_dealt_out_by_the_seed(tmp_path):
    write_pairs(tmp_path, (2,) * 10)
    planted = document(scans=[{"cases": "cases", "labels": {"organ": [1], "unknown": [2]}, "copies": 2}],
                       outliers=["fat"], rounds={"validation": 1, "test": 1},
                       runs=[{"seed": seed, "validation": 0.2, "test": 0.3} for seed in (0, 1)])  # fmt: skip
    del planted["prepared"], planted["leave_out"]
    (tmp_path / "config.json").write_text(json.dumps(planted))
    runs = read_benchmark(tmp_path / "config.json", tmp_path).runs
    assert [(len(run.validation), len(run.test)) for run in runs] == [(2, 3), (2, 3)]
    assert all(not set(run.validation) & set(run.test) for run in runs)
    assert runs[0] != runs[1] and runs == read_benchmark(tmp_path / "config.json", tmp_path).runs


def test_scans_of_one_patient_stay_together(tmp_path):
    write_pairs(tmp_path, (2,) * 4)
    scans = {"cases": "cases", "labels": {"organ": [1], "unknown": [2]}, "patients": {"one": ["0", "3"]}}
    planted = document(scans=[scans], outliers=["fat"], rounds={"validation": 1, "test": 1},
                       runs=[{"seed": 0, "validation": ["1"], "test": ["one"]}])  # fmt: skip
    del planted["prepared"], planted["leave_out"]
    (tmp_path / "config.json").write_text(json.dumps(planted))
    found = read_benchmark(tmp_path / "config.json", tmp_path).data.scans
    assert {scan.name: scan.patient for scan in found} == {"0": "one", "1": "1", "2": "2", "3": "one"}
    planted["scans"][0]["patients"] = {"one": ["0", "4"]}
    (tmp_path / "config.json").write_text(json.dumps(planted))
    with pytest.raises(InputError, match=r"patients.one\[1\]: .*one of 0, 1, 2, 3"):
        read_benchmark(tmp_path / "config.json", tmp_path)


def test_the_quick_benchmarks_can_be_read():
    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the real CT are not here")
    for path in (Path(__file__).parents[1] / "benchmarks" / "near_ood").glob("quick*.json"):
        benchmark = read_benchmark(path, data)
        trained = {scan.patient for scan in benchmark.data.scans if scan.copies}
        for run in benchmark.runs:
            assert trained - set(run.validation) - set(run.test), "somebody has to be trained on"
