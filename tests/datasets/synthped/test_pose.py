import numpy as np

from reid.datasets.synthped.people import stack
from reid.datasets.synthped.pose import ANKLE, FOREARM, HIP, KNEE, UPPER_ARM, Pose, skeleton
from reid.datasets.synthped.wardrobe import Wardrobe, sample_person

PLAIN = Wardrobe(tops={"white": 1.0}, bottoms={"black": 1.0})


def walkers(num=40):
    body = stack([sample_person(np.random.default_rng(i), PLAIN).body for i in range(num)])
    rng = np.random.default_rng(0)
    column = lambda low, high: rng.uniform(low, high, num).astype(np.float32)  # noqa: E731
    pose = Pose(column(0, 6.3), column(0, 1.2), column(0, 1), column(0, 1), column(-1, 1), column(-0.2, 0.2))
    return body, pose, skeleton(body, pose)


def test_bones_keep_their_length_in_every_pose():
    body, _, bones = walkers()
    for leg in (bones.left_leg, bones.right_leg):
        shank = np.linalg.norm(leg.end - leg.middle, axis=1)
        np.testing.assert_allclose(shank, (KNEE - ANKLE) * body.height, rtol=1e-4)
        assert (np.linalg.norm(leg.middle - leg.start, axis=1) <= (HIP - KNEE) * body.height * 1.02).all()
    for arm in (bones.left_arm, bones.right_arm):
        np.testing.assert_allclose(np.linalg.norm(arm.end - arm.middle, axis=1), FOREARM * body.height, rtol=1e-4)
        assert (np.linalg.norm(arm.middle - arm.start, axis=1) <= UPPER_ARM * body.height * 1.15).all()


def test_the_lower_foot_stands_on_the_ground():
    body, _, bones = walkers()
    legs = (bones.left_leg, bones.right_leg)
    lowest = np.min(
        [np.minimum(leg.end[:, 1] - ANKLE * body.height, leg.tip[:, 1] - 0.02 * body.height) for leg in legs], axis=0
    )
    np.testing.assert_allclose(lowest, 0, atol=1e-5)


def test_arms_swing_against_the_legs():
    body, _, _ = walkers(1)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    bones = skeleton(body, Pose(zero, one, zero, zero, zero, zero))
    assert bones.left_leg.middle[0, 2] > bones.right_leg.middle[0, 2]
    assert bones.left_arm.middle[0, 2] < bones.right_arm.middle[0, 2]
