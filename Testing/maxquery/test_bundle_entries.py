"""bundle.json and queries.json say where they are wrong."""

import json
from pathlib import Path

import pytest

from maxquery.bundle import save_bundle

from .bundles import refusal, sign, small_bundle


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_bundle(small_bundle(), tmp_path / "liver")


def edit(folder: Path, path: str, value: object, file: str = "bundle.json") -> None:
    """Sets what `path` (keys and indices with dots between) leads to; `...` removes it."""
    document = json.loads((folder / file).read_text())
    *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place = document
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    (folder / file).write_text(json.dumps(document))
    sign(folder)


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("labels.2.colour", "red", "labels[2].colour: expected three integers 0…255, found 'red'."),
        (
            "labels.2.colour",
            [0, 0, 256],
            "labels[2].colour: expected three integers 0…255, found [0, 0, 256].",
        ),
        (
            "labels.1.value",
            7,
            "labels[1].value: expected 1, the place in the list and the network's class, found 7.",
        ),
        (
            "labels.2.role",
            "tumor",
            "labels[2].role: expected one of background, organ, tumour, found 'tumor'.",
        ),
        (
            "labels.1.role",
            "background",
            "labels[1].role: expected background for label 0 and for no other, found 'b",
        ),
        (
            "labels.1.terminology.type",
            ["1"],
            "labels[1].terminology.type: expected a list of 3, found ['1'].",
        ),
        ("licence", ..., "'licence' is missing."),
        ("license", "MIT", "unknown entry 'license'."),
        ("training.limits", "", "training.limits: expected some text, found ''."),
        ("channels.0.kind", "MR", "channels[0].kind: expected one of CT, found 'MR'."),
        ("channels", [], "channels: expected at least one channel, found []."),
        ("spacing_zyx_mm.0", 0, "spacing_zyx_mm[0]: expected a number above 0, found 0."),
        ("normalisation", [], "normalisation: expected a list of 1, found []."),
        ("normalisation.0.std_hu", True, "normalisation[0].std_hu: expected a number, found True."),
        ("normalisation.0.lower_hu", 900, "normalisation[0]: expected lower_hu below upper_hu, found {"),
        ("patch_zyx.1", 64.5, "patch_zyx[1]: expected an integer of at least 1, found 64.5."),
        ("architecture.response", "euclid", "architecture.response: expected one of product, cosine, found 'euclid'."),
        ("architecture.heads", ..., "architecture: 'heads' is missing."),
        ("architecture.backbone", "UNet", "architecture.backbone: expected an object, found 'UNet'."),
        ("query_distribution.tumour", 300, "query_distribution: expected 1…254 queries in all, found {"),
        ("calibration.values.3", 99.0, "calibration: the values do not ascend."),
        ("calibration.percents", [0, 100], "values do not match 2 percents."),
        ("smoothing_mm", -1, "smoothing_mm: expected a number of mm from 0 to 50, found -1."),
        ("schema_version", 0, "schema_version: expected an integer of at least 1, found 0."),
    ],
)
def test_a_wrong_entry_is_named_by_its_path(folder, path, value, message):
    edit(folder, path, value)
    error = refusal(folder)
    assert error.code == "bundle-invalid"
    assert error.message.startswith("bundle.json: ")
    assert message in error.message


@pytest.mark.parametrize(
    "path, value, message",
    [
        (
            "1.group",
            "tumour",
            "[1].group: expected organ, which the query distribution says, found 'tumour'.",
        ),
        (
            "0.class_probabilities",
            [1.0, 1.0, 0.0],
            "[0].class_probabilities: expected probabilities that add up to 1",
        ),
        ("0.class_probabilities", [1.0], "[0].class_probabilities: expected a list of 3, found [1.0]."),
        ("2.index", 1, "[2].index: expected 2, the place in the list, found 1."),
        ("2", ..., "expected a list of 3, found [{"),
    ],
)
def test_a_wrong_query_is_named_by_its_path(folder, path, value, message):
    edit(folder, path, value, "queries.json")
    assert refusal(folder).message.startswith("queries.json: " + message)


def test_a_later_schema_asks_for_an_update(folder):
    edit(folder, "schema_version", 2)
    error = refusal(folder)
    assert (error.code, error.hint) == ("bundle-too-new", "Update the extension.")


@pytest.mark.parametrize(
    "constant", ["NaN", "Infinity", "-Infinity", "1e999", "{", '"\\ud800', "[" * 100_000]
)
def test_what_is_no_json_is_refused(folder, constant):
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"dice": 0.9', f'"dice": {constant}'))
    sign(folder)
    assert refusal(folder).message.startswith("bundle.json is not valid JSON: ")
