import numpy as np
import pytest

from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.network import install
from reid.datasets.synthped.views import empty_shot, tracklet
from reid.datasets.synthped.wardrobe import sample_person

DOMAIN = DOMAINS["street"]
CAMERA = install(np.random.default_rng(0), DOMAIN)
PERSON = sample_person(np.random.default_rng(1), DOMAIN.wardrobe)


def plan(seed=3, **more):
    return tracklet(np.random.default_rng(seed), PERSON, (DOMAIN, CAMERA, 2), (1000, 6), (128, 64), **more)


def test_frames_rise_and_begin_where_they_should():
    frames = [shot.frame for shot in plan()]
    assert frames[0] == 1000
    assert (np.diff(frames) > 0).all()
    assert [shot.frame for shot in plan()] == frames
    assert [shot.area for shot in plan()] == [shot.area for shot in plan()]


def test_the_person_is_the_first_figure_and_roughly_in_the_middle():
    for seed in range(20):
        for shot in plan(seed):
            main = shot.stands[0]
            assert main.person is PERSON
            assert abs(main.foot[0] - 32) < 16
            assert 95 < main.foot[1] < 140
            assert 0.7 < main.unit * float(PERSON.body.height) / 128 < 1.4  # from above a body looks shorter than it is


def test_spoilt_boxes_are_worse():
    def spread(spoil):
        return np.std([shot.stands[0].foot[0] for seed in range(40) for shot in plan(seed, spoil=spoil)])

    assert spread(4.0) > 2.5 * spread(1.0)


def test_walking_moves_a_person_the_way_it_faces():
    for seed in range(10):
        shots = plan(seed)
        middle = [(shot.area[0] + shot.area[2]) / 2 for shot in shots]
        sideways = np.sin(shots[0].stands[0].yaw)
        if abs(sideways) > 0.7 and shots[0].stands[0].pose[1] > 0.5 and 150 < middle[0] < 490:
            assert np.sign(middle[1] - middle[0]) == np.sign(sideways)


def test_an_empty_box_has_no_figure():
    shot = empty_shot(np.random.default_rng(5), (DOMAIN, CAMERA, 1), 77, (128, 64))
    assert (shot.camid, shot.frame, shot.stands) == (1, 77, ())
    assert (shot.area[3] - shot.area[1]) / (shot.area[2] - shot.area[0]) == pytest.approx(2)
