"""RoMa: where each pixel of one image lies in another, coarse to fine, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.matchers._base import Matcher, MatcherInfo, ParameterGroup
from reid.matchers._dense import DenseOutputs, upsampled
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.matchers._roma_decoder import CoarseConfig, CoarseMatcher
from reid.matchers._roma_evidence import Evidence, evidence
from reid.matchers._roma_features import FINE_STRIDES, FineFeatures, projection
from reid.matchers._roma_refiner import Refiner, RefinerConfig
from reid.nn.dtype import at_least_float32
from reid.types import Correspondences, FeatureSpec, ImageState, StateField

TEMPORARY_BYTES = 256 * 2**20
"""What the layers may need at a time while pairs are scored."""

LOGIT_SCALE = 10.0
"""Of the evidence, which differs by tenths between pairs, so that its weights learn as fast as others do."""

Levels = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class Config(CoarseConfig):
    """Defaults are those of a light model, which trains on a CPU."""

    name: Literal["roma"] = "roma"
    fine_channels: Levels = Field((16, 32, 64, 128), description="of the fine network at strides 1, 2, 4 and 8")
    fine_convs: Levels = Field((1, 1, 2, 2), description="convolutions of the fine network at strides 1, 2, 4 and 8")
    refiners: tuple[RefinerConfig, ...] = Field(
        (RefinerConfig(stride=8, dim=64), RefinerConfig(stride=4, dim=32)),
        min_length=1,
        description="one a stride, coarse to fine, the last of them finer than the coarse step",
    )
    score: Literal["logit", "certainty_sim"] = Field(
        "logit",
        description="'logit': of the evidence, by weights that a stage with identities trains; 'certainty_sim': mean "
        "certainty times mean similarity, which needs no labels",
    )
    cycle_px: PositiveFloat = Field(8.0, description="a cell that comes back this near, there and back, counts as back")


class RoMa(Matcher):
    """Match densely in both directions; score a pair by how well that goes.

    Coarse step: a Gaussian process, a transformer without positions and anchors, on the backbone's map, see
    :class:`~reid.matchers._roma_decoder.CoarseMatcher`. Then refiners at finer strides, on the maps of a small network
    of its own; warp and certainty are detached between strides. Both directions are computed, in training too: their
    truth is known, and so a pair gives twice as much to learn from for twice the cost.

    The score is symmetric: a logistic layer on mean certainty, its difference between the directions, similarity of
    the backbone's features where they were matched, share of cells that come back, and anchor entropy. Certainty says
    that a place can be seen in the other image, which is no probability of the same identity; so the layer means
    nothing before a stage with identities has trained it.

    State: ``coarse`` [N, h * w, dim] and ``weights`` [N, h * w, gp_dim] in float32, since rounding moves an anchor's
    mode; ``appearance`` [N, C, h, w], the backbone's map with cells of unit length; ``fine8`` etc., [N, dim, H, W].
    At 128 x 64 with 256 channels that is 98 KB an image in half precision; at 384 x 128 with 1,024 it is 885 KB.

    With another backbone than DINOv2 this is RoMa's architecture with that encoder: results say which it was. The
    published shape, on 560 x 560: ``stride = 14, dim = gp_dim = 512, num_blocks = 5, num_heads = 8, feedforward = 4096,
    anchor_px = 8.75, fine_channels = [64, 128, 256, 512], fine_convs = [2, 2, 4, 4]``, refiners of 9 blocks at strides
    14, 8, 4, 2 and 1 of dims 512, 512, 256, 64 and 9, displacements 128, 64, 32, 16 and 6 and radii 7, 3, 2, 0 and 0.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Raises:
        ConfigError: sizes, strides or channels do not fit together.

    Source: Edstedt et al., RoMa: Robust Dense Feature Matching, CVPR 2024, and its released code (MIT). Differs, beside
    what its parts say: pixels, not normalised units, so that a crop's two directions count alike; displacements, not
    positions, are interpolated between strides. The score is ours.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.image_size = features.image_size
        self.map_shape = map_shape(features, config.stride, config.name)
        _refuse_misfits(config, features.image_size, self.map_shape)
        self.info = MatcherInfo(
            "top_k", symmetric=True, strides=(config.stride,), has_correspondences=True, reads_pixels=True
        )
        dims = {refiner.stride: refiner.dim for refiner in config.refiners if refiner.stride != config.stride}
        self.project = projection(self.map_shape[0], config.dim)
        self.fine = FineFeatures(config.fine_channels, config.fine_convs, dims)
        self.coarse = CoarseMatcher(config, features.image_size, self.map_shape[1:])
        self.refiners = nn.ModuleList(Refiner(refiner, config.stride) for refiner in config.refiners)
        self.classifier = _classifier(num_anchors=config.head == "anchors") if config.score == "logit" else None
        self.field_shapes = _field_shapes(config, features.image_size, self.map_shape)
        self.pairs_per_chunk = max(1, TEMPORARY_BYTES // _bytes_per_pair(config, features.image_size))

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:
        """See :meth:`Matcher.encode`."""
        map_BCHW = read_map(maps, self.config.stride, self.map_shape, self.config.name)
        if image_BCHW.shape[1:] != (3, *self.image_size):
            raise ShapeError(
                f"roma: wanted images [B, 3, {self.image_size[0]}, {self.image_size[1]}], found "
                f"{list(image_BCHW.shape)}. It looks at pixels: feature maps alone are not enough."
            )
        coarse_BSD = at_least_float32(self.project(map_BCHW)).flatten(2).mT
        found = {"coarse": coarse_BSD, "weights": self.coarse.weights(coarse_BSD)}
        found["appearance"] = functional.normalize(at_least_float32(map_BCHW), dim=1)
        found |= {f"fine{stride}": map_BDHW for stride, map_BDHW in self.fine(image_BCHW).items()}
        return ImageState(found, {name: StateField(bears_halving=False) for name in ("coarse", "weights")})

    def pair(self, query: ImageState, gallery: ImageState) -> DenseOutputs:
        """See :meth:`Matcher.pair`.

        Returns:
            logit and warps, both ways. In eval mode pairs are computed some at a time.
        """
        if len(query) != len(gallery):
            raise ShapeError(f"roma: wanted as many query as gallery images, found {len(query)} and {len(gallery)}.")
        if self.training or len(query) <= self.pairs_per_chunk:
            return self._match(query, gallery)
        parts = zip(query.split(self.pairs_per_chunk), gallery.split(self.pairs_per_chunk), strict=True)
        return DenseOutputs.cat([self._match(q, g) for q, g in parts])

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`Matcher.score`. In eval mode no warps are kept."""
        num_gallery = len(gallery)
        pair_idx = torch.arange(len(query) * num_gallery)
        chunks = pair_idx.split(len(pair_idx) if self.training else self.pairs_per_chunk)
        logits = [self._match(query[chunk // num_gallery], gallery[chunk % num_gallery]).logit_N for chunk in chunks]
        return torch.cat(logits).reshape(len(query), num_gallery)

    def correspond(self, query: ImageState, gallery: ImageState) -> list[Correspondences]:
        """For each query cell of the finest grid where it lies; the confidence is the certainty, 0..1.

        A place outside the gallery image is moved to its border, with confidence 0.
        """
        finest = self.pair(query, gallery).to_gallery.finest
        centre_S2 = finest.centres.reshape(-1, 2)
        warp_NS2 = finest.warp_NHW2.flatten(1, 2)
        size_2 = warp_NS2.new_tensor((self.image_size[1], self.image_size[0]))
        inside_NS = ((warp_NS2 > 0) & (warp_NS2 < size_2)).all(2)
        confidence_NS = finest.certainty_NHW.flatten(1).sigmoid() * inside_NS
        within_NS2 = torch.minimum(warp_NS2.clamp(min=0.5), size_2 - 0.5)
        moved_NS2 = torch.where(inside_NS[..., None], warp_NS2, within_NS2)
        return [
            Correspondences(centre_S2.float(), moved_S2.float(), confidence_S.float(), "warp")
            for moved_S2, confidence_S in zip(moved_NS2, confidence_NS, strict=True)
        ]

    def parameter_groups(self) -> list[ParameterGroup]:
        """What computes states: projections, fine network, position embedding; what compares them: all else."""
        encoder = (*self.project.parameters(), *self.fine.parameters(), *self.coarse.gp.parameters())
        own = {id(parameter) for parameter in encoder}
        decoder = tuple(parameter for parameter in self.parameters() if id(parameter) not in own)
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", decoder)]

    def _match(self, query: ImageState, gallery: ImageState) -> DenseOutputs:
        """All pairs at once, both directions as one batch: query images in gallery images, then the other way."""
        fields_q, fields_g = self._fields(query), self._fields(gallery)
        own = {name: torch.cat((fields_q[name], fields_g[name])) for name in fields_q}
        other = {name: torch.cat((fields_g[name], fields_q[name])) for name in fields_q}
        both = self.coarse(own["coarse"], other["coarse"], other["weights"])
        for settings, refiner in zip(self.config.refiners, self.refiners, strict=True):
            own_NCHW, other_NCHW = (self._features(fields, settings.stride) for fields in (own, other))
            step = refiner(own_NCHW, other_NCHW, upsampled(both.finest, settings.stride))
            both = replace(both, steps=(*both.steps, step))
        weighed = evidence(both, own["appearance"], other["appearance"], self.config.stride, self.config.cycle_px)
        anchor_A2 = None if self.coarse.anchors is None else self.coarse.anchors.centre_A2
        num = len(query)
        return DenseOutputs(self._logits(weighed), both[:num], both[num:], anchor_A2)

    def _features(self, fields: Mapping[str, Tensor], stride: int) -> Tensor:
        """What a refiner reads, [N, C, H, W]."""
        if stride != self.config.stride:
            return fields[f"fine{stride}"]
        coarse_NCHW: Tensor = fields["coarse"].mT.unflatten(2, self.map_shape[1:])
        return coarse_NCHW

    def _logits(self, weighed: Evidence) -> Tensor:
        if self.classifier is None:
            return weighed.certainty_N * weighed.similarity_N
        with torch.autocast(weighed.certainty_N.device.type, enabled=False):
            logit_N: Tensor = LOGIT_SCALE * self.classifier(weighed.stacked()).squeeze(1)
        return logit_N

    def _fields(self, state: ImageState) -> dict[str, Tensor]:
        """In at least the weights' precision."""
        dtype = self.coarse.to_out.weight.dtype
        return {n: read_field(state, n, shape, self.config.name).to(dtype) for n, shape in self.field_shapes.items()}


def _classifier(*, num_anchors: bool) -> nn.Linear:
    """Weights with the signs that evidence must have, so that an untrained layer does not rank backwards."""
    signs = (1.0, -1.0, 1.0, 1.0, -1.0) if num_anchors else (1.0, -1.0, 1.0, 1.0)
    layer = nn.Linear(len(signs), 1)
    layer.weight.data.copy_(torch.tensor([signs]))
    nn.init.zeros_(layer.bias)
    return layer


def _refuse_misfits(config: Config, image_size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    strides = [refiner.stride for refiner in config.refiners]
    known = {*FINE_STRIDES, config.stride}
    falling = strides == sorted(set(strides), reverse=True) and strides[-1] < config.stride >= strides[0]
    if not falling or not known.issuperset(strides):
        raise ConfigError(
            f"matcher roma: wanted refiners of falling strides among {sorted(known, reverse=True)}, at most the "
            f"matcher's {config.stride} and the last below it, found {strides}."
        )
    if any(side % stride for side in image_size for stride in (config.stride, *strides)):
        raise ConfigError(
            f"matcher roma: wanted images whose sides are multiples of the strides {[config.stride, *strides]}, found "
            f"{image_size[0]} x {image_size[1]}. Choose another image_size."
        )
    if shape[1:] != (image_size[0] // config.stride, image_size[1] // config.stride):
        raise ConfigError(
            f"matcher roma: wanted a map of stride {config.stride}, found one of {shape[1]} x {shape[2]} cells for "
            f"images of {image_size[0]} x {image_size[1]}."
        )
    if strides[0] == config.stride and config.refiners[0].dim != config.dim:
        raise ConfigError(
            f"matcher roma: wanted dim = {config.dim}, the coarse features', for the refiner at their stride, found "
            f"{config.refiners[0].dim}."
        )


def _field_shapes(
    config: Config, image_size: tuple[int, int], shape: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    cells = shape[1] * shape[2]
    shapes: dict[str, tuple[int, ...]] = {"coarse": (cells, config.dim), "weights": (cells, config.gp_dim)}
    shapes["appearance"] = shape
    for refiner in config.refiners:
        if refiner.stride != config.stride:
            sides = (image_size[0] // refiner.stride, image_size[1] // refiner.stride)
            shapes[f"fine{refiner.stride}"] = (refiner.dim, *sides)
    return shapes


def _bytes_per_pair(config: Config, image_size: tuple[int, int]) -> int:
    """Of the layer that needs most, both directions, in float32."""
    pixels = image_size[0] * image_size[1]
    floats = [pixels // config.stride**2 * (6 * (config.dim + config.gp_dim) + 2 * config.feedforward)]
    for refiner in config.refiners:
        cells = pixels // refiner.stride**2
        floats.append(cells * (4 * refiner.num_channels + (2 * cells if refiner.radius else 0)))
    return 2 * 4 * max(floats)


COMPONENT = RoMa
