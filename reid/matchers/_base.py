"""The one interface every matcher has: encode an image once, then score pairs of states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reid.config import Config
from reid.errors import ConfigError
from reid.types import Correspondences, ImageState

LOGIT_SCALE = 10.0
"""In a logit, of what differs by tenths between pairs, so that its weights learn as fast as others do."""
PAIRS_PER_CHUNK = 512
TEMPORARY_BYTES = 256 * 2**20
"""What layers may need at a time, beyond inputs and outputs, while pairs are scored."""


class MatcherConfig(Config):
    """Base of the matchers' tables."""


@dataclass(frozen=True, slots=True)
class MatcherInfo:
    """What callers may rely on.

    Attributes:
        kind: ``embedding`` (score is a matrix product), ``all_pairs`` (cheap enough for every pair) or
            ``top_k`` (only on a shortlist).
        symmetric: score(a, b) == score(b, a).
        strides: strides of the feature maps it reads.
        has_correspondences: whether :meth:`Matcher.correspond` is implemented.
        embedding_dim: channels of the state's ``embedding`` field; None for other kinds.
        takes_maxima: scores come from the maxima of similarity maps, for which there are several kernels.
        cosine: scores are cosines of the ``embedding``, -1..1.
        attended_dim: channels of the state's ``attended`` field; None where no attention chooses local features.
        reads_pixels: whether ``encode`` looks at the image itself, not at maps alone.
    """

    kind: Literal["embedding", "all_pairs", "top_k"]
    symmetric: bool
    strides: tuple[int, ...]
    has_correspondences: bool = False
    embedding_dim: int | None = None
    takes_maxima: bool = False
    cosine: bool = False
    attended_dim: int | None = None
    reads_pixels: bool = False


@dataclass(frozen=True, slots=True)
class PairOutputs:
    """What :meth:`Matcher.pair` returns; a matcher whose losses need more has a child of this.

    Attributes:
        logit_N: score of each pair, [N], float32, unbounded, higher = more alike.
    """

    logit_N: Tensor

    @property
    def other_scores(self) -> dict[str, Tensor]:
        """Name -> score of each pair, [N], higher = more alike: what else pairs can be scored by; none."""
        return {}

    def matches(self) -> list[Correspondences] | None:
        """What :meth:`Matcher.correspond` finds for these pairs; None: it looks for something else."""
        return None


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that share a learning rate and are clipped together.

    Attributes:
        role: ``encoder`` (what computes states; clipped together with the backbone) or ``decoder`` (what
            compares them; clipped apart), the released cut; ``head`` (clipped with the decoder), where a matcher can
            learn from identities how to weigh what the others find, and leave them as they are.
        parameters: the parameters.
    """

    role: Literal["encoder", "decoder", "head"]
    parameters: tuple[nn.Parameter, ...]


class Matcher(nn.Module, ABC):
    """Compares images by their feature maps. The file's last line is ``COMPONENT = TheClass``.

    A child is built as ``TheClass(config, features)`` with a :class:`~reid.types.FeatureSpec`. It keeps no hidden
    state: in eval mode the score of a pair depends on the two images and the weights alone.
    """

    info: MatcherInfo

    @abstractmethod
    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:
        """All that depends on one image alone: neck, encoder, projections.

        Args:
            image_BCHW: RGB in [0, 1], for matchers that look at pixels.
            maps: stride -> feature map, [B, C, H, W], of the strides in :attr:`info`.

        Raises:
            ShapeError: a map does not have the shape the matcher was built for.
        """

    @abstractmethod
    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """Compare query image n with gallery image n, for N aligned pairs."""

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """Compare every query image with every gallery image.

        Returns:
            score_QG: [Q, G], float32, unbounded, higher = more alike.
        """
        num_gallery = len(gallery)
        pair_idx = torch.arange(len(query) * num_gallery)
        logits = [
            self.pair(query[chunk // num_gallery], gallery[chunk % num_gallery]).logit_N
            for chunk in pair_idx.split(PAIRS_PER_CHUNK)
        ]
        return torch.cat(logits).reshape(len(query), num_gallery)

    def correspond(self, query: ImageState, gallery: ImageState) -> Sequence[Correspondences]:
        """Where query image n matches gallery image n, in pixels, for N aligned pairs."""
        raise NotImplementedError(f"{type(self).__name__}.info.has_correspondences is False")

    def low_rank(self, rank: int) -> Matcher:  # noqa: ARG002
        """A copy whose states compare positions in ``rank`` channels only: smaller, faster, and nearly the same.

        Raises:
            ConfigError: this matcher has no such form, or fewer channels.
        """
        raise ConfigError(
            f"evaluation.key_rank: wanted a matcher whose projections can be cut, such as transmatcher, found "
            f"{type(self).__name__}. Leave it out."
        )

    @abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """Every parameter, exactly once, in the published learning-rate and clipping groups."""
