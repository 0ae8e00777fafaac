"""What a training left in nnU-Net's folders, as a bundle."""

from pathlib import Path

from maxquery.bundle import Bundle
from maxquery.errors import InputError
from maxquery_training.checkpoints import read_checkpoint
from maxquery_training.export import bundle_labels, export
from maxquery_training.folders import DatasetFiles
from maxquery_training.prepared_case import read_prepared
from maxquery_training.stages import trained


def trained_bundle(
    files: DatasetFiles, *, name: str, licence: str, data: str, limits: str, version: str = "0.1.0",
    description: str = "", card: Path | None = None,
) -> Bundle:  # fmt: skip
    """The bundle of the trained network, not calibrated; its queries are described on the first validation case.

    `data` says what it learned from, `limits` where it ends; without a `card` the model card is made of them. Raises
    InputError where there is no trained network, or the dataset is not the one that it was trained on.
    """
    checkpoint, seconds = trained(files.dataset)
    plans, dataset = read_checkpoint(checkpoint)["init_args"]["plans"], files.read_description()
    files.check_planned(plans)
    first = next(read_prepared(files.raw, ("val",)), None)
    if first is None:
        raise InputError("no-cases", f"{files.dataset} holds no validation case.", "Prepare it from more patients.")
    if card is not None and not card.is_file():
        raise InputError("missing", f"There is no file {card}.", "Give a model card, or leave it out.")
    description = description or f"Trained on {files.dataset}."
    made_card = f"# {name}\n\n{description}\n\n- **Learned from**: {data}\n- **Limits**: {limits}\n"
    return export(
        checkpoint, plans, bundle_labels(dataset), first.volume, name=name, version=version, licence=licence,
        description=description, channels=dataset["phases"],
        model_card=made_card if card is None else card.read_text("utf-8"),
        training={
            "data": data, "limits": limits, "command": "maxquery-train train", "seed": plans["maxquery"]["seed"],
            "duration_seconds": seconds, "preset": plans["maxquery"],
        },
    )  # fmt: skip
