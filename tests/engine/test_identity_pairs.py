"""Pairs of one person and of two, and the scores that tell which are which."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from reid.engine.extract import Extraction
from reid.engine.identity_pairs import CHOSEN, draw_identity_pairs, identity_scores
from reid.engine.model import Model
from reid.evaluation.pair_scores import roc_auc
from reid.matchers._base import Matcher, MatcherInfo, PairOutputs, ParameterGroup
from reid.progress import Silent
from reid.types import ImageRecord, ImageState

PEOPLE, CAMERAS, SHOTS = 3, 2, 3


def shots(folder: str) -> list[ImageRecord]:
    return [
        ImageRecord(Path(f"{folder}/{pid}_{camid}_{shot}.png"), pid, camid)
        for pid in range(PEOPLE)
        for camid in range(CAMERAS)
        for shot in range(SHOTS)
    ]


QUERY = shots("query")
OTHERS = [
    ImageRecord(Path("gallery/distractor.png"), -1, 0, role="distractor"),
    ImageRecord(Path("gallery/junk.png"), -1, 1, role="junk"),
    ImageRecord(Path("gallery/namesake.png"), 0, 2, source="another set"),
]
GALLERY = [*OTHERS, *shots("gallery")]


def test_half_of_the_pairs_show_one_person_in_two_cameras_and_half_show_two_people():
    pairs, same = draw_identity_pairs(QUERY, GALLERY, 100)
    assert same.dtype == bool
    assert len(pairs) == len(same) == 2 * len(QUERY)
    assert same.sum() == len(QUERY)
    assert {query.path for query, _ in pairs} == {record.path for record in QUERY}
    for (query, gallery), is_same in zip(pairs, same, strict=True):
        assert query in QUERY
        assert gallery in GALLERY
        assert gallery.role == "person"
        assert gallery.camid != query.camid
        assert ((query.pid, query.source) == (gallery.pid, gallery.source)) == is_same
    assert OTHERS[2] in [gallery for _, gallery in pairs]  # a person of another set, who has an identity's number


def test_the_pairs_are_always_the_same_and_no_more_than_asked_for():
    everything, same = draw_identity_pairs(QUERY, GALLERY, 100)
    again, same_again = draw_identity_pairs(QUERY, GALLERY, 100)
    assert again == everything
    assert np.array_equal(same_again, same)
    for num in (2, 8):
        pairs, some = draw_identity_pairs(QUERY, GALLERY, num)
        assert pairs == everything[:num]
        assert np.array_equal(some, same[:num])


def test_a_query_without_a_match_in_another_camera_makes_no_pair():
    alone = [record for record in GALLERY if record.pid or not record.camid]  # person 0: the first camera alone
    pairs, same = draw_identity_pairs(QUERY, alone, 100)
    assert not [query for query, _ in pairs if (query.pid, query.camid) == (0, 0)]
    assert same.sum() == len(QUERY) - SHOTS
    assert draw_identity_pairs(QUERY, OTHERS, 100)[0] == []


@dataclass(frozen=True, slots=True)
class GreyOutputs(PairOutputs):
    """Scored by a second rule too."""

    far_N: Tensor

    @property
    def other_scores(self) -> dict[str, Tensor]:
        return {"far": self.far_N}


class Grey(Matcher):
    """Images are alike if they are equally bright."""

    info = MatcherInfo("top_k", symmetric=True, strides=(), has_correspondences=False)

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:
        return ImageState({"grey": image_BCHW.mean((1, 2, 3))[:, None]})

    def pair(self, query: ImageState, gallery: ImageState) -> GreyOutputs:
        far_N = (query["grey"] - gallery["grey"])[:, 0].abs()
        return GreyOutputs(-far_N, far_N)

    def parameter_groups(self) -> list[ParameterGroup]:
        return []


@pytest.fixture
def drawn(tmp_path):
    """All images, each as bright as its person's number says."""

    def place(record: ImageRecord) -> ImageRecord:
        path = tmp_path / record.path
        path.parent.mkdir(exist_ok=True)
        level = 50 + 60 * record.pid if not record.source else 230
        Image.new("RGB", (8, 16), (level, level, level)).save(path)
        return ImageRecord(path, record.pid, record.camid, role=record.role, source=record.source)

    return [place(record) for record in QUERY], [place(record) for record in GALLERY]


def test_every_score_is_told_in_the_order_of_the_pairs(drawn):
    pairs, same = draw_identity_pairs(*drawn, 100)
    assert len(pairs) > 32  # more than are scored together
    model = Model(None, Grey(), (16, 8))
    scores = identity_scores(model, pairs, Extraction(num_workers=0), Silent(), "pairs")
    levels = np.array([[50 + 60 * r.pid if not r.source else 230 for r in pair] for pair in pairs]) / 255
    np.testing.assert_allclose(scores["far"], abs(levels[:, 0] - levels[:, 1]), atol=2e-3)  # states are kept in 16 bits
    np.testing.assert_array_equal(scores[CHOSEN], -scores["far"])
    assert list(scores) == [CHOSEN, "far"]
    assert all(values.dtype == np.float32 for values in scores.values())
    assert roc_auc(scores[CHOSEN], same) == 1
    assert roc_auc(scores["far"], same) == 0
