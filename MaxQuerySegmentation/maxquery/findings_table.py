"""Findings as rows of text, the same in `findings.csv` and in the scene's table.

Volumes in ml, diameters in mm, centroids in RAS mm, percentiles 0…100; `queries` are the indices of
the owning queries (0-based, the largest share first). In `clusters.nrrd` query q has the value q + 1.
"""

from maxquery.result import Finding

HEADER = (
    "id", "label", "ood", "volume_ml", "longest_diameter_mm", "perpendicular_diameter_mm",
    "centroid_right_mm", "centroid_anterior_mm", "centroid_superior_mm",
    "mean_percentile", "peak_percentile", "queries",
)


def findings_rows(findings: tuple[Finding, ...]) -> list[tuple[str, ...]]:
    """The header, then one row a finding."""
    return [HEADER, *(_row(finding) for finding in findings)]


def _row(finding: Finding) -> tuple[str, ...]:
    measures = (
        finding.volume_ml, finding.longest_diameter_mm, finding.perpendicular_diameter_mm,
        *finding.centroid_ras_mm, finding.mean_percentile, finding.peak_percentile,
    )
    return (
        str(finding.id), " ".join(finding.label.split()), "yes" if finding.ood else "no",
        *(f"{number:.3f}" for number in measures), " ".join(map(str, finding.queries)),
    )
