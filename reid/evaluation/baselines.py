"""Correspondences without learning, which learned ones must beat: the same place, and the nearest descriptor."""

from __future__ import annotations

import torch
from torch import Tensor

from reid.errors import ShapeError
from reid.nn.grid import cell_centres
from reid.types import Correspondences


def grid_points(image_size: tuple[int, int], stride: int = 1) -> Tensor:
    """Centres of the cells of a grid, row by row, (x, y) in pixels, [S, 2], float32.

    Args:
        image_size: (height, width) in pixels, multiples of ``stride``.
        stride: side of a cell in pixels; 1 gives the centres of the pixels.
    """
    height, width = (size // stride for size in image_size)
    return cell_centres(height, width, stride, torch.empty(0)).flatten(0, 1)


def identity_warp(image_size: tuple[int, int]) -> Correspondences:
    """Every pixel at its own place, with confidence 1: a strong baseline, as person crops come aligned.

    Args:
        image_size: (height, width) of both images, pixels.
    """
    centre_S2 = grid_points(image_size)
    return Correspondences(centre_S2, centre_S2, torch.ones(len(centre_S2)), "warp")


def identity_matches(query_K2: Tensor, gallery_L2: Tensor) -> Correspondences:
    """Keypoints that are each other's nearest by place: the identity warp, for methods that match keypoints.

    Args:
        query_K2: (x, y) in pixels of the query's keypoints, [K, 2].
        gallery_L2: of the gallery image's, [L, 2].

    Returns:
        at most min(K, L) correspondences; confidence is the negative distance in pixels.
    """
    distance_KL = torch.cdist(query_K2, gallery_L2, compute_mode="donot_use_mm_for_euclid_dist")
    return _nearest(-distance_KL, query_K2, gallery_L2)


def nearest_neighbours(query_KD: Tensor, gallery_LD: Tensor, query_K2: Tensor, gallery_L2: Tensor) -> Correspondences:
    """Keypoints whose descriptors are each other's nearest by their cosine, which is the confidence.

    Args:
        query_KD: descriptors of the query's keypoints, [K, D], any float type; normalised here.
        gallery_LD: of the gallery image's, [L, D].
        query_K2: (x, y) in pixels of the query's keypoints, [K, 2].
        gallery_L2: of the gallery image's, [L, 2].

    Raises:
        ShapeError: descriptors and positions differ in number, or descriptors in width.

    Source: NN + mutual in Sarlin et al., SuperGlue, CVPR 2020, Table 1, without its ratio test.
    """
    shapes = [tuple(tensor.shape) for tensor in (query_KD, gallery_LD, query_K2, gallery_L2)]
    if shapes[0][0] != shapes[2][0] or shapes[1][0] != shapes[3][0] or shapes[0][1:] != shapes[1][1:]:
        raise ShapeError(
            f"nearest_neighbours: wanted descriptors [K, D] and [L, D], positions [K, 2] and [L, 2], found {shapes}."
        )
    query_KD, gallery_LD = (
        torch.nn.functional.normalize(features.float(), dim=1) for features in (query_KD, gallery_LD)
    )
    return _nearest(query_KD @ gallery_LD.T, query_K2, gallery_L2)


def _nearest(similarity_KL: Tensor, query_K2: Tensor, gallery_L2: Tensor) -> Correspondences:
    """Each other's most similar, the first of equals."""
    if not similarity_KL.numel():
        nowhere_02 = query_K2.new_empty((0, 2), dtype=torch.float32)
        return Correspondences(nowhere_02, nowhere_02, nowhere_02[:, 0], "assignment")
    confidence_K, best_K = similarity_KL.max(1)
    query_idx_K = torch.arange(len(query_K2), device=best_K.device)
    kept_N = query_idx_K[similarity_KL.argmax(0)[best_K] == query_idx_K]
    return Correspondences(
        query_K2[kept_N].float(), gallery_L2[best_K[kept_N]].float(), confidence_K[kept_N].float(), "assignment"
    )
