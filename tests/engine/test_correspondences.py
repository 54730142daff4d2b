"""What baselines know: the backbone's features, and the keypoints that there are."""

import pytest
import torch

from reid.build import build_model
from reid.data.warps import WarpedPair
from reid.engine.correspondences import IDENTITY, NEAREST, OWN_NEAREST, find_correspondences
from reid.progress import Silent
from tests.evaluation.truths import shifted
from tests.reference import correspondences as reference

RESNET = {"name": "resnet", "depth": 18, "cut": "layer2"}
SUPERGLUE = {"name": "superglue", "stride": 8, "dim": 8, "num_heads": 2, "num_layers": 2}
ROMA = {"name": "roma", "stride": 8, "dim": 8, "gp_dim": 4, "num_blocks": 1, "num_heads": 2, "feedforward": 8}
ROMA |= {"refiners": [{"stride": 4, "dim": 4, "num_blocks": 1}], "fine_channels": [2, 2, 2, 2]}
SIZE = (64, 32)


def model_of(**options):
    torch.manual_seed(0)
    return build_model(RESNET, {**SUPERGLUE, **options.pop("matcher", {})}, SIZE, **options).eval()


def pairs(num):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2 * num, 3, *SIZE), generator=generator, dtype=torch.uint8)
    return [WarpedPair(images[2 * n], images[2 * n + 1], shifted(*SIZE, 0, 0)) for n in range(num)]


def find(model, num=3):
    return find_correspondences(model, pairs(num), num, Silent(), "pairs")


def cells_of(map_CHW):
    return map_CHW.flatten(1).T.tolist()


@pytest.mark.parametrize("center_maps", [False, True])
def test_nearest_neighbours_are_those_of_the_backbones_own_features(center_maps):
    """Also where the matcher reads centred ones: what centring gains is the matcher's."""
    model = model_of(center_maps=center_maps)
    if center_maps:
        (norm,) = model.norms.values()
        with torch.no_grad():
            norm.mean_CHW += torch.rand(norm.mean_CHW.shape)
    found = find(model).found[NEAREST]
    for pair, one in zip(pairs(3), found, strict=True):
        with torch.no_grad():
            map_2CHW = model.feature_maps(torch.stack((pair.query, pair.gallery)))[8]
        wanted = reference.nearest(cells_of(map_2CHW[0]), cells_of(map_2CHW[1]))
        centres = [[4.0 + 8 * (cell % 4), 4.0 + 8 * (cell // 4)] for cell in range(32)]
        assert one.query_N2.tolist() == [centres[i] for i, _, _ in wanted]
        assert one.gallery_N2.tolist() == [centres[j] for _, j, _ in wanted]


@pytest.mark.parametrize("matcher", [{**SUPERGLUE, "match_threshold": 1e-3}, ROMA, {"name": "qaconv", "stride": 8}])
def test_a_pair_is_matched_once(matcher, monkeypatch):
    torch.manual_seed(0)
    model = build_model(RESNET, matcher, SIZE).eval()
    called = []
    pair = model.matcher.pair
    monkeypatch.setattr(model.matcher, "pair", lambda query, gallery: called.append(1) or pair(query, gallery))
    found = find(model).found[""]
    assert len(called) == 1
    with torch.no_grad():
        query, gallery = (model(torch.stack([getattr(p, side) for p in pairs(3)])) for side in ("query", "gallery"))
        wanted = model.matcher.correspond(query, gallery)
    assert [len(one.query_N2) > 0 for one in wanted] == 3 * [True]
    for one, other in zip(found, wanted, strict=True):
        for name in ("query_N2", "gallery_N2", "confidence_N"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_padding_is_no_keypoint():
    """The map has 32 cells; 40 keypoints are asked for."""
    model = model_of(matcher={"keypoints": "salient", "num_keypoints": 40})
    findings = find(model)
    assert [tuple(map(len, points)) for points in findings.points] == 3 * [(32, 32)]
    for points, matches in zip(findings.points, findings.found[OWN_NEAREST], strict=True):
        assert set(map(tuple, matches.query_N2.tolist())) <= set(map(tuple, points[0].tolist()))
    assert findings.cell_px is None


def test_of_every_pair_all_is_told():
    model = model_of()
    findings = find(model, 40)  # more than go through the model together
    assert len(findings.truth()) == len(findings.points) == len(findings.candidates) == 40
    assert {name: len(found) for name, found in findings.found.items()} == dict.fromkeys(
        ("", IDENTITY, NEAREST, OWN_NEAREST), 40
    )
    with torch.no_grad():
        images = torch.stack([pair.query for pair in pairs(40)]), torch.stack([pair.gallery for pair in pairs(40)])
        mass = model.matcher.pair(*(model(image) for image in images)).log_assignment_NKK.exp()
    rows, columns = (mass.sum(axis)[:, :-1] for axis in (2, 1))
    wanted = torch.cat((rows, columns), 1).sub(1).abs().amax(1)
    torch.testing.assert_close(torch.tensor(findings.marginal_errors), wanted, atol=1e-5, rtol=0.01)
