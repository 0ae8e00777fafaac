"""Every number of a training run, in one place."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

PLANS, CONFIGURATION = "MaxQueryPlans", "3d_fullres"
"""What nnU-Net calls the plans that a preset goes into, and the one configuration in them."""


@dataclass(frozen=True)
class Preset:
    """Grid, network and schedule of both stages. The defaults are the paper's liver model (Sec. 4.1, 4.2); what it does
    not say (widths, the attention's weight, batches an epoch, the backbone's optimiser) is nnU-Net's or ours.

    `spacing_zyx_mm` and `patch_zyx` (voxels) set the grid; `features`, `strides`, `convolutions` describe
    the U-Net stage by stage as nnU-Net's plans do (None: as nnU-Net plans it). Epochs are nnU-Net's, of
    `iterations` batches each. `window_hu` is what intensities are clipped to before normalisation (None:
    nnU-Net's foreground percentiles). `foreground_share`: of the windows of a batch, rounded to whole ones, that show
    foreground for certain. `group_weights`: what background, organ and tumours weigh in cross-entropy.
    `response`: see `maxquery.network.RESPONSES`; the paper's is the product. `exposure_weight`: of the loss in
    `maxquery_training.exposure`, in the joint stage; the paper has none. `score`: what the model's
    heatmap shows, a name in `maxquery.anomaly.SCORES`; the paper's is Eq. 9. `smoothing_mm`: sigma of the Gaussian that
    smooths it; the paper has none.
    """

    spacing_zyx_mm: tuple[float, float, float] = (3.0, 0.76, 0.76)
    patch_zyx: tuple[int, int, int] = (40, 192, 224)
    batch_size: int = 2
    features: tuple[int, ...] | None = None
    strides: tuple[tuple[int, int, int], ...] | None = None
    convolutions: tuple[int, ...] | None = None
    query_distribution: tuple[int, int, int] = (16, 4, 12)
    query_channels: int = 256
    embedding_channels: int = 128
    response: Literal["product", "cosine"] = "product"
    iterations: int = 250
    validation_iterations: int = 50
    backbone_epochs: int = 1000
    backbone_optimiser: Literal["sgd", "adamw"] = "sgd"
    backbone_rate: float = 1e-2
    joint_epochs: int = 200
    frozen_epochs: int = 50
    query_rate: float = 1e-4
    backbone_rate_factor: float = 0.1
    qd_weight: float = 0.1
    attention_weight: float = 1.0
    exposure_weight: float = 0.0
    score: str = "maxquery"
    smoothing_mm: float = 0.0
    group_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mirror: bool = True
    rotation_degrees: float = 30.0
    foreground_share: float = 0.33
    window_hu: tuple[float, float] | None = None
    seed: int = 0

    def with_schedule(
        self, backbone_epochs: int | None = None, joint_epochs: int | None = None, seed: int | None = None
    ) -> "Preset":
        """The same with other lengths or another seed; the backbone rests for the same share of the joint stage.

        >>> PAPER_LIVER.with_schedule(joint_epochs=20).frozen_epochs
        5
        """
        joint = self.joint_epochs if joint_epochs is None else joint_epochs
        return replace(
            self,
            backbone_epochs=self.backbone_epochs if backbone_epochs is None else backbone_epochs,
            joint_epochs=joint,
            frozen_epochs=round(self.frozen_epochs * joint / self.joint_epochs),
            seed=self.seed if seed is None else seed,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preset":
        return cls(**{key: as_tuples(value) for key, value in values.items()})


def as_tuples(value: Any) -> Any:
    """JSON's lists as tuples, at any depth."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, list) else value


PAPER_LIVER = Preset()
PAPER_PANCREAS = Preset(spacing_zyx_mm=(3.0, 0.419, 0.419), patch_zyx=(28, 192, 320))

# A small network on a coarse grid, for a few CPU cores. The liver is not mirrored: where it lies in the body is half of
# how a small network finds it. For the same reason a batch has few, large windows: two, as torch computes the coarser
# convolutions of a single one without oneDNN, which takes nearly as long. Lesions are a few hundred voxels of a window,
# and faint beside fat and air: so weights (see `segmentation_loss`) and an optimiser whose step does not depend on how
# faint a signal is.
QUICK = Preset(
    spacing_zyx_mm=(4.0, 3.0, 3.0),
    patch_zyx=(32, 80, 80),
    batch_size=2,
    features=(16, 32, 64, 128, 160),
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    convolutions=(1, 2, 2, 2, 2),
    query_channels=128,
    embedding_channels=32,
    response="cosine",
    iterations=100,
    validation_iterations=4,
    backbone_optimiser="adamw",
    backbone_rate=3e-3,
    backbone_epochs=30,
    joint_epochs=8,
    frozen_epochs=2,
    query_rate=2e-3,
    backbone_rate_factor=0.5,
    qd_weight=1.0,
    group_weights=(1.0, 3.0, 15.0),
    mirror=False,
    rotation_degrees=15.0,
    foreground_share=0.67,  # one of two
    window_hu=(-160.0, 240.0),
)

# Ours: a heatmap that was taught what strange looks like, smoothed so that fewer of its regions lie on no tumour. For
# two tumour types or more, and one phase.
QUICK_EXPOSED = replace(
    QUICK, backbone_epochs=40, joint_epochs=12, frozen_epochs=1, exposure_weight=10.0, score="type_entropy",
    smoothing_mm=4.0,
)  # fmt: skip

PRESETS = {
    "paper-liver": PAPER_LIVER, "paper-pancreas": PAPER_PANCREAS, "quick": QUICK, "quick-exposed": QUICK_EXPOSED
}  # fmt: skip
