import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reid.datasets._base import Counts
from reid.datasets.cuhk03_np import CUHK03NP, Config
from reid.errors import DatasetError, StorageError
from tests.datasets._trees import GOLDEN, touch

# The released code reads png only, so the one jpg among the golden names is not in its answers.
FILES = [name for name in GOLDEN["files"]["cuhk"] if name.endswith(".png")]


def load(data_root, **options):
    return CUHK03NP(Config(expected_counts="none", **options)).load(data_root)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_equals_the_released_code(tmp_path, split):
    touch(tmp_path / "cuhk03_np" / "detected", FILES)
    records = [entry for entry in load(tmp_path).split(split) if entry.role != "junk"]
    number = {pid: label for label, pid in enumerate(dict.fromkeys(entry.pid for entry in records))}
    found = [[e.path.name, number[e.pid] if split == "train" else e.pid, e.camid] for e in records]
    assert found == [row[:3] for row in GOLDEN["cuhk03_np"][split]]
    assert {entry.time_s for entry in records} == {None}


@pytest.mark.parametrize("folder", ["cuhk03_np/{}", "cuhk03_np_{}", "CUHK03-NP/{}"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("variant", ["detected", "labeled"])
def test_trees_in_the_wild(tmp_path, folder, suffix, variant):
    root = touch(tmp_path / folder.format(variant), [name.replace(".png", suffix) for name in FILES])
    data = load(tmp_path, variant=variant)
    assert data.root == root
    assert data.label == f"cuhk03_np ({variant})"
    assert len(data.train) == 3


def test_own_root_may_hold_both_variants_or_be_one(tmp_path):
    root = touch(tmp_path / "mine" / "labeled", FILES)
    assert load(tmp_path, root=tmp_path / "mine", variant="labeled").root == root
    assert load(tmp_path, root=root, variant="labeled").root == root


def test_all_for_training(tmp_path):
    touch(tmp_path / "cuhk03_np" / "detected", FILES)
    data = load(tmp_path, train="all")
    # Three training images, one query and the two persons of the gallery; its junk image is no person.
    assert sorted(entry.pid for entry in data.train) == [1, 1, 1, 3, 3, 11]
    assert data.label == "cuhk03_np (detected, all)"


def test_other_variant_does_not_stand_in(tmp_path):
    touch(tmp_path / "cuhk03_np" / "labeled", FILES)
    with pytest.raises(DatasetError, match="wanted a folder cuhk03_np/detected"):
        load(tmp_path)


class Raw:
    """A tiny CUHK03 release: two camera pairs, of two people and one, ten cells each, some of them empty."""

    def __init__(self, folder, empty=()):
        self.folder = folder
        self.raw = folder / "cuhk-03.mat"
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(3)
        cells = [(0, 0, 0), (0, 0, 5), (0, 1, 1), (0, 1, 7), (1, 0, 0), (1, 0, 9)]
        self.images = {cell: rng.integers(0, 256, (4, 3, 3), dtype=np.uint8) for cell in cells if cell not in empty}
        with h5py.File(self.raw, "w") as file:
            for variant in ("detected", "labeled"):
                pairs = [self._pair(file, variant, pair, people) for pair, people in enumerate((2, 1))]
                file[variant] = np.array([[pair.ref for pair in pairs]], dtype=h5py.ref_dtype)

    def _pair(self, file, variant, pair, people):
        table = np.empty((10, people), dtype=h5py.ref_dtype)
        for image, person in np.ndindex(table.shape):
            pixels = self.images.get((pair, person, image))
            stored = np.zeros(2, dtype=np.uint64) if pixels is None else pixels.T
            table[image, person] = file.create_dataset(f"refs/{variant}_{pair}_{person}_{image}", data=stored).ref
        return file.create_dataset(f"cells/{variant}_{pair}", data=table)

    def protocol(self, folder, variant="detected"):
        folder.mkdir(parents=True, exist_ok=True)
        names = [
            "1_001_1_01.png",
            "1_001_2_06.png",
            "1_002_1_02.png",
            "1_002_2_08.png",
            "2_001_1_01.png",
            "2_001_2_10.png",
        ]
        filelist = np.empty((len(names), 1), dtype=object)
        filelist[:, 0] = names
        table = {
            "filelist": filelist,
            "labels": np.array([[1], [1], [2], [2], [3], [3]]),
            "train_idx": np.array([[1], [2]]),
            "query_idx": np.array([[3], [6]]),
            "gallery_idx": np.array([[4], [5]]),
        }
        savemat(folder / f"cuhk03_new_protocol_config_{variant}.mat", table)


@pytest.mark.parametrize("folder", ["cuhk03_np", "cuhk03/cuhk03_release"])
@pytest.mark.parametrize("beside", [True, False])
def test_raw_release_is_converted(tmp_path, folder, beside):
    raw = Raw(tmp_path / folder)
    base = tmp_path / folder.split("/")[0]
    raw.protocol(raw.folder if beside else base)
    data = load(tmp_path)
    assert data.root == base / "detected"
    expected = {
        "train": {("0001_c1_1.png", 1, 0): (0, 0, 0), ("0001_c2_6.png", 1, 1): (0, 0, 5)},
        "query": {("0002_c1_2.png", 2, 0): (0, 1, 1), ("0003_c2_10.png", 3, 1): (1, 0, 9)},
        "gallery": {("0002_c2_8.png", 2, 1): (0, 1, 7), ("0003_c1_1.png", 3, 0): (1, 0, 0)},
    }
    for split, cells in expected.items():
        records = {(entry.path.name, entry.pid, entry.camid): entry for entry in data.split(split)}
        assert set(records) == set(cells)
        for key, cell in cells.items():
            with Image.open(records[key].path) as image:
                np.testing.assert_array_equal(np.asarray(image), raw.images[cell])


def test_conversion_happens_once(tmp_path):
    raw = Raw(tmp_path / "cuhk03_np")
    raw.protocol(raw.folder)
    load(tmp_path)
    raw.raw.unlink()
    assert len(load(tmp_path).train) == 2


def test_raw_release_without_protocol_is_an_error(tmp_path):
    Raw(tmp_path / "cuhk03_np")
    with pytest.raises(DatasetError, match=r"wanted cuhk03_new_protocol_config_detected\.mat beside"):
        load(tmp_path)


def test_damaged_raw_file_leaves_nothing_behind(tmp_path):
    raw = Raw(tmp_path / "cuhk03_np")
    raw.protocol(raw.folder)
    raw.raw.write_bytes(raw.raw.read_bytes()[:600])
    before = sorted(path.name for path in raw.folder.iterdir())
    with pytest.raises(DatasetError, match=r"cuhk-03\.mat, found something else or a part"):
        load(tmp_path)
    assert sorted(path.name for path in raw.folder.iterdir()) == before


def test_raw_file_of_another_layout_is_an_error(tmp_path):
    raw = Raw(tmp_path / "cuhk03_np")
    raw.protocol(raw.folder)
    with h5py.File(raw.raw, "w") as file:
        file["something"] = np.zeros(3)
    with pytest.raises(DatasetError, match=r"cuhk-03\.mat, found something else"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no matlab file at all " * 20])
def test_damaged_protocol_is_an_error(tmp_path, content):
    raw = Raw(tmp_path / "cuhk03_np")
    (raw.folder / "cuhk03_new_protocol_config_detected.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=r"config_detected\.mat, found something else"):
        load(tmp_path)


def test_protocol_that_asks_for_an_empty_cell_is_an_error(tmp_path):
    raw = Raw(tmp_path / "cuhk03_np", empty=[(1, 0, 9)])
    raw.protocol(raw.folder)
    with pytest.raises(DatasetError, match=r"camera pair 2, person 1, image 10\), found none"):
        load(tmp_path)
    assert not (tmp_path / "cuhk03_np" / "detected").exists()


def test_conversion_without_space_or_permission_is_a_storage_error(tmp_path, monkeypatch):
    raw = Raw(tmp_path / "cuhk03_np")
    raw.protocol(raw.folder)

    def full(*_args, **_keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match="No space left"):
        load(tmp_path)
    assert not (tmp_path / "cuhk03_np" / "detected").exists()


def test_declared_counts():
    detected, labeled = CUHK03NP.info.counts["detected"], CUHK03NP.info.counts["labeled"]
    # Zhong et al., CVPR 2017: 14,097 detected and 14,096 labeled images of 1,467 people.
    assert sum(counts.images for counts in detected.values()) == 14_097
    assert sum(counts.images for counts in labeled.values()) == 14_096
    assert CUHK03NP.info.counts["detected, all"]["train"] == Counts(14_097, 1_467, 2)
    assert CUHK03NP.info.counts["labeled, all"]["train"] == Counts(14_096, 1_467, 2)
    assert detected["train"].pids + detected["query"].pids == 1_467
