import numpy as np
import torch

from reid.build import build_model
from reid.data.transforms import AugmentConfig, TrainTransform
from reid.domains import open_domains
from reid.engine.training_set import Epoch, TrainingSet, cache_maps
from reid.experiment import resolve

BACKBONE = {"name": "resnet", "depth": 18, "cut": "layer2"}


def test_cached_maps_are_those_of_the_images_and_of_mirrored_ones(tiny, session, tmp_path):
    images = open_domains(resolve(tiny, "x"), session).training_set()
    torch.manual_seed(0)
    model = build_model(BACKBONE, {"name": "embedding", "stride": 8}, (64, 32), pretrained=False).eval()
    maps = cache_maps(model, images, num_workers=0, file=tmp_path / "maps", progress=session.progress)
    off = AugmentConfig(
        pad_px=0, rotation_deg=0, brightness=(1, 1), contrast=(1, 1), saturation=(1, 1), hue=0, occlusion=0
    )
    batches = [[0, 5, 7], [5, 5, 5, 5, 5, 5, 5, 5]]
    seen = []
    for flip in (0.0, 1.0, 0.5):
        transform = TrainTransform(off.model_copy(update={"flip": flip}), (64, 32))
        when = Epoch(seed=3, epoch=2, num_workers=0)
        cached = list(maps.load(batches, transform, when))
        again = list(maps.load(batches, transform, when))
        for one, two in zip(cached, again, strict=True):
            assert torch.equal(one.inputs[8], two.inputs[8])
        assert [batch.label_B.tolist() for batch in cached] == [[images.labels[i] for i in batch] for batch in batches]
        seen.append(cached)
        if flip != 0.5:
            for batch, read in zip(cached, images.load(batches, transform, when), strict=True):
                wanted = model.feature_maps(read.inputs)[8]
                assert (batch.inputs[8].float() - wanted).abs().max() < 0.01 * wanted.abs().max()  # kept in bfloat16
    kinds = {bool(torch.equal(image, seen[1][1].inputs[8][0])) for image in seen[2][1].inputs[8]}
    assert kinds == {False, True}  # drawn for each image of the epoch on its own
    assert isinstance(maps, TrainingSet)
    np.testing.assert_array_equal(maps.labels, images.labels)
