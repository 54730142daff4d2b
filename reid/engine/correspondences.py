"""What a model, and what no model at all, finds for pairs of images whose true correspondences are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from reid.data.warps import WarpedPair
from reid.engine.model import Model
from reid.evaluation.baselines import grid_points, identity_warp, nearest_neighbours
from reid.matchers._assignment import AssignmentOutputs, hard_matches
from reid.matchers._base import PairOutputs
from reid.matchers._dense import DenseOutputs, DenseStep
from reid.progress import Progress
from reid.types import Correspondences, Warps

IDENTITY = "identity"
NEAREST = "nearest neighbours of the backbone"
OWN_NEAREST = "nearest neighbours of its descriptors"
PAIRS_TOGETHER = 32


@dataclass
class Findings:
    """What each method found for N pairs.

    Attributes:
        warps: the truth, of parts of the pairs, in order.
        found: method -> correspondences of each pair, from query to gallery.
        points: keypoints of each pair, query's and gallery's, [K, 2] and [L, 2], pixels, without padding; none where
            the matcher has none.
        candidates: of each pair all keypoints that are each other's best, also those that the threshold leaves
            out of what it found; none where it has no keypoints.
        marginal_errors: of each pair, how far the assignment is from converged; none where there is none.
        cell_px: side of the cells whose centres the keypoints are; None: they are no grid.
    """

    warps: list[Warps] = field(default_factory=list)
    found: dict[str, list[Correspondences]] = field(default_factory=dict)
    points: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    candidates: list[Correspondences] = field(default_factory=list)
    marginal_errors: list[float] = field(default_factory=list)
    cell_px: int | None = None

    def truth(self) -> Warps:
        """Of all pairs."""
        return Warps.cat(self.warps)


@torch.no_grad()
def find_correspondences(
    model: Model, pairs: Iterable[WarpedPair], num_pairs: int, progress: Progress, label: str
) -> Findings:
    """Ask a model where pairs correspond, and baselines that know the same features or nothing.

    Args:
        model: its matcher has correspondences; put into eval mode.
        pairs: images and truth.
        num_pairs: how many there are, for the progress bar.
        progress: where to report.
        label: what the pairs are, likewise.

    Returns:
        under ``""`` what the matcher found; under ``"at stride S"`` what its coarser steps did, where there are such;
        and the baselines, of which that of the backbone reads its maps as they are, not centred.
    """
    model.eval()
    findings = Findings()
    with progress.bar(label, num_pairs, "pair") as bar:
        for part in _in_parts(pairs, PAIRS_TOGETHER):
            _add(findings, model, part)
            bar.advance(len(part))
    return findings


def _in_parts(pairs: Iterable[WarpedPair], size: int) -> Iterator[list[WarpedPair]]:
    rest = iter(pairs)
    while part := list(islice(rest, size)):
        yield part


def _add(findings: Findings, model: Model, pairs: Sequence[WarpedPair]) -> None:
    query_B, gallery_B = (torch.stack([getattr(pair, side) for pair in pairs]) for side in ("query", "gallery"))
    query, query_maps = model.states_and_maps(query_B)
    gallery, gallery_maps = model.states_and_maps(gallery_B)
    findings.warps.append(Warps.cat([pair.warps for pair in pairs]))
    outputs = model.matcher.pair(query, gallery)
    own = outputs.matches()
    found = {"": _on_cpu(model.matcher.correspond(query, gallery) if own is None else own)}
    found |= _coarser_steps(outputs)
    found[IDENTITY] = [identity_warp(model.image_size)] * len(pairs)
    if query_maps:
        stride = model.matcher.info.strides[0]
        found[NEAREST] = _nearest_cells(query_maps[stride], gallery_maps[stride], stride)
    if isinstance(outputs, AssignmentOutputs):
        points = _without_padding(outputs, outputs.query_point_NK2, outputs.gallery_point_NK2)
        descriptors = _without_padding(outputs, query["descriptors"], gallery["descriptors"])
        found[OWN_NEAREST] = [
            nearest_neighbours(*described, *placed) for described, placed in zip(descriptors, points, strict=True)
        ]
        findings.points += points
        findings.candidates += _on_cpu(hard_matches(outputs, threshold=0.0))
        findings.marginal_errors += outputs.marginal_error_N.tolist()
        findings.cell_px = outputs.cell_px
    for method, each in found.items():
        findings.found.setdefault(method, []).extend(each)


def _coarser_steps(outputs: PairOutputs) -> dict[str, list[Correspondences]]:
    if not isinstance(outputs, DenseOutputs):
        return {}
    return {f"at stride {step.stride}": list(_of_step(step)) for step in outputs.to_gallery.steps[:-1]}


def _of_step(step: DenseStep) -> Iterator[Correspondences]:
    centre_S2 = step.centres.reshape(-1, 2).cpu()
    for warp_HW2, certainty_HW in zip(step.warp_NHW2.cpu(), step.certainty_NHW.cpu(), strict=True):
        yield Correspondences(
            centre_S2.float(), warp_HW2.reshape(-1, 2).float(), certainty_HW.flatten().sigmoid().float(), "warp"
        )


def _nearest_cells(query_NCHW: Tensor, gallery_NCHW: Tensor, stride: int) -> list[Correspondences]:
    """Of the cells of maps that are each other's nearest."""
    height, width = query_NCHW.shape[2:]
    centre_S2 = grid_points((height * stride, width * stride), stride)
    return [
        nearest_neighbours(one_CS.T, two_CS.T, centre_S2, centre_S2)
        for one_CS, two_CS in zip(query_NCHW.flatten(2).cpu(), gallery_NCHW.flatten(2).cpu(), strict=True)
    ]


def _without_padding(outputs: AssignmentOutputs, query_NKX: Tensor, gallery_NKX: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What belongs to the keypoints of each pair, of those that there are."""
    sides = (query_NKX, outputs.query_mask_NK), (gallery_NKX, outputs.gallery_mask_NK)
    query, gallery = (
        [value_KX if mask_NK is None else value_KX[mask_NK[pair]] for pair, value_KX in enumerate(value_NKX)]
        for value_NKX, mask_NK in sides
    )
    return [(one.cpu(), two.cpu()) for one, two in zip(query, gallery, strict=True)]


def _on_cpu(each: Iterable[Correspondences]) -> list[Correspondences]:
    return [Correspondences(one.query_N2.cpu(), one.gallery_N2.cpu(), one.confidence_N.cpu(), one.kind) for one in each]
