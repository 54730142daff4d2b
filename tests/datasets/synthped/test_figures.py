import numpy as np
import pytest

from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.figures import figures, rotation
from reid.datasets.synthped.network import install
from reid.datasets.synthped.views import tracklet
from reid.datasets.synthped.wardrobe import sample_person


def test_rotation_turns_tilts_and_stretches():
    turn = rotation(np.array([np.pi / 2, 0.0]), np.array([0.0, 0.3]), np.array([1.0, 1.5]))
    assert turn[0] @ [0, 0, 1] == pytest.approx([1, 0, 0], abs=1e-6)  # walks to the right
    assert turn[1] @ [1, 0, 0] == pytest.approx([1.5, 0, 0])
    assert (turn[1] @ [0, 0, 1])[1] == pytest.approx(-np.sin(0.3))  # seen from above, the ground in front is lower


def test_main_figures_come_first_and_know_their_image():
    domain = DOMAINS["street"]
    camera, person = install(np.random.default_rng(0), domain), sample_person(np.random.default_rng(1), domain.wardrobe)
    shots = tracklet(np.random.default_rng(2), person, (domain, camera, 0), (5, 12), (128, 64))
    people, pose, views = figures(shots, [camera])
    assert views.image[:12].tolist() == list(range(12))
    assert all(entry is person for entry in people[:12])
    assert len(people) == sum(len(shot.stands) for shot in shots) == len(pose.phase)
    assert not any(entry is person for entry in people[12:])
