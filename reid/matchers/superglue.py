"""SuperGlue: keypoints of two images hear from each other, and are assigned by optimal transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from reid.errors import ConfigError, ShapeError
from reid.matchers._assignment import AssignmentOutputs, Calibration, PairScores, pair_scores
from reid.matchers._base import PAIRS_PER_CHUNK, TEMPORARY_BYTES, Matcher, MatcherConfig, MatcherInfo, ParameterGroup
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.matchers._keypoints import KeypointEncoder
from reid.matchers._message_passing import MessagePassing, PointNormName
from reid.nn.transport import log_assignment
from reid.types import Correspondences, FeatureSpec, ImageState, StateField

SALIENT_KEYPOINTS = 128


class Config(MatcherConfig):
    """Defaults suit person crops; published for scenes: dim 256, 18 layers, 100 iterations."""

    name: Literal["superglue"] = "superglue"
    stride: PositiveInt = Field(16, description="of the feature map whose cells are described")
    dim: PositiveInt = Field(128, description="channels of a keypoint")
    num_layers: NonNegativeInt = Field(6, description="of attention: self, cross, self, ...; 0: none")
    num_heads: PositiveInt = Field(4, description="of each layer; dim is a multiple of it")
    keypoints: Literal["grid", "salient"] = Field(
        "grid", description="every cell's centre, or the cells whose features are longest, placed within the cell"
    )
    num_keypoints: PositiveInt | None = Field(
        None, description="'salient' only; None: 128; more than there are cells: all, and padding"
    )
    norm: PointNormName = Field("batch", description="in the perceptrons; 'batch' as published")
    position: bool = Field(True, description="False, for ablation: keypoints do not know where they are")
    cross: bool = Field(True, description="False, for ablation: the cross layers are left out")
    train_iterations: PositiveInt = Field(20, description="of the transport while training, in each of both orders")
    eval_iterations: PositiveInt = Field(50, description="of the transport otherwise; likewise")
    match_threshold: PositiveFloat = Field(0.2, lt=1, description="least mass of a match; 0.2 as published")
    score: Literal["logit", "mass", "sim", "ot", "count"] = Field(
        "logit",
        description="of a pair; 'logit' is learned from identities; untrained, it is the mass's odds + 10 sim - 5",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.dim % self.num_heads:
            raise ConfigError(
                f"matcher superglue: wanted dim a multiple of num_heads, found {self.dim}, {self.num_heads}."
            )
        if self.keypoints == "grid" and self.num_keypoints is not None:
            raise ConfigError(
                "matcher superglue: num_keypoints is for keypoints = 'salient'; a grid has as many as the map has "
                "cells. Leave it out."
            )
        return self


class SuperGlue(Matcher):
    """Assign the keypoints of one image to those of the other, or to none.

    A cell's descriptor is its features, projected, to unit length. A perceptron on position and saliency is added;
    layers let keypoints hear from their own image and from the other, with the same weights for both; scores of
    keypoints are the dot products of what comes out, by the root of D; optimal transport with dustbins makes an
    assignment of them. Each step treats both images alike, so that score(a, b) = score(b, a).

    Where the keypoints of two views truly match (loss ``assignment``) trains all but the logit. That teaches where
    things lie, not who someone is: only identities teach that (loss ``pair_bce`` with score ``logit``). They may train
    the head alone; if they train the rest too, it forgets where things lie.

    State: ``points`` [N, K, 2], in pixels; ``tokens`` [N, K, D], as the layers before the first cross layer leave
    them; ``descriptors`` [N, K, D]; where there is padding ``mask`` [N, K], bool. A state may be given another
    ``mask``: keypoints to be left out, up to all of them.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Raises:
        ConfigError: the backbone has no map of the stride.

    Source: Sarlin, DeTone, Malisiewicz and Rabinovich, SuperGlue: Learning Feature Matching with Graph Neural Networks,
    CVPR 2020; written from its equations. Differs: keypoints and descriptors come from the backbone's map; positions
    are centred and divided by 0.7 of the longer side; the transport is the mean of both orders, see
    :func:`reid.nn.transport.log_assignment`.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.map_shape = map_shape(features, config.stride, config.name)
        self.info = MatcherInfo("top_k", symmetric=True, strides=(config.stride,), has_correspondences=True)
        self.keypoints = KeypointEncoder(
            self.map_shape,
            image_size=features.image_size,
            stride=config.stride,
            dim=config.dim,
            num_salient=None if config.keypoints == "grid" else config.num_keypoints or SALIENT_KEYPOINTS,
            norm=config.norm if config.position else None,
        )
        self.num_keypoints = self.keypoints.num_keypoints
        self.gnn = MessagePassing(config.num_layers, config.dim, config.num_heads, config.norm, cross=config.cross)
        self.final = nn.Linear(config.dim, config.dim)
        self.dustbin = nn.Parameter(torch.ones(()))
        self.calibration = Calibration() if config.score == "logit" else None
        k = self.num_keypoints
        floats = 16 * k * config.dim + 2 * config.num_heads * k**2 + 8 * (k + 1) ** 2
        self.pairs_per_chunk = max(1, min(PAIRS_PER_CHUNK, TEMPORARY_BYTES // (4 * floats)))

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        map_BCHW = read_map(maps, self.config.stride, self.map_shape, self.config.name)
        keypoints, descriptor_BKD, token_BKD = self.keypoints(map_BCHW)
        token_BKD = self.gnn.within(token_BKD, keypoints.mask_NK)
        tensors = {"points": keypoints.point_NK2, "tokens": token_BKD, "descriptors": descriptor_BKD}
        if keypoints.mask_NK is not None:
            tensors["mask"] = keypoints.mask_NK
        return ImageState(tensors, {"points": StateField(bears_halving=False)})

    def pair(self, query: ImageState, gallery: ImageState) -> AssignmentOutputs:
        """See :meth:`Matcher.pair`.

        Raises:
            ShapeError: there are not as many query as gallery images, or the states are another matcher's.
        """
        if len(query) != len(gallery):
            raise ShapeError(
                f"superglue: wanted as many query as gallery images, found {len(query)} and {len(gallery)}."
            )
        size = max(1, len(query)) if self.training else self.pairs_per_chunk
        sides = [list(state.split(size)) or [state] for state in (query, gallery)]
        return AssignmentOutputs.cat([self._compare(*chunk) for chunk in zip(*sides, strict=True)])

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`Matcher.score`. In eval mode no more assignments are held than are computed at a time."""
        if self.training:
            return super().score(query, gallery)
        num_gallery = len(gallery)
        pair_idx = torch.arange(len(query) * num_gallery)
        logits = [
            self._compare(query[chunk // num_gallery], gallery[chunk % num_gallery]).logit_N
            for chunk in pair_idx.split(self.pairs_per_chunk)
        ]
        return torch.cat(logits).reshape(len(query), num_gallery)

    def correspond(self, query: ImageState, gallery: ImageState) -> list[Correspondences]:
        """Keypoints that are each other's best, with a mass above the threshold; the mass is the confidence."""
        return self.pair(query, gallery).matches()

    def parameter_groups(self) -> list[ParameterGroup]:
        """What makes the states; what compares them; what weighs the outcome for the logit."""
        head = () if self.calibration is None else tuple(self.calibration.parameters())
        encoder = (*self.keypoints.parameters(), *self.gnn.alone.parameters())
        decoder = (*self.gnn.between.parameters(), *self.final.parameters(), self.dustbin)
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", decoder), ParameterGroup("head", head)]

    def _compare(self, query: ImageState, gallery: ImageState) -> AssignmentOutputs:
        """All of :meth:`pair`, at once."""
        masks = _masks(query, gallery)
        mask_XK = None if masks[0] is None or masks[1] is None else torch.cat((masks[0], masks[1]))
        token_XKD = torch.cat((self._field(query, "tokens"), self._field(gallery, "tokens")))
        token_XKD = self.gnn(token_XKD, mask_XK)
        with torch.autocast(token_XKD.device.type, enabled=False):  # what follows does not bear 16 bits
            final_XKD = self.final(token_XKD.to(self.final.weight.dtype))
            score_NKK = _dot_products(final_XKD[: len(query)], final_XKD[len(query) :]) / self.config.dim**0.5
            cosine_NKK = _dot_products(self._field(query, "descriptors"), self._field(gallery, "descriptors"))
            learns = self.final.training  # not where the head alone does: it weighs what is found in use
            iterations = self.config.train_iterations if learns else self.config.eval_iterations
            log_NKK = log_assignment(
                score_NKK, self.dustbin, iterations, query_mask_NK=masks[0], gallery_mask_NL=masks[1]
            )
            scores = pair_scores(log_NKK, score_NKK, cosine_NKK, self.dustbin, self.config.match_threshold)
            return AssignmentOutputs(
                logit_N=self._chosen(scores),
                log_assignment_NKK=log_NKK,
                query_point_NK2=self._points(query),
                gallery_point_NK2=self._points(gallery),
                scores=scores,
                query_mask_NK=masks[0],
                gallery_mask_NK=masks[1],
                cell_px=self.config.stride if self.config.keypoints == "grid" else None,
                match_threshold=self.config.match_threshold,
            )

    def _chosen(self, scores: PairScores) -> Tensor:
        """The score that the config names, [N]."""
        if self.calibration is not None:
            logit_N: Tensor = self.calibration(scores)
            return logit_N
        named = {"mass": scores.mass_N, "sim": scores.sim_N, "ot": scores.ot_N, "count": scores.count_N}
        return named[self.config.score]

    def _field(self, state: ImageState, name: str) -> Tensor:
        """Tokens or descriptors, in the weights' precision."""
        shape = (self.num_keypoints, self.config.dim)
        return read_field(state, name, shape, self.config.name).to(self.final.weight.dtype)

    def _points(self, state: ImageState) -> Tensor:
        return read_field(state, "points", (self.num_keypoints, 2), self.config.name)


def _masks(query: ImageState, gallery: ImageState) -> tuple[Tensor | None, Tensor | None]:
    """Which keypoints there are, of both images or, where there are all, of neither."""
    masks = [state.tensors.get("mask") for state in (query, gallery)]
    if all(mask is None for mask in masks):
        return None, None
    shapes = [state["tokens"] for state in (query, gallery)]
    ones = [token_NKD.new_ones(token_NKD.shape[:2], dtype=torch.bool) for token_NKD in shapes]
    query_NK, gallery_NK = (one if mask is None else mask for mask, one in zip(masks, ones, strict=True))
    return query_NK, gallery_NK


def _dot_products(query_NKD: Tensor, gallery_NKD: Tensor) -> Tensor:
    return query_NKD @ gallery_NKD.transpose(1, 2)


COMPONENT = SuperGlue
