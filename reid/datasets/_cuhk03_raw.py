"""Converting CUHK03 as its authors release it (one HDF5 file) into the folder form of the new protocol."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from reid.errors import DatasetError
from reid.files import atomic_folder
from reid.progress import Progress

RAW = "cuhk-03.mat"
PROTOCOL = "cuhk03_new_protocol_config_{variant}.mat"
SPLIT_KEYS = {"bounding_box_train": "train_idx", "query": "query_idx", "bounding_box_test": "gallery_idx"}
READ_ERRORS = (OSError, KeyError, ValueError, IndexError, TypeError)


class _Crop(NamedTuple):
    """Where one image goes, and where in the HDF5 file it is (all counted from 0)."""

    target: str
    camera_pair: int
    person: int
    image: int


def convert(raw: Path, protocol: Path, variant: str, target: Path, progress: Progress) -> None:
    """Write the images of one variant as PNG into ``target``, all or nothing.

    A name such as ``0001_c1_3.png`` is identity, camera and number of the image among the ten of its person. The
    HDF5 file holds, per variant, five camera pairs of [10, people] references to images [3, W, H]; the protocol
    file lists names ``PAIR_PERSON_CAMERA_IMAGE.png`` with an identity for each, and the indices of the splits.

    Args:
        raw: ``cuhk-03.mat``, of Li et al., DeepReID: Deep Filter Pairing Neural Network for Person
            Re-Identification, CVPR 2014.
        protocol: ``cuhk03_new_protocol_config_{variant}.mat``, of Zhong et al., Re-ranking Person
            Re-identification with k-reciprocal Encoding, CVPR 2017.
        variant: ``detected`` or ``labeled``.
        target: the folder to make.
        progress: where to report.

    Raises:
        DatasetError: one of the two files is not what its name says.
        StorageError: ``target`` cannot be written; nothing of it is left then.
    """
    crops = list(_crops(protocol))
    try:
        file = h5py.File(raw, "r")
    except OSError as error:
        raise _damaged(raw, error) from error
    with file:
        try:
            pairs = [file[reference][()] for reference in file[variant][0]]
        except READ_ERRORS as error:
            raise _damaged(raw, error) from error
        with atomic_folder(target) as folder, progress.bar(f"converting {raw.name}", len(crops), "images") as bar:
            for split in SPLIT_KEYS:
                (folder / split).mkdir()
            for crop in crops:
                Image.fromarray(_pixels(file, pairs, crop, raw)).save(folder / crop.target)
                bar.advance()


def _crops(protocol: Path) -> Iterator[_Crop]:
    try:
        table = loadmat(protocol)
        names = [str(np.ravel(name)[0]) for name in np.ravel(table["filelist"])]
        pids = np.ravel(table["labels"]).astype(int)
        for folder, key in SPLIT_KEYS.items():
            for index in np.ravel(table[key]).astype(int) - 1:
                pair, person, camera, image = (int(part) for part in Path(names[index]).stem.split("_"))
                target = f"{folder}/{pids[index]:04d}_c{camera}_{image}.png"
                yield _Crop(target, pair - 1, person - 1, image - 1)
    except (*READ_ERRORS, MatReadError, NotImplementedError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"cuhk03_np: wanted the new protocol's filelist, labels, {', '.join(SPLIT_KEYS.values())} in {protocol}, "
            f"found something else ({error}). Take it from the new protocol's repository again, see datasets/README.md."
        ) from error


def _pixels(file: h5py.File, pairs: list[np.ndarray], crop: _Crop, raw: Path) -> np.ndarray:
    """The image as [H, W, 3], uint8."""
    people = pairs[crop.camera_pair] if crop.camera_pair < len(pairs) else np.empty((0, 0))
    if crop.image < people.shape[0] and crop.person < people.shape[1]:
        try:
            pixels = file[people[crop.image, crop.person]][()]
        except READ_ERRORS as error:
            raise _damaged(raw, error) from error
        if pixels.ndim == 3:  # an empty cell of MATLAB's is stored as its two dimensions
            return np.asarray(pixels.T, dtype=np.uint8)
    raise DatasetError(
        f"cuhk03_np: {raw}: wanted an image for {crop.target} (camera pair {crop.camera_pair + 1}, person "
        f"{crop.person + 1}, image {crop.image + 1}), found none. Raw file and protocol do not belong together."
    )


def _damaged(raw: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"cuhk03_np: wanted the HDF5 file of CUHK03 in {raw}, found something else or a part of it ({error}). "
        "Take it from the release again."
    )
