"""Truths about pairs of small images, for tests of what correspondences are worth."""

import torch

from reid.types import Correspondences, Warp, Warps


def points(*places):
    """Keypoints [K, 2]."""
    return torch.tensor(places, dtype=torch.float32).reshape(-1, 2)


def found(query, gallery, confidence=None, kind="assignment"):
    query, gallery = (torch.tensor(points, dtype=torch.float32).reshape(-1, 2) for points in (query, gallery))
    confidence = torch.ones(len(query)) if confidence is None else torch.tensor(confidence, dtype=torch.float32)
    return Correspondences(query, gallery, confidence, kind)


def centres(height, width):
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack((x, y), -1)


def shifted(height, width, dx, dy, *, num=1):
    """What is at (x, y) lies at (x + dx, y + dy) in the other image; visible where that is within it."""

    def way(sign):
        position = centres(height, width) + sign * torch.tensor([dx, dy], dtype=torch.float32)
        visible = (position > 0).all(-1) & (position < torch.tensor([width, height])).all(-1)
        return Warp(
            position.expand(num, -1, -1, -1).clone(),
            visible.expand(num, -1, -1).clone(),
            torch.ones(num, height, width, dtype=torch.bool),
        )

    return Warps(way(1.0), way(-1.0))


def rough(rng, height, width, num=1, spread=0.6):
    """Nothing is smooth: positions, visibility and knowledge are drawn for every pixel."""

    def way():
        noise = torch.from_numpy(rng.normal(0, spread, (num, height, width, 2))).float()
        visible, known = (torch.from_numpy(rng.random((num, height, width)) < 0.8) for _ in range(2))
        return Warp(centres(height, width) + noise, visible, known)

    return Warps(way(), way())


def as_lists(warp, pair):
    """The reference's form of one pair, one way."""
    return warp.position_NHW2[pair].tolist(), warp.visible_NHW[pair].tolist(), warp.known_NHW[pair].tolist()


def dense(warp, pair, confidence=None):
    """The truth as a prediction."""
    height, width = warp.visible_NHW.shape[1:]
    confidence = torch.ones(height * width) if confidence is None else confidence
    return Correspondences(
        centres(height, width).reshape(-1, 2), warp.position_NHW2[pair].reshape(-1, 2), confidence, "warp"
    )
