"""TransMatcher: transformer features whose best local matches, weighted by position, are scored by a perceptron."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from reid.kernels.mlp_head import MlpHead
from reid.kernels.simmax import Maxima, aligned_maxima, similarity_maps, similarity_maxima
from reid.matchers._all_pairs import best_positions, pair_in_chunks, score_in_blocks
from reid.matchers._base import PAIRS_PER_CHUNK, Matcher, MatcherConfig, MatcherInfo, PairOutputs, ParameterGroup
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.nn.attention import EncoderStack, Init
from reid.nn.norm import affine, normalised_linear
from reid.types import Correspondences, FeatureSpec, ImageState


class Config(MatcherConfig):
    """Defaults are the published ones."""

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


class MatchingLayer(nn.Module):
    """One decoder layer: from the best local similarities of a pair to a logit.

    Args:
        num_positions: S, positions of the feature map.
        dim: D, channels.
        feedforward: hidden units of the perceptron.
        symmetric: whether the score embedding is made symmetric when used.
    """

    def __init__(self, num_positions: int, dim: int, feedforward: int, *, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        # Two leading ones as in released checkpoints: the bound of Xavier's draw depends on them.
        self.score_embed = nn.Parameter(torch.empty(1, 1, num_positions, num_positions))
        self.fc1 = nn.Linear(dim, dim)
        self.bn1 = nn.BatchNorm1d(1)
        self.fc2 = nn.Linear(num_positions, feedforward)
        self.bn2 = nn.BatchNorm1d(feedforward)
        self.fc3 = nn.Linear(feedforward, 1)
        self.bn3 = nn.BatchNorm1d(1)

    def weight(self) -> Tensor:
        """Factor of each position pair, 0..1, [S, S], first index gallery, second query position."""
        embed_SS = self.score_embed[0, 0]
        if self.symmetric:
            embed_SS = (embed_SS + embed_SS.T) / 2
        return embed_SS.sigmoid()

    def forward(self, maxima: Maxima) -> Tensor:
        """Logits of N pairs, [N], from the maxima of pairs in any form; with gradients, batch norms by their mode."""
        rows_XS = self.bn1(maxima.both.reshape(-1, 1, self.fc2.in_features)).squeeze(1)
        head = MlpHead(*normalised_linear(self.fc2, self.bn2, rows_XS), self.fc3.weight[0])
        logit_N = (head.trainable_logits(rows_XS) + self.fc3.bias).view(2, -1).sum(0)
        return self.bn3(logit_N.unsqueeze(1)).squeeze(1)  # type: ignore[no-any-return]

    def infer(self, maxima: Maxima, *, halves: bool) -> Tensor:
        """The same in eval mode without gradients: batch norms folded into the weights, no hidden layer kept."""
        rows_XS = maxima.both.view(-1, self.fc2.in_features)
        logit_N = self._folded().logits(rows_XS, halves=halves).view(2, -1).sum(0)
        scale, shift = affine(self.bn3)
        return (logit_N + 2 * self.fc3.bias) * scale + shift

    def _folded(self) -> MlpHead:
        scale, shift = affine(self.bn1)
        weight_FS, bias_F = normalised_linear(self.fc2, self.bn2, self.fc2.weight[:0])
        return MlpHead(weight_FS * scale, bias_F + weight_FS.sum(1) * shift, self.fc3.weight[0])


class MatchingDecoder(nn.Module):
    """Decoder layers side by side, each on its own level of features; their logits are added and normalised.

    In training mode the statistics of every batch norm are over all pairs of the one call, as released.
    """

    def __init__(self, config: Config, num_positions: int) -> None:
        super().__init__()
        size = (num_positions, config.dim, config.decoder_feedforward)
        first = MatchingLayer(*size, symmetric=config.symmetric_embed)
        copies = config.init == "released"
        others = (
            copy.deepcopy(first) if copies else MatchingLayer(*size, symmetric=config.symmetric_embed)
            for _ in range(config.num_layers - 1)
        )
        self.layers = nn.ModuleList([first, *others])
        self.norm = nn.BatchNorm1d(1)
        for parameter in self.parameters():  # biases stay: with copies they are equal in all layers, as released
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def matching_layers(self) -> list[MatchingLayer]:
        """The layers, level by level."""
        return [layer for layer in self.layers if isinstance(layer, MatchingLayer)]

    def project(self, features: Sequence[Tensor]) -> Tensor:
        """Keys, [B, L, S, D], of the features of each level, [B, S, D] each."""
        return torch.stack(
            [layer.fc1(level) for layer, level in zip(self.matching_layers(), features, strict=True)], dim=1
        )

    def forward(self, query_NLSD: Tensor, gallery_NLSD: Tensor, *, aligned: bool) -> Tensor:
        """Score keys: aligned pairs, [N], or every query with every gallery image, [Q, G]; at least float32."""
        maxima_of = aligned_maxima if aligned else similarity_maxima
        pairs = (len(query_NLSD),) if aligned else (len(query_NLSD), len(gallery_NLSD))
        fast = not (self.training or torch.is_grad_enabled())
        halves = query_NLSD.dtype == gallery_NLSD.dtype == torch.bfloat16
        query_levels = query_NLSD.unbind(1)  # selecting levels one by one would give each a gradient of all levels
        gallery_levels = query_levels if gallery_NLSD is query_NLSD else gallery_NLSD.unbind(1)
        total_N = query_NLSD.new_zeros(1, dtype=self.norm.weight.dtype)
        with torch.autocast(query_NLSD.device.type, enabled=False):  # the head's sums do not bear half precision
            for query, gallery, layer in zip(query_levels, gallery_levels, self.matching_layers(), strict=True):
                maxima = maxima_of(query, gallery, layer.weight())
                total_N = total_N + (layer.infer(maxima, halves=halves) if fast else layer(maxima))
            return self.norm(total_N.unsqueeze(1)).view(pairs)  # type: ignore[no-any-return]


class TransMatcher(Matcher):
    """Match two images by cross-matching their feature maps, without attention between the images.

    A 3 x 3 convolution and encoder layers give one level of features per decoder layer. In each, the similarity of
    every position pair is weighted by a learned embedding; the maxima in both directions go through a perceptron.
    State: ``keys`` [N, L, S, D], projected features of each layer; not normalised.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives. S is fixed by it: scores of maps of another size are refused.

    Source: Liao and Shao, Transformer-Based Deep Image Matching for Generalizable Person Re-identification, NeurIPS
    2021, and its released code, reproduced but for the unused prototype layer. Projections are computed once per image.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.image_size = features.image_size
        self.map_shape = map_shape(features, config.stride, config.name)
        channels, height, width = self.map_shape
        self.key_shape = (config.num_layers, height * width, config.dim)
        self.info = MatcherInfo("all_pairs", config.symmetric_embed, (config.stride,), has_correspondences=True)
        self.neck_conv = nn.Conv2d(channels, config.dim, 3, padding=1)
        self.encoder = EncoderStack(config.num_layers - 1, config.dim, config.feedforward, init=config.init)
        self.decoder = MatchingDecoder(config, height * width)

    def levels(self, maps: Mapping[int, Tensor]) -> list[Tensor]:
        """Features of each decoder layer, [B, S, D]: the neck's output, then each encoder layer's."""
        map_BCHW = read_map(maps, self.config.stride, self.map_shape, self.config.name)
        neck_BSD = self.neck_conv(map_BCHW).flatten(2).transpose(1, 2)
        return [neck_BSD, *self.encoder(neck_BSD)]

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        keys_BLSD = self.decoder.project(self.levels(maps))
        return ImageState({"keys": keys_BLSD})

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        size = max(1, len(query)) if self.training else PAIRS_PER_CHUNK
        score_pairs = partial(self.decoder, aligned=True)
        return PairOutputs(pair_in_chunks(score_pairs, self._keys(query), self._keys(gallery), size=size))

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`Matcher.score`. In training mode all pairs are one batch of the batch norms."""
        if self.training:
            return self._score_block(query, gallery)
        _, num_positions, dim = self.key_shape
        return score_in_blocks(
            self._score_block,
            query,
            gallery,
            bytes_per_pair=4 * 2 * 2 * num_positions,
            bytes_per_image=4 * num_positions * dim,
        )

    def correspond(self, query: ImageState, gallery: ImageState) -> list[Correspondences]:
        """For each query position the best gallery position by the weighted similarity, added over the layers."""
        query_NLSD, gallery_NLSD = self._keys(query), self._keys(gallery)
        total_NSS = torch.stack(
            [
                similarity_maps(query_NLSD[:, level], gallery_NLSD[:, level], layer.weight())
                for level, layer in enumerate(self.decoder.matching_layers())
            ]
        ).sum(0)
        return [best_positions(map_SS, *self.map_shape[1:], self.image_size) for map_SS in total_NSS]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Neck and encoder (released: ``model``), decoder (released: ``criterion``)."""
        encoder = (*self.neck_conv.parameters(), *self.encoder.parameters())
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", tuple(self.decoder.parameters()))]

    def _score_block(self, query: ImageState, gallery: ImageState) -> Tensor:
        return self.decoder(self._keys(query), self._keys(gallery), aligned=False)  # type: ignore[no-any-return]

    def _keys(self, state: ImageState) -> Tensor:
        return read_field(state, "keys", self.key_shape, self.config.name)


COMPONENT = TransMatcher
