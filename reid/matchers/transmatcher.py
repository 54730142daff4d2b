"""TransMatcher: transformer features whose best local matches, weighted by position, are scored by a perceptron."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from reid.errors import ConfigError
from reid.kernels.simmax import similarity_maps
from reid.matchers._all_pairs import AllPairsMatcher, best_positions, pair_in_chunks
from reid.matchers._base import PAIRS_PER_CHUNK, MatcherConfig, MatcherInfo, PairOutputs, ParameterGroup
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.matchers._matching_decoder import MatchingDecoder, Pool
from reid.matchers._tokens import added_embedding
from reid.nn.attention import EncoderStack, Init
from reid.types import Correspondences, FeatureSpec, ImageState


class Config(MatcherConfig):
    """Defaults are the published ones; the last four take parts of the method away, or add one, for comparison."""

    name: Literal["transmatcher"] = "transmatcher"
    stride: PositiveInt = Field(16, description="of the feature map: ResNet's layer3")
    dim: PositiveInt = Field(512, description="channels after the neck")
    num_layers: PositiveInt = Field(3, description="decoder layers; the encoder has one less: layer 0 sees the neck")
    feedforward: PositiveInt = Field(2048, description="hidden units of the encoder layers")
    decoder_feedforward: PositiveInt = Field(2048, description="hidden units of the decoder layers")
    symmetric_embed: bool = Field(
        False, description="use the mean of the score embedding and its transpose, so that score(a, b) = score(b, a)"
    )
    init: Init = Field("released", description="'released': layers start as copies of one; 'independent': each its own")
    pool: Pool = Field(
        "max",
        description="what of a position's similarities with the other image goes on: the largest, their mean, or their "
        "softmax-weighted mean as in attention, with the softmax of similarity / sqrt(dim)",
    )
    score_embedding: bool = Field(
        True, description="weigh each position pair by a learned factor; false: all similarities count alike"
    )
    encoder: bool = Field(True, description="false: no self-attention, every decoder layer sees the neck's output")
    position_embedding: bool = Field(False, description="add a learned vector per position to the neck's output")


class TransMatcher(AllPairsMatcher):
    """Match two images by cross-matching their feature maps, without attention between the images.

    A 3 x 3 convolution and encoder layers give one level of features per decoder layer. In each, the similarity of
    every position pair is weighted by a learned embedding; the maxima in both directions go through a perceptron.
    State: ``keys`` [N, L, S, D], projected features of each layer; not normalised. There are correspondences only where
    maxima decide (``pool``): means have none, and attention is not one. The other forms of ``pool`` are plain PyTorch;
    ``softmax`` keeps its similarity maps for a block of pairs at a time and takes several times as long as ``max``.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives. S is fixed by it: scores of maps of another size are refused.

    Source: Liao and Shao, Transformer-Based Deep Image Matching for Generalizable Person Re-identification, NeurIPS
    2021, and its released code, reproduced but for the unused prototype layer. Projections are computed once per image.
    The switches away from it are ours, after the paper's claims: that maxima serve matching better than softmax
    attention, that the learned prior helps, and that the encoder needs no position embedding.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.image_size = features.image_size
        self.map_shape = map_shape(features, config.stride, config.name)
        channels, height, width = self.map_shape
        self.field_shape = (config.num_layers, height * width, config.dim)
        symmetric = config.symmetric_embed or not config.score_embedding
        self.info = MatcherInfo(
            "all_pairs",
            symmetric,
            (config.stride,),
            has_correspondences=config.pool == "max",
            takes_maxima=config.pool == "max",
        )
        self.neck_conv = nn.Conv2d(channels, config.dim, 3, padding=1)
        depth = config.num_layers - 1 if config.encoder else 0
        self.encoder = EncoderStack(depth, config.dim, config.feedforward, init=config.init)
        self.decoder = MatchingDecoder(
            config.num_layers,
            num_positions=height * width,
            dim=config.dim,
            feedforward=config.decoder_feedforward,
            embed="none" if not config.score_embedding else "symmetric" if config.symmetric_embed else "free",
            pool=config.pool,
            init=config.init,
        )
        self.position = added_embedding(height * width, config.dim) if config.position_embedding else None

    def levels(self, maps: Mapping[int, Tensor]) -> list[Tensor]:
        """Features of each decoder layer, [B, S, D]: the neck's output, then each encoder layer's or the same again."""
        map_BCHW = read_map(maps, self.config.stride, self.map_shape, self.config.name)
        neck_BSD = self.neck_conv(map_BCHW).flatten(2).transpose(1, 2)
        if self.position is not None:
            neck_BSD = neck_BSD + self.position
        return [neck_BSD, *self.encoder(neck_BSD)] if self.config.encoder else [neck_BSD] * self.config.num_layers

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        keys_BLSD = self.decoder.project(self.levels(maps))
        return ImageState({"keys": keys_BLSD})

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        size = max(1, len(query)) if self.training else PAIRS_PER_CHUNK
        score_pairs = partial(self.decoder, aligned=True)
        return PairOutputs(pair_in_chunks(score_pairs, self._keys(query), self._keys(gallery), size=size))

    def correspond(self, query: ImageState, gallery: ImageState) -> list[Correspondences]:
        """For each query position the best gallery position by the weighted similarity, added over the layers."""
        if not self.info.has_correspondences:
            return list(super().correspond(query, gallery))  # refuses
        query_NLSD, gallery_NLSD = self._keys(query), self._keys(gallery)
        total_NSS = torch.stack(
            [
                similarity_maps(query_NLSD[:, level], gallery_NLSD[:, level], layer.weight())
                for level, layer in enumerate(self.decoder.matching_layers())
            ]
        ).sum(0)
        return [best_positions(map_SS, *self.map_shape[1:], self.image_size) for map_SS in total_NSS]

    def low_rank(self, rank: int) -> TransMatcher:
        """See :meth:`Matcher.low_rank`: keys lose the directions in which the projections' weights are smallest."""
        num_layers, num_positions, dim = self.field_shape
        if rank > dim:
            raise ConfigError(f"evaluation.key_rank: wanted at most {dim}, the channels of the keys, found {rank}.")
        copied = copy.deepcopy(self)
        copied.decoder.cut(rank)
        copied.field_shape = (num_layers, num_positions, rank)
        return copied

    def parameter_groups(self) -> list[ParameterGroup]:
        """Neck and encoder (released: ``model``), decoder (released: ``criterion``)."""
        encoder = (*self.neck_conv.parameters(), *self.encoder.parameters())
        if self.position is not None:
            encoder = (*encoder, self.position)
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", tuple(self.decoder.parameters()))]

    def score_block(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`AllPairsMatcher.score_block`."""
        return self.decoder(self._keys(query), self._keys(gallery), aligned=False)  # type: ignore[no-any-return]

    def _keys(self, state: ImageState) -> Tensor:
        return read_field(state, "keys", self.field_shape, self.config.name)


COMPONENT = TransMatcher
