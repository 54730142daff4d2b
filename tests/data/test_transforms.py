from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid.config import parse
from reid.data import transforms
from reid.data.transforms import AugmentConfig, TrainTransform
from reid.errors import ConfigError
from reid.vision import functional

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "transforms.npz")
NOTHING = {"pad_px": 0, "flip": 0, "rotation_deg": 0, "hue": 0, "occlusion": 0} | dict.fromkeys(
    ("brightness", "contrast", "saturation"), (1, 1)
)


class Legacy(np.random.RandomState):
    """The generator of the released code, under the newer name of its method."""

    integers = np.random.RandomState.randint


def photo(height=128, width=64, seed=0):
    """A smooth picture with all hues, so that every step changes it."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + seed) + np.cos(y / (7 + k)) + np.sin((x + y) / (11 - k)) for k in range(3)]
    return Image.fromarray(np.uint8(np.stack(waves, -1) * 42 + 127))


def only(**parts):
    return AugmentConfig(**(NOTHING | parts))


def augmented(config, seed, image=None, size=(128, 64)):
    return TrainTransform(config, size)(image or photo(), np.random.default_rng(seed))


def torchvision_pipeline(image, config, size, rng):
    """The published augmentation from torchvision's functions; draws in the order that TrainTransform documents."""
    height, width = size
    bicubic = functional.InterpolationMode.BICUBIC
    image = functional.resize(image, [height, width], interpolation=bicubic)
    image = functional.pad(image, [config.pad_px] * 4, fill=0)
    top, left = rng.integers(0, 2 * config.pad_px + 1), rng.integers(0, 2 * config.pad_px + 1)
    image = functional.crop(image, int(top), int(left), height, width)
    if rng.uniform(0, 1) < config.flip:
        image = functional.horizontal_flip(image)
    image = functional.rotate(image, rng.uniform(-config.rotation_deg, config.rotation_deg), fill=0)
    changes = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    order = rng.permutation(4)
    ranges = (config.brightness, config.contrast, config.saturation, (-config.hue, config.hue))
    amounts = [rng.uniform(*values) for values in ranges]
    for which in order:
        image = changes[which](image, amounts[which])
    pixels = np.array(image)
    side = rng.integers(1, int(config.occlusion * width))
    x, y = rng.integers(0, width - side), rng.integers(0, height - side)
    pixels[y : y + side, x : x + side] = 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_test_transform_equals_the_released_one():
    image = transforms.TestTransform((384, 128))(Image.fromarray(GOLDEN["image"]))
    assert image.dtype == torch.uint8
    assert np.array_equal(image.numpy(), GOLDEN["test_transform_uint8"])


@pytest.mark.parametrize("seed", range(4))
def test_hidden_square_equals_the_released_one(seed):
    black = Image.new("RGB", (128, 384))
    image = TrainTransform(only(occlusion=0.8), (384, 128))(black, Legacy(seed))
    top, bottom, left, right = GOLDEN[f"occlusion_seed{seed}_y0_y1_x0_x1"]
    wanted = torch.zeros(3, 384, 128, dtype=torch.uint8)
    wanted[:, top:bottom, left:right] = 255
    assert torch.equal(image, wanted)


@pytest.mark.parametrize("size", [(384, 128), (128, 64)])
@pytest.mark.parametrize("seed", range(12))
def test_train_transform_equals_torchvision(seed, size):
    config = AugmentConfig()
    image = photo(seed=seed)
    wanted = torchvision_pipeline(image, config, size, np.random.default_rng(seed))
    assert torch.equal(augmented(config, seed, image, size), wanted)


def test_everything_off_draws_nothing_and_only_resizes():
    image = photo(90, 41)
    plain = transforms.TestTransform((128, 64))(image)
    rng = np.random.default_rng(0)
    assert torch.equal(TrainTransform(only(), (128, 64))(image, rng), plain)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_always_flipped():
    plain = transforms.TestTransform((128, 64))(photo())
    assert torch.equal(augmented(only(flip=1), 0), plain.flip(2))


def test_flipped_half_the_time():
    plain = transforms.TestTransform((128, 64))(photo())
    flips = sum(not torch.equal(augmented(only(flip=0.5), seed), plain) for seed in range(400))
    assert 150 < flips < 250  # five standard deviations


def test_crop_moves_by_at_most_the_pad_and_fills_with_black():
    white = Image.new("RGB", (64, 128), (255, 255, 255))
    borders = set()
    for seed in range(200):
        image = augmented(only(pad_px=2), seed, white)
        rows, columns = (image[0] == 0).all(1), (image[0] == 0).all(0)
        borders.add((int(rows[:64].sum() - rows[64:].sum()), int(columns[:32].sum() - columns[32:].sum())))
    assert borders == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_one_colour_change_at_a_time(name):
    amount = 0.1 if name == "hue" else (0.5, 0.5)
    image = augmented(only(**{name: amount}), 5)
    assert not torch.equal(image, transforms.TestTransform((128, 64))(photo()))
    if name != "hue":
        wanted = getattr(functional, f"adjust_{name}")(photo(), 0.5)
        assert torch.equal(image, torch.from_numpy(np.array(wanted)).permute(2, 0, 1))


@given(st.integers(0, 2**32), st.floats(0.1, 1), st.integers(20, 90), st.integers(20, 90))
@settings(max_examples=50, deadline=None)
def test_one_white_square_always_lies_inside(seed, share, height, width):
    black = Image.new("RGB", (width, height))
    image = augmented(only(occlusion=share), seed, black, (height, width))
    white = image.amin(0) == 255
    side = int(white.any(0).sum())
    assert int(image.count_nonzero()) == 3 * side**2
    assert 1 <= side < share * min(height, width)
    assert int(white.any(1).sum()) == side


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_one_rectangle_of_the_mean_colour_is_erased(seed):
    grey = Image.fromarray(np.zeros((128, 64, 3), np.uint8))
    pixels = augmented(only(erasing=1.0), seed, grey).numpy()
    rows, columns = np.nonzero(pixels[0])
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert (pixels[:, pixels[0] > 0] == np.array([[124], [116], [104]])).all()
    assert len(rows) == height * width  # a rectangle
    assert 0.015 < height * width / (128 * 64) < 0.42
    assert 0.25 < height / width < 4


def test_erased_as_often_as_asked():
    grey = Image.fromarray(np.zeros((128, 64, 3), np.uint8))
    erased = [augmented(only(erasing=0.3), seed, grey).any().item() for seed in range(400)]
    assert 0.23 < np.mean(erased) < 0.37


def test_same_generator_same_bytes():
    assert torch.equal(augmented(AugmentConfig(), 1), augmented(AugmentConfig(), 1))
    assert not torch.equal(augmented(AugmentConfig(), 1), augmented(AugmentConfig(), 2))


def test_the_image_given_is_unchanged():
    image = photo()
    augmented(only(occlusion=0.8), 0, image)
    assert image == photo()


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"brightness": [2.0, 0.5]}, "brightness"),
        ({"contrast": [-1.0, 0.5]}, "contrast"),
        ({"saturation": [0.5, float("inf")]}, "saturation"),
        ({"hue": 0.6}, "hue"),
        ({"flip": 1.5}, "flip"),
        ({"occlussion": 0.5}, "Did you mean 'occlusion'?"),
    ],
)
def test_unusable_table(table, part):
    with pytest.raises(ConfigError, match=r"x\.toml \[stage\.augment\]") as caught:
        parse(AugmentConfig, table, "x.toml [stage.augment]")
    assert part in str(caught.value)


def test_square_smaller_than_a_pixel():
    with pytest.raises(ConfigError, match=r"occlusion = 0\.01.*Use 0"):
        TrainTransform(AugmentConfig(occlusion=0.01), (128, 64))
