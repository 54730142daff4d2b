"""ViT: self-attention within each image, one pooled vector per image, compared by a dot product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from reid.matchers._base import MatcherInfo, ParameterGroup
from reid.matchers._dot_product import DotProductMatcher, ScoreNorm
from reid.matchers._tokens import TokenConfig, TokenNeck, encoder
from reid.types import FeatureSpec, ImageState


class Config(TokenConfig):
    """Widths are the published ones."""

    name: Literal["vit"] = "vit"
    norm: Literal["post", "pre"] = Field(
        "pre",
        description="layer norms before every block and once at the end, as in ViT, or after every sum, as in "
        "TransMatcher's encoder",
    )
    pooling: Literal["average", "max"] = Field("average", description="of the tokens, to one vector")


class ViT(DotProductMatcher):
    """Encode the neck's tokens, pool them, compare vectors: a Transformer without attention between the images.

    The score of two images is the batch norm of the dot product of their vectors; its scale stays positive.
    State: ``embedding`` [N, D], not normalised.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, as a baseline of Liao and Shao, TransMatcher,
    NeurIPS 2021 (table of Transformers), whose code is not released: no class token, no position embedding by default,
    ReLU and a single head as in TransMatcher's encoder are our reading.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.name, self.dim = config.name, config.dim
        self.info = MatcherInfo("embedding", symmetric=True, strides=(config.stride,), embedding_dim=self.dim)
        self.neck = TokenNeck(config, features)
        self.encoder = encoder(config)
        self.score_norm = ScoreNorm()

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        token_BSD: Tensor = self.encoder(self.neck(maps))
        return self._state(token_BSD.mean(1) if self.config.pooling == "average" else token_BSD.max(1).values)

    def parameter_groups(self) -> list[ParameterGroup]:
        """All but the batch norm of scores computes the state."""
        states = (*self.neck.parameters(), *self.encoder.parameters())
        return [ParameterGroup("encoder", states), ParameterGroup("decoder", tuple(self.score_norm.parameters()))]


COMPONENT = ViT
