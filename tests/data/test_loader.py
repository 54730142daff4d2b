import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from reid.data import loader
from reid.data.loader import train_batches
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


def test_default_workers_leave_a_core():
    assert 0 <= loader.default_workers() < max(os.cpu_count(), 1)
    assert loader.default_workers() <= 8
