import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid.data import loader
from reid.data.loader import read_image, train_batches
from reid.data.transforms import AugmentConfig, TrainTransform
from reid.errors import ImageError, WorkerError
from reid.types import ImageRecord

SIZE = (32, 16)
NUM_IMAGES = 12
LABELS = [n // 3 for n in range(NUM_IMAGES)]
BATCHES = [[0, 1, 5, 4], [2, 2, 9, 11], [7, 0, 3, 10]]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    made = []
    for n in range(NUM_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 2, 3), dtype=np.uint8))
        coarse.resize((24, 48), Image.Resampling.BICUBIC).save(folder / f"{n}.jpg")
        made.append(ImageRecord(folder / f"{n}.jpg", pid=LABELS[n]))
    return made


@pytest.fixture
def damaged(records, tmp_path):
    half = tmp_path / "half.jpg"
    half.write_bytes(records[5].path.read_bytes()[:-40])
    return [*records[:5], ImageRecord(half, pid=1), *records[6:]]


def epoch_of(records, *, seed=7, epoch=2, num_workers=0, batches=BATCHES):
    transform = TrainTransform(AugmentConfig(pad_px=2), SIZE)
    return list(train_batches(records, LABELS, batches, transform, seed=seed, epoch=epoch, num_workers=num_workers))


def pixels(batches):
    return torch.cat([batch.inputs for batch in batches])


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 10, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_train_batches_hold_what_was_asked_for(records):
    batches = epoch_of(records)
    assert [batch.label_B.tolist() for batch in batches] == [[0, 0, 1, 1], [0, 0, 3, 3], [2, 0, 1, 3]]
    for batch in batches:
        assert batch.inputs.shape == (4, 3, *SIZE)
        assert (batch.inputs.dtype, batch.label_B.dtype) == (torch.uint8, torch.int64)


def test_train_batches_without_augmentation_are_the_images_in_order(records):
    off = AugmentConfig(
        pad_px=0, flip=0, rotation_deg=0, brightness=(1, 1), contrast=(1, 1), saturation=(1, 1), hue=0, occlusion=0
    )
    batches = train_batches(records, LABELS, BATCHES, TrainTransform(off, SIZE), seed=0, epoch=0, num_workers=0)
    for batch, indices in zip(batches, BATCHES, strict=True):
        for image, index in zip(batch.inputs, indices, strict=True):
            wanted = Image.open(records[index].path).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)
            assert np.array_equal(image.permute(1, 2, 0), np.array(wanted))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(records, num_workers):
    assert torch.equal(pixels(epoch_of(records)), pixels(epoch_of(records, num_workers=num_workers)))
    alone = list(loader.test_batches(records, SIZE, batch_size=5, num_workers=0))
    helped = list(loader.test_batches(records, SIZE, batch_size=5, num_workers=num_workers))
    assert all(torch.equal(*pair) for pair in zip(alone, helped, strict=True))


def test_batch_size_changes_nothing(records):
    flat = [index for batch in BATCHES for index in batch]
    one_by_one = epoch_of(records, batches=[[index] for index in flat])
    assert torch.equal(pixels(epoch_of(records)), pixels(one_by_one))


def test_seed_epoch_and_place_matter(records):
    here = pixels(epoch_of(records))
    assert not torch.equal(here, pixels(epoch_of(records, seed=8)))
    assert not torch.equal(here, pixels(epoch_of(records, epoch=3)))
    assert not torch.equal(here[4], here[5])  # image 2 at two places


def test_the_global_generator_is_left_alone(records):
    before = torch.get_rng_state()
    epoch_of(records)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_test_batches_are_all_images_in_order(records, batch_size):
    batches = list(loader.test_batches(records, SIZE, batch_size=batch_size, num_workers=0))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    images = torch.cat(batches)
    assert len(images) == NUM_IMAGES
    for image, record in zip(images, records, strict=True):
        wanted = Image.open(record.path).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)
        assert np.array_equal(image.permute(1, 2, 0), np.array(wanted))


def test_no_images_no_batches():
    assert list(loader.test_batches([], SIZE, batch_size=4, num_workers=0)) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_image_is_the_same_clean_error_from_a_worker(damaged, num_workers):
    with pytest.raises(ImageError) as caught:
        epoch_of(damaged, num_workers=num_workers)
    message = str(caught.value)
    assert message.startswith(f"{damaged[5].path}: wanted a whole image, found: image file is truncated")
    assert "\n" not in message


def test_stopping_early_leaves_no_process(records):
    before = set(multiprocessing.active_children())
    batches = loader.test_batches(records, SIZE, batch_size=2, num_workers=2)
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    assert set(multiprocessing.active_children()) == before


@pytest.mark.slow
def test_killed_worker_is_an_error_that_says_what_to_do(records):
    before = set(multiprocessing.active_children())
    batches = loader.test_batches(records, SIZE, batch_size=1, num_workers=1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    worker.kill()
    with pytest.raises(WorkerError, match=r"found one that ended early\..*use fewer workers"):
        list(batches)


_ITERATE = """
import multiprocessing, sys, time
from pathlib import Path
from reid.data import loader
from reid.types import ImageRecord

if __name__ == "__main__":
    batches = loader.test_batches([ImageRecord(Path(sys.argv[1]), pid=0)] * 8, (32, 16), batch_size=1, num_workers=1)
    next(batches)
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_workers_end_when_their_main_process_is_killed(records, tmp_path):
    script = tmp_path / "iterate.py"
    script.write_text(_ITERATE)
    with subprocess.Popen([sys.executable, script, records[0].path], stdout=subprocess.PIPE, text=True) as main:
        worker = int(main.stdout.readline())
        assert _runs(worker)
        main.kill()
    for _ in range(100):
        if not _runs(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker still runs ten seconds after its main process was killed")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_every_kind_of_image_becomes_rgb(tmp_path, mode):
    image = Image.new("RGB", (6, 9), (255, 255, 255)).convert(mode)
    image.save(tmp_path / "image.png")
    read = read_image(tmp_path / "image.png")
    assert (read.mode, read.size, read.getpixel((3, 3))) == ("RGB", (6, 9), (255, 255, 255))


def read_back(tmp_path, image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return read_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", ["plain.jpg", "plain.png"])
def test_plain_images_are_as_stored(tmp_path, mode, name):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    read = read_back(tmp_path, Image.fromarray(pixels).convert(mode), name)
    with Image.open(tmp_path / name) as stored:
        wanted = np.asarray(stored)
    assert np.array_equal(np.asarray(read), wanted if mode == "RGB" else wanted[..., None].repeat(3, 2))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bits_are_brought_to_8(tmp_path, name):
    deep = np.array([[0, 256, 257], [32896, 65278, 65535]], dtype=np.uint16)
    read = np.asarray(read_back(tmp_path, Image.fromarray(deep), name))
    assert read[..., 0].tolist() == [[0, 1, 1], [128, 254, 255]]  # a 257th each: 255 of 65535 is 1 of 255
    assert (read == read[..., :1]).all()


def test_big_endian_16_bits(tmp_path):
    image = Image.frombytes("I;16B", (2, 1), bytes([0x80, 0x80, 0xFF, 0xFF]))
    assert [loader.as_rgb(image, "one").getpixel((x, 0))[0] for x in (0, 1)] == [128, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_known_range_are_refused(tmp_path, mode):
    image = Image.new(mode, (3, 3), 200)
    image.save(tmp_path / "values.tif")
    with pytest.raises(ImageError, match=rf"values\.tif: wanted an image of 8 or 16 bits.* mode {mode}"):
        read_image(tmp_path / "values.tif")
    with pytest.raises(ImageError, match=rf"mine: wanted an image of 8 or 16 bits.* mode {mode}"):
        loader.as_rgb(image, "mine")


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png"])
def test_photos_stand_upright(tmp_path, name):
    """EXIF 6: the camera was turned; the first row of what is stored is the right edge of what was seen."""
    seen = np.zeros((16, 8, 3), dtype=np.uint8)
    seen[:, 4:] = 255
    stored = Image.fromarray(np.rot90(seen))  # counter-clockwise: the right edge comes to the top
    exif = Image.Exif()
    exif[0x0112] = 6
    read = read_back(tmp_path, stored, name, exif=exif)
    assert read.size == (8, 16)
    assert np.abs(np.asarray(read).astype(int) - seen).max() < 20  # JPEG is not exact


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_see_through_stands_before_white(tmp_path, mode):
    """Left: colours that nobody is meant to see. Middle: half of black. Right: black."""
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    rgba[0, 0, :3] = 90
    image = Image.fromarray(rgba)
    if mode == "P":
        image = Image.new("P", (3, 1))
        image.putpalette([90, 90, 90, 127, 127, 127, 0, 0, 0])
        image.putdata([0, 1, 2])
    read = read_back(tmp_path, image.convert(mode), **({"transparency": 0} if mode == "P" else {}))
    assert [read.getpixel((x, 0)) for x in range(3)] == [(255,) * 3, (127,) * 3, (0,) * 3]


def test_an_image_that_is_handed_over_stays_as_it_is():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.getexif()[0x0112] = 6
    assert loader.as_rgb(image, "mine").size == (1, 2)
    assert (image.mode, image.size, image.getexif()[0x0112]) == ("RGBA", (2, 1), 6)
    plain = Image.new("RGB", (2, 1))
    assert loader.as_rgb(plain, "mine") is not plain


def test_missing_image(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: wanted an image, found no such file\. Check its name"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path, content):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"text\.jpg: wanted a whole image"):
        read_image(path)


def test_a_text_is_told_from_a_damaged_image(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no image at all")
    with pytest.raises(
        ImageError, match=r"notes\.txt: wanted a whole image, found none\. Name a picture such as a JPEG"
    ):
        read_image(path)


def test_folder_in_place_of_an_image(tmp_path):
    with pytest.raises(ImageError, match=r"wanted a whole image, found a folder\. Name an image file"):
        read_image(tmp_path)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_jpeg_cut_anywhere_is_an_error(tmp_path_factory, share):
    content = jpeg()
    path = tmp_path_factory.mktemp("cut") / "cut.jpg"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match="wanted a whole image"):
        read_image(path)


def test_default_workers_leave_a_core():
    assert 0 <= loader.default_workers() < max(os.cpu_count(), 1)
    assert loader.default_workers() <= 8
