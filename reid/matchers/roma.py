"""RoMa: where each pixel of one image lies in another, coarse to fine, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ShapeError
from reid.matchers._base import Matcher, MatcherInfo, ParameterGroup
from reid.matchers._dense import DenseOutputs, upsampled
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.matchers._roma_config import Config, field_shapes, pairs_at_once, refuse_misfits
from reid.matchers._roma_decoder import CoarseMatcher
from reid.matchers._roma_evidence import EvidenceHead, evidence
from reid.matchers._roma_features import FineFeatures, projection
from reid.matchers._roma_refiner import Refiner
from reid.nn.dtype import at_least_float32
from reid.types import Correspondences, FeatureSpec, ImageState, StateField


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
        refuse_misfits(config, features.image_size, self.map_shape)
        self.info = MatcherInfo(
            "top_k", symmetric=True, strides=(config.stride,), has_correspondences=True, reads_pixels=True
        )
        dims = {refiner.stride: refiner.dim for refiner in config.refiners if refiner.stride != config.stride}
        self.project = projection(self.map_shape[0], config.dim)
        self.fine = FineFeatures(config.fine_channels, config.fine_convs, dims)
        self.coarse = CoarseMatcher(config, features.image_size, self.map_shape[1:])
        self.refiners = nn.ModuleList(Refiner(refiner, config.stride) for refiner in config.refiners)
        self.evidence_head = EvidenceHead(has_entropy=config.head == "anchors") if config.score == "logit" else None
        self.field_shapes = field_shapes(config, features.image_size, self.map_shape)
        self.pairs_per_chunk = pairs_at_once(config, features.image_size)

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
        return self.pair(query, gallery).matches()

    def parameter_groups(self) -> list[ParameterGroup]:
        """What computes states: projections, fine network, position embedding; what weighs evidence; all else."""
        encoder = (*self.project.parameters(), *self.fine.parameters(), *self.coarse.gp.parameters())
        head = () if self.evidence_head is None else tuple(self.evidence_head.parameters())
        own = {id(parameter) for parameter in (*encoder, *head)}
        decoder = tuple(parameter for parameter in self.parameters() if id(parameter) not in own)
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", decoder), ParameterGroup("head", head)]

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
        logit_N = weighed.certainty_sim_N if self.evidence_head is None else self.evidence_head(weighed)
        return DenseOutputs(logit_N, both[:num], both[num:], anchor_A2, weighed)

    def _features(self, fields: Mapping[str, Tensor], stride: int) -> Tensor:
        """What a refiner reads, [N, C, H, W]."""
        if stride != self.config.stride:
            return fields[f"fine{stride}"]
        coarse_NCHW: Tensor = fields["coarse"].mT.unflatten(2, self.map_shape[1:])
        return coarse_NCHW

    def _fields(self, state: ImageState) -> dict[str, Tensor]:
        """In at least the weights' precision."""
        dtype = self.coarse.to_out.weight.dtype
        return {n: read_field(state, n, shape, self.config.name).to(dtype) for n, shape in self.field_shapes.items()}


COMPONENT = RoMa
