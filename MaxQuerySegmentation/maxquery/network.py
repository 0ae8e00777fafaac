"""The network (Fig. 2): a U-Net gives pixel features, transformer blocks turn queries into cluster centres."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from maxquery.backbone import attended_scales, build_backbone, pixel_features
from maxquery.kmeans_attention import KMeansBlock
from maxquery.labels import QueryDistribution
from maxquery.pixel_embedding import PixelEmbedding


@dataclass(frozen=True)
class Architecture:
    """All the sizes of one network. `backbone` is a plan's `architecture` as nnU-Net writes it.

    `query_channels`: width of the transformer; `embedding_channels`: C, shared by pixel features and
    cluster centres, where the responses are computed; `classes`: K, background included. `response`: how
    they are compared, a name in `RESPONSES`.
    """

    backbone: Mapping[str, Any]
    input_channels: int
    classes: int
    distribution: QueryDistribution = field(default_factory=QueryDistribution)
    query_channels: int = 128
    embedding_channels: int = 32
    heads: int = 8
    drop_path: float = 0.2
    response: Literal["product", "cosine"] = "product"


@dataclass(frozen=True)
class Output:
    """What the network says of a batch of windows.

    `responses` R `(B, N, Z, Y, X)`, `classification` C_K `(B, N, K)`, `attention`: each block's logits
    `(B, N, z, y, x)`, coarsest first.
    """

    responses: Tensor
    classification: Tensor
    attention: tuple[Tensor, ...]

    @cached_property
    def segmentation(self) -> Tensor:
        """Z `(B, K, Z, Y, X)`."""
        return aggregate(self.classification, cluster_assignment(self.responses))


def query_response(centres: Tensor, pixels: Tensor) -> Tensor:
    """R = C Pᵀ: centres `(B, N, C)` and pixel features `(B, C, Z, Y, X)` to `(B, N, Z, Y, X)`."""
    return torch.einsum("bnc,bczyx->bnzyx", centres, pixels)


def cosine_response(centres: Tensor, pixels: Tensor, sharpness: float = 5.0) -> Tensor:
    """R of centres and pixel features brought to unit length: `sharpness` × the cosine of their angle.

    Ours. Losses on M fix the differences between a pixel's responses, and leave their level free: with a plain
    product it follows the length of the features, which is largest at what is rare, known or not. A cosine is near 1
    only beside a centre, and its maximum can be compared. The lower the sharpness, the closer to its centre a pixel
    must lie before M is sure of it.
    """
    # `functional.normalize(pixels, dim=1)`, but quicker on a CPU, its gradient above all.
    pixels = pixels.contiguous()
    per_length = pixels.square().sum(dim=1, keepdim=True).clamp(min=1e-24).rsqrt()
    return query_response(sharpness * functional.normalize(centres, dim=2), pixels) * per_length


RESPONSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"product": query_response, "cosine": cosine_response}


def cluster_assignment(responses: Tensor) -> Tensor:
    """M = softmax over the N queries of R (Eq. 3)."""
    return responses.softmax(dim=1)


def aggregate(classification: Tensor, assignment: Tensor) -> Tensor:
    """Z = C_Kᵀ M (Eq. 4): `(B, N, K)` and `(B, N, Z, Y, X)` to logits `(B, K, Z, Y, X)`."""
    return torch.einsum("bnk,bnzyx->bkzyx", classification, assignment)


def group_prior(distribution: QueryDistribution, classes: int) -> Tensor:
    """`(N, K)`: where C_K starts, each query leaning to a class of its own group (tumour types in turn).

    Ours, not the paper's. Were all queries to start alike, Z would not depend on M, and the segmentation
    loss could not tell the pixels where to go.
    """
    tumour_types = max(classes - 2, 1)
    preferred = [
        {"background": 0, "organ": 1}.get(distribution.group_of(n), classes - tumour_types + n % tumour_types)
        for n in range(distribution.total)
    ]
    return 2.0 * functional.one_hot(torch.tensor(preferred), classes).float()


class QueryDecoder(nn.Module):
    """N learnable queries, refined on one pixel scale after another, read out as centres and classes."""

    def __init__(self, pixel_channels: list[int], finest_channels: int, architecture: Architecture):
        super().__init__()
        width, embedding = architecture.query_channels, architecture.embedding_channels
        self.respond = RESPONSES[architecture.response]
        self.queries = nn.Parameter(torch.randn(architecture.distribution.total, width))
        self.blocks = nn.ModuleList(
            KMeansBlock(channels, width, heads=architecture.heads, drop_path=architecture.drop_path)
            for channels in pixel_channels
        )
        self.pixel_embedding = PixelEmbedding(finest_channels, embedding)
        self.centre_embedding = nn.Sequential(nn.Linear(width, embedding), nn.LayerNorm(embedding))
        self.classifier = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, architecture.classes)
        )
        self.class_prior = nn.Parameter(group_prior(architecture.distribution, architecture.classes))

    def forward(self, scales: list[Tensor], finest: Tensor) -> Output:
        centres, classification, attention = self._refined(scales, len(finest))
        return Output(self._responses(centres, self.pixel_embedding(finest)), classification, attention)

    def in_slabs(self, scales: list[Tensor], finest: Tensor) -> Iterator[Output]:
        """The same without attention, a few slices (Z) at a time: N responses a voxel never exist as a whole."""
        centres, classification, _ = self._refined(scales, len(finest))
        for pixels in self.pixel_embedding.in_slabs(finest):
            yield Output(self._responses(centres, pixels), classification, ())

    def _refined(self, scales: list[Tensor], batch: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Cluster centres C, their classification C_K, and each block's attention logits."""
        queries = self.queries.expand(batch, -1, -1)
        attention = []
        for block, pixels in zip(self.blocks, scales, strict=True):
            queries, logits = block(queries, pixels)
            attention.append(logits)
        centres = self.centre_embedding(queries)
        with _full_precision(centres):
            return centres.float(), self.classifier(queries.float()) + self.class_prior, tuple(attention)

    def _responses(self, centres: Tensor, pixels: Tensor) -> Tensor:
        with _full_precision(centres):
            return self.respond(centres, pixels.float())


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Even under autocast: responses feed an argmax, a softmax and the anomaly score."""
    return torch.autocast(tensor.device.type, enabled=False)


class MaxQueryNet(nn.Module):
    """nnU-Net's `encoder` and `decoder`, whose segmentation layers are a `QueryDecoder`.

    The names are nnU-Net's own, so a stock checkpoint of the same plans is a backbone as it stands:
    what it lacks is only under `decoder.seg_layers`.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        plan = architecture.backbone
        unet = build_backbone(plan["network_class_name"], plan["arch_kwargs"], architecture.input_channels)
        self.encoder, self.decoder = unet.encoder, unet.decoder
        del self.decoder.encoder  # the same module again; it would stand twice in every state dict
        channels = list(self.encoder.output_channels)[::-1]
        self.scales = attended_scales(plan["arch_kwargs"]["strides"])
        self.decoder.seg_layers = QueryDecoder([channels[i] for i in self.scales], channels[-1], architecture)

    @property
    def query_decoder(self) -> QueryDecoder:
        return self.decoder.seg_layers

    def forward(self, image: Tensor) -> Output:
        """`image`: normalised windows `(B, channels, Z, Y, X)`."""
        return self.query_decoder(*self._features(image))

    def in_slabs(self, image: Tensor) -> Iterator[Output]:
        """What `forward` says of a few slices (Z) after the other, in less memory; without attention."""
        return self.query_decoder.in_slabs(*self._features(image))

    def _features(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Those that queries attend to, coarsest first, and the finest."""
        features = pixel_features(self.decoder, self.encoder(image))
        return [features[i] for i in self.scales], features[-1]
