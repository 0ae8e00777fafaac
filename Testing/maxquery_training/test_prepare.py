"""From images and masks on disk to an nnU-Net dataset, with a word on every case that cannot be used."""

import codecs
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from maxquery.errors import InputError, MachineError
from maxquery_training.cohort import read_cohort
from maxquery_training.label_scheme import OUTLIER, read_label_scheme
from maxquery_training.prepare import prepare
from maxquery_training.split import SHARES, split_patients

from .phantoms import SCHEME, ct, mask, write_image, write_pairs

OUTLIER_VALUE = 6
RIGHT_TO_LEFT = (-1, 0, 0, 0, 1, 0, 0, 0, 1)


def scheme(document=SCHEME):
    return read_label_scheme("labels.json", json.dumps(document).encode())


def write_table(folder: Path, rows: list[dict], columns: str = "case,patient,image,mask,outlier") -> Path:
    path = folder / "cases.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns.split(","), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def twelve_patients(tmp_path) -> Path:
    """Ten patients with one scan, one with two, one with an outlier."""
    rows = []
    for number in range(13):
        tumour = OUTLIER_VALUE if number == 12 else (2, 3)[number % 2]
        name = f"scan{number}"
        rows.append({
            "case": name, "patient": f"p{min(number, 10) if number < 12 else 12}",
            "image": write_image(tmp_path / f"{name}_ct.nii.gz", ct(number), RIGHT_TO_LEFT),
            "mask": write_image(tmp_path / f"{name}_seg.nii.gz", mask(tumour), RIGHT_TO_LEFT),
            "outlier": "yes" if number == 12 else "",
        })  # fmt: skip
    return write_table(tmp_path, rows)


def test_a_table_that_is_not_in_utf_8_says_how_to_save_it(tmp_path):
    (tmp_path / "cases.csv").write_bytes("case,image,mask\nMüller,a.nii,b.nii\n".encode("cp1252"))
    with pytest.raises(InputError, match="is not in UTF-8: it holds the byte 0xFC") as refusal:
        read_cohort(tmp_path / "cases.csv")
    assert "Save it as UTF-8" in refusal.value.hint


def test_a_table_becomes_a_dataset_that_nnunet_reads(twelve_patients, tmp_path):
    folder = tmp_path / "raw" / "Dataset001_Liver"
    reports = prepare(read_cohort(twelve_patients), scheme(), folder, seed=1)

    document = json.loads((folder / "dataset.json").read_text())
    assert document["labels"] == {"background": 0, "liver": 1, "HCC": 2, "cyst": 3, "ignore": 4}
    assert document["channel_names"] == {"0": "CT"}
    trained_on = {path.name for path in (folder / "imagesTr").iterdir()}
    assert document["numTraining"] == len(trained_on) == len(list((folder / "labelsTr").iterdir()))

    sets = json.loads((folder / "cases.json").read_text())
    assert trained_on == {f"{case}_0000.nii.gz" for case in (*sets["train"], *sets["val"])}
    assert {name: len(sets[name]) > 0 for name in ("train", "val", "test", "ood")} == dict.fromkeys(
        ("train", "val", "test", "ood"), True
    )
    where = {}
    for report in reports:
        where.setdefault(report.patient, set()).add(report.set)
    assert all(len(found) == 1 for found in where.values()), "a patient lies in one set only"


def test_images_and_masks_are_turned_together_to_lps(twelve_patients, tmp_path):
    folder = tmp_path / "raw" / "Dataset001_Liver"
    prepare(read_cohort(twelve_patients), scheme(), folder)
    labels = sitk.ReadImage(str(next((folder / "labelsTr").iterdir())))
    assert labels.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert (sitk.GetArrayFromImage(labels) > 0).tolist() == (mask()[:, :, ::-1] > 0).tolist()


def test_an_outlier_patient_never_enters_training(twelve_patients, tmp_path):
    folder = tmp_path / "raw" / "Dataset001_Liver"
    prepare(read_cohort(twelve_patients), scheme(), folder)
    assert [path.name for path in (folder / "imagesOod").iterdir()] == ["scan12_0000.nii.gz"]
    held_out = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsOod" / "scan12.nii.gz")))
    assert (held_out == OUTLIER).sum() == 27
    for path in (folder / "labelsTr").iterdir():
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).max() <= 4


def test_an_outlier_patients_other_scans_stay_out_of_training_even_if_the_outliers_cannot_be_used(tmp_path):
    rows = [
        {"case": case, "patient": case[0], "image": write_image(tmp_path / f"{case}_ct.nii.gz", ct()),
         "mask": write_image(tmp_path / f"{case}_seg.nii.gz", mask(value)), "outlier": "yes" if value == 77 else "no"}
        for case, value in (("p1", 77), ("p2", 2), ("q1", OUTLIER_VALUE), ("q2", 2), ("r1", 2), ("s1", 3))
    ]  # fmt: skip
    folder = tmp_path / "raw" / "Dataset001_Liver"
    of_one_type = scheme(SCHEME | {"types": [{"name": "HCC", "values": [2, 3, 4]}]})
    reports = prepare(read_cohort(write_table(tmp_path, rows)), of_one_type, folder, skip_faulty=True)
    sets = {report.case: report.set for report in reports}
    assert sets["p1"] == "" and sets["q1"] == "", "one has a value without a meaning, one holds what it must not"
    assert sets["p2"] == sets["q2"] == "ood" and "ood" not in (sets["r1"], sets["s1"])


def test_a_case_listed_as_an_outlier_says_where_it_lies(tmp_path):
    write_pairs(tmp_path, (2, 3, 2))
    rows = [
        {"case": str(n), "image": f"cases/{n}_ct.nii.gz", "mask": f"cases/{n}_seg.nii.gz" if n < 2 else "",
         "outlier": "yes" if n else "no"}
        for n in range(3)
    ]  # fmt: skip
    reports = []
    with pytest.raises(InputError, match="2 of 3 cases cannot be used"):
        prepare(read_cohort(write_table(tmp_path, rows)), scheme(), tmp_path / "raw" / "Dataset001_Liver",
                advance=reports.append)  # fmt: skip
    assert ["no mask says where that lies" in " ".join(report.problems) for report in reports] == [False, True, True]


def test_a_mask_of_floats_may_miss_a_whole_number_by_a_rounding(tmp_path):
    write_pairs(tmp_path, (2,))
    path = tmp_path / "cases" / "0_seg.nii.gz"
    reports = []
    for off, problems in ((-6e-8, 0), (-0.4, 1)):
        write_image(path, np.where(mask(2) == 1, np.float32(1 + off), mask(2)).astype(np.float32))
        with pytest.raises(InputError):  # a single patient without a cyst is no dataset
            prepare(read_cohort(tmp_path / "cases"), scheme(), tmp_path / "raw", advance=reports.append)
        assert len(reports[-1].problems) == problems


def test_a_disk_that_fills_up_is_noticed_and_leaves_nothing(twelve_patients, tmp_path):
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = min(path.stat().st_size for path in tmp_path.glob("*_ct.nii.gz"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole // 2, hard))
    try:
        with pytest.raises(MachineError, match="could not be written whole"):
            prepare(read_cohort(twelve_patients), scheme(), tmp_path / "raw" / "Dataset001_Liver")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "raw").iterdir()) == []


def test_each_case_that_cannot_be_used_is_named_and_nothing_is_written(tmp_path):
    write_image(tmp_path / "ct.nii.gz", ct())
    labels = {
        "moved": write_image(tmp_path / "moved.nii.gz", mask(), origin=(5, 0, 0)),
        "strange": write_image(tmp_path / "strange.nii.gz", mask(77)),
        "unlisted": write_image(tmp_path / "unlisted.nii.gz", mask(OUTLIER_VALUE)),
        "absent": "nowhere.nii.gz",
        "good": write_image(tmp_path / "good.nii.gz", mask(2)),
    }
    rows = [{"case": case, "image": "ct.nii.gz", "mask": name} for case, name in labels.items()]
    rows.append({"case": "label_map", "image": labels["good"], "mask": labels["good"]})
    cohort = read_cohort(write_table(tmp_path, rows))
    folder = tmp_path / "raw" / "Dataset001_Liver"
    reports = []
    with pytest.raises(InputError, match="5 of 6 cases cannot be used"):
        prepare(cohort, scheme(), folder, advance=reports.append)
    problems = {report.case: " ".join(report.problems) for report in reports}
    assert "does not lie on the image's grid" in problems["moved"] and "(5.0, 0.0, 0.0)" in problems["moved"]
    assert "values without a meaning: 77" in problems["strange"]
    assert "not listed as one" in problems["unlisted"]
    assert "There is no file nowhere.nii.gz" in problems["absent"]
    assert "label map" in problems["label_map"]
    assert list((tmp_path / "raw").iterdir()) == []

    of_one_type = scheme(SCHEME | {"types": [{"name": "HCC", "values": [2, 3, 4]}]})
    reports = prepare(cohort, of_one_type, folder, skip_faulty=True)
    assert [report.case for report in reports if report.set] == ["good"]
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["case"] for row in listed if row["problems"]} == set(problems) - {"good"}


@pytest.mark.parametrize("harm", ["cut", "zeros", "nan"])
def test_a_damaged_mask_is_never_taken_for_one_without_tumours(tmp_path, harm):
    write_image(tmp_path / "a_ct.nii.gz", ct())
    if harm == "nan":
        labels = mask(2).astype(np.float32)
        labels[labels == 2] = np.nan
        write_image(tmp_path / "a_seg.nii.gz", labels)
    else:
        path = tmp_path / ("a_seg.nii.gz" if harm == "cut" else "a_seg.mha")
        image = sitk.GetImageFromArray(mask(2))
        image.SetSpacing((2.0, 2.0, 3.0))
        sitk.WriteImage(image, str(path), True)
        content = path.read_bytes()
        kept = len(content) * 6 // 10
        path.write_bytes(content[:kept] + bytes(len(content) - kept if harm == "zeros" else 0))
    reports = []
    with pytest.raises(InputError):
        prepare(read_cohort(tmp_path), scheme(), tmp_path / "raw" / "Dataset001_Liver", advance=reports.append)
    (problem,) = reports[0].problems
    assert problem.startswith("The mask cannot be used: ")


def test_patients_without_labels_never_make_up_a_set(tmp_path):
    rows = []
    for number in range(5):
        name = f"p{number}"
        write_image(tmp_path / f"{name}.nii.gz", ct(number))
        labels = write_image(tmp_path / f"{name}_seg.nii.gz", mask(2)) if number < 3 else ""
        rows.append({"case": name, "image": f"{name}.nii.gz", "mask": labels})
    of_one_type = scheme(SCHEME | {"types": [{"name": "HCC", "values": [2]}]})
    for seed in range(4):
        folder = tmp_path / f"seed{seed}" / "Dataset001_Liver"
        reports = prepare(read_cohort(write_table(tmp_path, rows)), of_one_type, folder, seed=seed)
        labelled = {report.set for report in reports if report.volumes_ml}
        assert labelled == {"train", "val", "test"} == {report.set for report in reports}
    assert all("No liver is labelled." in report.warnings for report in reports if not report.volumes_ml)


def test_names_that_would_be_mistaken_are_refused(tmp_path):
    pairs = write_pairs(tmp_path, (2, 3, 3))
    (tmp_path / "Dataset001_Other").mkdir()
    with pytest.raises(InputError, match="Dataset001_Other has the same number"):
        prepare(read_cohort(pairs), scheme(), tmp_path / "Dataset001_Liver")
    for kind in ("ct", "seg"):
        (pairs / f"0_planted00_{kind}.nii.gz").write_bytes((pairs / f"0_{kind}.nii.gz").read_bytes())
    with pytest.raises(InputError, match="0_planted00 is called as a companion"):
        prepare(read_cohort(pairs), scheme(PLANTED), tmp_path / "Dataset002_Liver", plant=1)


def test_a_name_that_ends_as_a_channels_does_is_a_name(tmp_path):
    pairs = write_pairs(tmp_path, (2, 3, 3))
    for kind in ("ct", "seg"):
        (pairs / f"1_{kind}.nii.gz").rename(pairs / f"0_0000_{kind}.nii.gz")
    folder = tmp_path / "Dataset001_Liver"
    prepare(read_cohort(pairs), scheme(SCHEME | {"types": [{"name": "any", "values": [2, 3, 4]}]}), folder)
    for number, name in enumerate(("0", "0_0000", "2")):
        (image,), (labels,) = folder.glob(f"images*/{name}_0000.nii.gz"), folder.glob(f"labels*/{name}.nii.gz")
        assert (sitk.GetArrayFromImage(sitk.ReadImage(str(image))) == ct(number)).all()
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(labels))).max() == 2


def test_a_channel_of_one_case_is_not_taken_for_another_of_that_name(tmp_path):
    for name in ("imagesTr/a_0000", "imagesTr/a_0000_0000", "labelsTr/a", "labelsTr/a_0000"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = {case.case: [path.name for path in case.images] for case in read_cohort(tmp_path).cases}
    assert found == {"a": ["a_0000.nii.gz"], "a_0000": ["a_0000_0000.nii.gz"]}


@pytest.mark.parametrize("second", ["a_ct.nii.gz", "a_seg.nii.gz"])
def test_two_files_of_one_case_are_refused(tmp_path, second):
    for name in ("a.nii.gz", "a_label.nii.gz", second):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="both seem to be of the case a"):
        read_cohort(tmp_path)


def test_a_type_that_no_mask_holds_is_refused_unless_it_is_planted(tmp_path):
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for number in range(3):
        write_image(pairs / f"{number}_ct.nii.gz", ct(number))
        write_image(pairs / f"{number}_seg.nii.gz", mask(2))
    with pytest.raises(InputError, match="No mask to train on holds cyst"):
        prepare(read_cohort(pairs), scheme(), tmp_path / "Dataset042_Liver")
    assert list(tmp_path.iterdir()) == [pairs]


def test_whoever_names_no_patients_is_told_what_that_means(twelve_patients):
    assert read_cohort(twelve_patients).remark is None
    assert read_cohort(twelve_patients.parent).remark.startswith("Each of the 13 cases counts as a patient of its own.")


def test_several_phases_become_channels(tmp_path):
    row = {
        "case": "a",
        "image:arterial": write_image(tmp_path / "a1.nii.gz", ct(1)),
        "image:venous": write_image(tmp_path / "a2.nii.gz", ct(2)),
        "mask": write_image(tmp_path / "a_seg.nii.gz", mask(2)),
    }
    cohort = read_cohort(write_table(tmp_path, [row], "case,image:arterial,image:venous,mask"))
    folder = tmp_path / "raw" / "Dataset001_Liver"
    prepare(cohort, scheme(SCHEME | {"types": [{"name": "HCC", "values": [2]}]}), folder)
    assert json.loads((folder / "dataset.json").read_text())["phases"] == ["arterial", "venous"]
    second = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "imagesTr" / "a_0001.nii.gz")))
    assert (second == ct(2)).all()


def test_metal_beyond_16_bits_stays_bright(tmp_path):
    hu = ct().astype(np.int32)
    hu[10, 12, 14] = 40_000
    write_image(tmp_path / "a_ct.nii.gz", hu)
    write_image(tmp_path / "a_seg.nii.gz", mask(2))
    folder = tmp_path / "raw" / "Dataset001_Liver"
    prepare(read_cohort(tmp_path), scheme(SCHEME | {"types": [{"name": "HCC", "values": [2]}]}), folder)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "imagesTr" / "a_0000.nii.gz")))
    assert image[10, 12, 14] == 32_767


def test_an_existing_dataset_is_left_alone(twelve_patients, tmp_path):
    folder = tmp_path / "Dataset001_Liver"
    folder.mkdir()
    with pytest.raises(InputError, match="was left as it is"):
        prepare(read_cohort(twelve_patients), scheme(), folder)


@pytest.mark.parametrize("layout", ["pairs", "nnunet", "decathlon", "numbered"])
def test_folders_of_the_usual_kinds_are_cohorts(tmp_path, layout):
    names = ("amos_0001", "amos_0002") if layout == "numbered" else ("one", "two")
    for name in names:
        image, label = {
            "pairs": (f"{name}_ct.nii.gz", f"{name}_seg.nii.gz"),
            "nnunet": (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"),
            "decathlon": (f"imagesTr/{name}.nii.gz", f"labelsTr/{name}.nii.gz"),
            "numbered": (f"imagesTr/{name}.nii.gz", f"labelsTr/{name}.nii.gz"),
        }[layout]
        for path in (tmp_path / image, tmp_path / label):
            path.parent.mkdir(exist_ok=True)
            path.touch()
    cohort = read_cohort(tmp_path)
    assert [(case.case, case.patient) for case in cohort.cases] == [(name, name) for name in names]
    assert all(len(case.images) == 1 and case.mask is not None for case in cohort.cases)


@pytest.mark.parametrize(
    "text, message",
    [
        ("case,picture\na,b\n", "has the columns case, picture"),
        ("case,image,mask,outlier\na,i,m,perhaps\n", "line 2: outlier is 'perhaps'"),
        ("case,image,mask\n,i,m\n", "line 2: case is empty"),
        ("case,image,mask\na,i\n", "line 2: it has another number of fields"),
        ("case,image,mask\na,i,m\na,i,m\n", "A case stands twice in t.csv: a"),
        ("case,image,mask\n../a,i,m\n", "'../a' cannot be a file's name"),
        ("case,image,mask\n", "holds no case"),
        ("case,image,image,mask\na,i,i,m\n", "has the columns case, image, image, mask"),
        ("case,image,mask\n\n\na,i\n", "line 4: it has another number of fields"),
    ],
)
def test_a_table_says_where_it_is_wrong(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_cohort(tmp_path / "t.csv")
    assert message in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "change, message",
    [
        ({"organs": {}}, "unknown entry 'organs'"),
        ({"organ": {"name": "", "values": [1]}}, "organ.name: expected some text"),
        ({"ignore": [2]}, "ignore[0]: the value 2 has a meaning already"),
        ({"types": [{"name": "liver", "values": [2]}]}, "types[0].name: the name 'liver' is taken"),
        ({"outlier": [0]}, "outlier[0]: expected an integer of at least 1"),
    ],
)
def test_a_label_scheme_says_where_it_is_wrong(change, message):
    with pytest.raises(InputError) as caught:
        scheme(SCHEME | change)
    assert message in caught.value.message


def test_a_label_scheme_may_begin_as_notepad_saves_it():
    content = json.dumps(SCHEME).encode()
    assert read_label_scheme("labels.json", codecs.BOM_UTF8 + content) == read_label_scheme("labels.json", content)


@given(
    types=st.lists(st.sets(st.sampled_from(["hcc", "cyst", "rare"])), max_size=40), seed=st.integers(0, 1000)
)
def test_a_split_has_each_patient_once_whatever_their_order(types, seed):
    types_of = {f"p{i}": kinds for i, kinds in enumerate(types)}
    split = split_patients(types_of, seed)
    assert sorted(p for patients in split.values() for p in patients) == sorted(types_of)
    assert split == split_patients(dict(reversed(types_of.items())), seed)


def test_each_set_has_its_share_of_each_type():
    types_of = {f"p{i}": [("hcc", "cyst", "rare")[min(i % 7, 2)]] for i in range(140)}
    split = split_patients(types_of, seed=3)
    for kind in ("hcc", "cyst", "rare"):
        total = sum(kind in kinds for kinds in types_of.values())
        for name, share in SHARES.items():
            assert abs(sum(kind in types_of[p] for p in split[name]) - share * total) < 1.5


@pytest.mark.parametrize("types", [["HCC", "HCC", "cyst", "cyst"], ["HCC", "cyst", "HCC"], ["", "", ""]])
def test_three_patients_are_enough_for_three_sets(types):
    split = split_patients({f"p{i}": [kind] if kind else [] for i, kind in enumerate(types)}, seed=0)
    assert all(split.values()) and sum(map(len, split.values())) == len(types)


PLANTED = SCHEME | {
    "types": [{"name": "HCC", "values": [2], "plant": "hcc"}, {"name": "cyst", "values": [3, 4], "plant": "cyst"}]
}


def test_companions_with_synthetic_lesions_stay_with_their_patient(tmp_path):
    z, y, x = np.meshgrid(*[np.arange(n) for n in (24, 48, 48)], indexing="ij")
    organ = ((z - 12) / 11) ** 2 + ((y - 24) / 20) ** 2 + ((x - 24) / 20) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 8, organ.shape)
    hu = np.where(organ, 110, np.where((y - 24) ** 2 + (x - 24) ** 2 < 23**2, 40, -1000)) + noise
    rows = [
        {"case": name, "image": write_image(tmp_path / f"{name}_ct.nii.gz", hu.round().astype(np.int16)),
         "mask": write_image(tmp_path / f"{name}_seg.nii.gz", organ.astype(np.uint8) * (6 if name == "d" else 1)),
         "outlier": "yes" if name == "d" else ""}
        for name in "abcd"
    ]  # fmt: skip
    folder = tmp_path / "raw" / "Dataset001_Liver"
    reports = prepare(read_cohort(write_table(tmp_path, rows)), scheme(PLANTED), folder, plant=3)
    cases = json.loads((folder / "cases.json").read_text())
    for name in ("train", "val", "test"):
        originals = [case for case in cases[name] if "planted" not in case]
        assert len(cases[name]) == 4 * len(originals)
        assert all(cases["patients"][case] == case[0] for case in cases[name])
    assert list(cases["ood"]) == ["d"]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == len([*cases["train"], *cases["val"]])

    found = {report.case: report.volumes_ml for report in reports}
    assert any(volumes.get("cyst") for volumes in found.values()) and not found["a"].get("cyst")
    grown = next(case for case, volumes in found.items() if volumes.get("cyst"))
    image, mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(next(folder.glob(f"{kind}*/{grown}{end}.nii.gz")))))
        for kind, end in (("images", "_0000"), ("labels", ""))
    )
    assert image[mask == 3].mean() < 40 < 90 < image[mask == 1].mean()


def test_planting_nothing_in_particular_or_into_several_phases_is_refused(twelve_patients, tmp_path):
    with pytest.raises(InputError, match="The labels do not say what to plant"):
        prepare(read_cohort(twelve_patients), scheme(), tmp_path / "raw", plant=1)
    with pytest.raises(InputError, match="expected one of hcc, icc, metastasis, haemangioma, cyst, found 'wart'"):
        scheme(SCHEME | {"types": [{"name": "wart", "values": [2], "plant": "wart"}]})
