"""What a run found, in a sentence for a person."""

from typing import Any

from slicer.i18n import tr as _


def sentence(report: dict[str, Any]) -> str:
    """The case score and the volumes; `report` is what report.json says."""
    volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in report["volumes_ml"].items() if ml > 0)
    score = report["case_score"]
    if score is None:
        return _("No tumour of a known type was found.\n{volumes}").format(volumes=volumes)
    return _(
        "What was labelled tumour is, on average, less familiar to the model than {percentile:.0f} % of known "
        "tissue.\n{volumes}"
    ).format(percentile=score["percentile"], volumes=volumes)
