import numpy as np
import pytest
import torch
from PIL import Image

from reid.build import build_model
from reid.engine import model as module
from reid.errors import ImageError, ShapeError
from reid.experiment import resolve
from reid.models import fresh_model


@pytest.fixture
def model(tiny):
    return fresh_model(resolve(tiny, "a test")).eval()


@pytest.fixture
def paths(drawn_root):
    return sorted((drawn_root / "market" / "query").iterdir())[:5]


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one.tensors)


def test_paths_names_images_and_tensors_agree(model, paths):
    images = [Image.open(path).convert("RGB") for path in paths]
    assert {image.size for image in images} == {(32, 64)}  # of the model's size: the resize changes nothing
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    expected = model.encode(paths)
    assert len(expected) == 5
    for form in (list(map(str, paths)), images, pixels, pixels.float() / 255):
        assert same(model.encode(form), expected)


def test_images_of_any_size_and_mode_are_resized(model):
    state = model.encode([Image.new("L", (10, 50), 128), Image.new("RGBA", (200, 90), (10, 20, 30, 255))])
    assert len(state) == 2


def test_images_are_opened_as_files_are(model, tmp_path):
    """Turned by EXIF, see-through, 16 bits deep: the same state whether Pillow or the model opens the file."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = rng.integers(0, 256, (64, 32, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., :3]).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    Image.fromarray(rng.integers(0, 65536, (64, 32), dtype=np.uint16)).save(tmp_path / "deep.png")
    for path in sorted(tmp_path.glob("*.png")):
        assert same(model.encode(Image.open(path)), model.encode(path))
    upright = Image.fromarray(np.rot90(pixels[..., :3], 2))
    assert same(model.encode(tmp_path / "turned.png"), model.encode(upright))
    with pytest.raises(ImageError, match="image: wanted an image of 8 or 16 bits"):
        model.encode(Image.new("F", (32, 64)))


def test_one_image_is_one_image(model, paths):
    expected = model.encode(paths[:1])
    for form in (paths[0], str(paths[0]), Image.open(paths[0])):
        assert same(model.encode(form), expected)


def test_batches_keep_the_order(model, paths, monkeypatch):
    whole = model.encode(paths)
    monkeypatch.setattr(module, "ENCODE_BATCH", 2)
    for name in whole.tensors:
        torch.testing.assert_close(model.encode(paths)[name], whole[name])


def test_score_is_the_matchers_in_eval_mode(model, paths):
    query, gallery = model.encode(paths[:2]), model.encode(paths)
    model.train()
    score_QG = model.score(query, gallery)
    assert score_QG.shape == (2, 5)
    assert score_QG.dtype == torch.float32
    assert not score_QG.requires_grad
    assert not model.training
    for query_idx in range(2):
        for gallery_idx in range(5):
            one = model.score(query[[query_idx]], gallery[[gallery_idx]])
            torch.testing.assert_close(one[0, 0], score_QG[query_idx, gallery_idx])


def test_encode_leaves_no_gradient_and_forward_does(model):
    image_BCHW = torch.rand(2, 3, 64, 32)
    assert not any(tensor.requires_grad for tensor in model.encode(image_BCHW).tensors.values())
    assert any(tensor.requires_grad for tensor in model(image_BCHW).tensors.values())


def test_a_matcher_of_pixels_needs_no_backbone():
    model = build_model(None, {"name": "color_histogram"}, (64, 32))
    assert model.device == torch.device("cpu")
    image_BCHW = torch.rand(3, 3, 64, 32)
    state = model.encode(image_BCHW)
    assert model.score(state, state).argmax(1).tolist() == [0, 1, 2]


def test_bad_images_are_named(model, tmp_path, paths):
    half = tmp_path / "half.jpg"
    half.write_bytes(paths[0].read_bytes()[:300])
    with pytest.raises(ImageError, match=r"half\.jpg: wanted a whole image"):
        model.encode([paths[0], half])
    with pytest.raises(ImageError, match=r"none\.jpg: wanted an image, found no such file"):
        model.encode(tmp_path / "none.jpg")


@pytest.mark.parametrize("shape", [(2, 3, 128, 64), (3, 64, 32), (2, 1, 64, 32)])
def test_a_tensor_of_another_shape(shape, model):
    with pytest.raises(ShapeError):
        model.encode(torch.rand(shape))


def test_images_in_any_iterable_and_any_float_type(model, paths):
    expected = model.encode(paths)
    assert same(model.encode(path for path in paths), expected)
    pixels = torch.rand(3, 3, 64, 32)
    wanted, found = model.encode(pixels), model.encode(pixels.double())
    assert all(torch.allclose(wanted[name], found[name], atol=1e-5) for name in wanted.tensors)


@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        ([], ImageError, "wanted at least one image, found none"),
        (torch.zeros(0, 3, 64, 32), ImageError, "wanted at least one image, found none"),
        (255 * torch.ones(1, 3, 64, 32), ShapeError, r"floats of 0 to 1, found torch\.float32 of 255 to 255"),
        (torch.full((1, 3, 64, 32), torch.nan), ShapeError, "of nan to nan"),
        (torch.ones(1, 3, 64, 32, dtype=torch.int64), ShapeError, r"found torch\.int64 of 1 to 1"),
        (np.zeros((2, 64, 32, 3)), ImageError, "found ndarray. Make a tensor or PIL images of an array first"),
    ],
)
def test_what_is_no_image(model, images, error, said):
    with pytest.raises(error, match=said):
        model.encode(images)
