"""Small drawn images in the form of Market-1501, and an experiment small enough to train on them in a second."""

import numpy as np
from PIL import Image

TRAIN_PIDS = range(2, 12)
TEST_PIDS = range(20, 25)
OFF = {"pad_px": 2, "rotation_deg": 0.0, "hue": 0.0, "occlusion": 0.3}
TRANSMATCHER = {"name": "transmatcher", "stride": 8, "dim": 16, "num_layers": 2, "feedforward": 32}
TINY = {
    "title": "tiny",
    "image_size": [64, 32],
    "source": [{"name": "market1501", "root": "market", "expected_counts": "none"}],
    "target": [{"name": "market1501", "root": "market", "expected_counts": "none"}],
    "backbone": {"name": "resnet", "depth": 18, "cut": "layer2"},
    "matcher": {**TRANSMATCHER, "decoder_feedforward": 32},
    "stage": [
        {
            "epochs": 2,
            "sampler": {"name": "pk", "num_pids": 4, "num_images": 2},
            "loss": {"name": "pairwise"},
            "optimizer": {"lr": 0.01, "backbone_lr_factor": 1.0, "clip_norm": 4.0},
            "schedule": {"name": "constant"},
            "augment": OFF,
            "backbone_mode": "train",
        }
    ],
}


def draw_person(path, pid, rng):
    """A small JPEG: two colours that tell the identity, under noise."""
    colours = np.random.default_rng(pid).integers(0, 256, (2, 1, 3))
    coarse = colours.repeat(2, axis=1) + rng.normal(0, 25, (2, 2, 3))
    image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((32, 64), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)


def draw_market(root, *, train=TRAIN_PIDS, test=TEST_PIDS, seed=0):
    """A Market-1501 tree: 4 training images a person, 2 queries, 2 gallery images, 3 distractors, 2 junk images."""
    rng = np.random.default_rng(seed)
    shots = [(pid, cam, frame, "bounding_box_train") for pid in train for cam in (1, 2) for frame in (1, 2)]
    for pid in test:
        shots += [
            (pid, cam, frame, "query" if frame == 1 else "bounding_box_test") for cam in (1, 2) for frame in (1, 2)
        ]
    shots += [(0, 1, frame, "bounding_box_test") for frame in (1, 2, 3)]
    shots += [(-1, 2, frame, "bounding_box_test") for frame in (1, 2)]
    for pid, cam, frame, folder in shots:
        name = "-1" if pid < 0 else f"{pid:04d}"
        draw_person(root / folder / f"{name}_c{cam}s1_{frame:06d}_00.jpg", max(0, pid), rng)
    return root
