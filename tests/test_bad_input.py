"""Every mistake a user can make ends with one message, exit code 2, and what was there before intact."""

import errno
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from reid.errors import StorageError
from reid.evaluate import evaluate
from reid.experiment import resolve
from reid.files import atomic_file
from reid.pictures import draw_pictures
from reid.progress import Silent
from reid.runs import Session, create_run
from reid.train import train
from tests.drawn import TINY


@pytest.fixture
def common(data_root, tmp_path):
    return ["--data", data_root, "--out", tmp_path / "out", "--device", "cpu", "--workers", 0]


@pytest.fixture
def refused(reid):
    """Run a command that must fail; the message must have these words and no traceback."""

    def check(arguments, *words):
        code, _, error = reid(*arguments)
        assert code == 2, error
        assert "Traceback" not in error
        message = [line for line in error.splitlines() if "Error: " in line]
        assert len(message) == 1, error
        for word in words:
            assert word in error, error

    return check


@pytest.fixture(scope="module")
def finished(drawn_root, tmp_path_factory):
    """A finished run that nobody changes."""
    run = create_run(tmp_path_factory.mktemp("finished") / "out", resolve(TINY, "a test"))
    session = Session(drawn_root, torch.device("cpu"), 0, Silent())
    train(run, session)
    draw_pictures(run, *evaluate(run, session))
    return run.path


@pytest.fixture
def trained(finished, tmp_path):
    """A finished run."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def remaining(files, *, apart=()):
    return {name: content for name, content in files.items() if not name.startswith(apart)}


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def fill_disk(monkeypatch, name):
    """Let every write to a file with this name fail as on a full disk, after its first bytes."""
    for method in ("write_bytes", "write_text"):
        original = getattr(Path, method)

        def full(self, content, *arguments, original=original, **options):
            if name in self.name:
                original(self, content[:10], *arguments, **options)
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(self, content, *arguments, **options)

        monkeypatch.setattr(Path, method, full)


def test_the_disk_can_be_filled(tmp_path, monkeypatch):
    fill_disk(monkeypatch, "x.json")
    with pytest.raises(StorageError, match="No space left"), atomic_file(tmp_path / "x.json") as file:
        file.write_text("0123456789abc")


def test_wrong_folder(refused, toml, tiny, common):
    refused(["run", toml(tiny), *common, "--set", "source.0.root=nowhere"], "DatasetError: market1501", "nowhere")


def test_an_empty_data_root(refused, toml, tiny, tmp_path):
    tiny["source"] = tiny["target"] = [{"name": "market1501"}]
    (tmp_path / "empty").mkdir()
    refused(
        ["run", toml(tiny), "--data", tmp_path / "empty"],
        "wanted a folder market1501",
        "empty",
        "--data",
    )


def test_missing_images(refused, toml, tiny, common, data_root):
    for path in (data_root / "market" / "query").iterdir():
        path.unlink()
    refused(["run", toml(tiny), *common], "DatasetError: market1501", "wanted query and gallery images")


def test_a_missing_part(refused, toml, tiny, common, data_root):
    (data_root / "market" / "query").rename(data_root / "market" / "queries")
    refused(["run", toml(tiny), *common], "wanted the folder", "query")


def test_wrong_counts(refused, toml, tiny, common):
    assignment = ["--set", "source.0.expected_counts=published"]
    refused(["run", toml(tiny), *common, *assignment], "12,936", 'expected_counts = "none"')


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_training_image(workers, refused, toml, tiny, common, data_root, tmp_path):
    path = sorted((data_root / "market" / "bounding_box_train").iterdir())[7]
    cut(path)
    tiny["stage"][0]["sampler"] = {"name": "pk", "num_pids": 5, "num_images": 4}  # every image in every epoch
    refused(["run", toml(tiny), *common[:-1], workers], f"ImageError: {path}", "Copy or unpack the file again")
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_gallery_image(workers, refused, trained, data_root, files_below):
    path = next((data_root / "market" / "bounding_box_test").glob("0022_*"))
    cut(path)
    before = files_below(trained)
    refused(["evaluate", trained, "--data", data_root, "--workers", workers], f"ImageError: {path}")
    assert files_below(trained) == before


def test_a_csv_with_an_unknown_column(refused, toml, tiny, common, data_root):
    (data_root / "mine.csv").write_text("path,pid,cam_id\na.jpg,1,2\n")
    assignment = ["--set", "source.0={name='folder', root='mine.csv'}"]
    refused(["run", toml(tiny), *common, *assignment], "unknown column 'cam_id'", "Did you mean 'camid'?")


def test_a_leak(refused, toml, tiny, common, tmp_path):
    refused(["run", toml(tiny), *common, "--set", "source.0.train=all"], "ProtocolError: Leak")
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_fewer_identities_than_a_batch_needs(refused, toml, tiny, common):
    for sampler in ("{name='pk', num_pids=11}", "{name='graph', batch_size=22, num_images=2}"):
        arguments = [*common[:3], Path(common[3]) / sampler[7:9], *common[4:]]
        words = ["SamplingError", "wanted at least 11 identities", "found 10"]
        refused(["run", toml(tiny), *arguments, "--set", f"stage.0.sampler={sampler}"], *words)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("sampler", ["{name='pk', num_pids=4, num_images=2}", "{name='graph', batch_size=8}"])
def test_an_identity_with_one_image_is_repeated(sampler, reid, toml, tiny, common, data_root):
    for path in sorted((data_root / "market" / "bounding_box_train").glob("0003_*"))[1:]:
        path.unlink()
    assert reid("run", toml(tiny), *common, "--set", f"stage.0.sampler={sampler}")[0] == 0


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("stage.0.epochz=3", ["tiny.toml", "'stage.0.epochz'", "Did you mean 'epochs'?"]),
        ("matcher.name=transmacher", ["tiny.toml [matcher]", "Did you mean 'transmatcher'?"]),
        ("stage.0.sampler.num_pid=3", ["tiny.toml [stage.sampler]", "Did you mean 'num_pids'?"]),
        ("stage.0.schedule={name='step', gama=1}", ["tiny.toml", "Did you mean 'gamma'?"]),
        ("stage.0.precision=fp16", ["precision 'fp16' needs CUDA"]),
        ("stage.0.loss.name=identity_triplet", ["identity_triplet", "embedding"]),
        ("matcher.stride=16", ["stride 16"]),
        ("stage.0.frozen=['backbone', 'encoder', 'decoder']", ["all are frozen"]),
        ("validation_pids=9", ["SamplingError: validation_pids = 9"]),
        ("source=[]", ["DatasetError", "wanted images to train on"]),
        ("target=[]", ["at least one [[target]]"]),
        ("stage.1.epochs=3", ["--set stage.1.epochs=3"]),
        ("epochs", ["--set epochs", "no '='"]),
        ("title.x=3", ["--set title.x=3"]),
        ("backbone.weights=nowhere.pth", ["WeightsError", "nowhere.pth"]),
    ],
)
def test_mistakes_in_an_experiment(assignment, words, refused, toml, tiny, common, tmp_path):
    refused(["run", toml(tiny), *common, "--set", assignment], *words)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_an_experiment_that_is_no_file_or_no_toml(refused, tmp_path, common):
    refused(["run", tmp_path / "none.toml", *common], "none.toml: no such file")
    refused(["train", tmp_path, *common], "cannot be read")
    (tmp_path / "bad.toml").write_text("title = \n")
    refused(["run", tmp_path / "bad.toml", *common], "bad.toml: not valid TOML", "line 1")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpu:x"])
def test_a_device_that_cannot_be_used(device, refused, toml, tiny, common, tmp_path):
    arguments = ["run", toml(tiny), *common[:4], "--device", device]
    refused(arguments, f"ConfigError: device {device}: cannot be used here", "Use cpu")
    assert not (tmp_path / "out").exists()


def test_an_existing_run(refused, toml, tiny, common, trained, files_below):
    before = files_below(trained)
    refused(["run", toml(tiny), *common], "holds a run already", "--resume", "another --out")
    refused(["train", toml(tiny), *common], "holds a run already")
    assert files_below(trained) == before


def test_resuming_with_another_configuration(refused, toml, tiny, common, trained, files_below):
    before = files_below(trained)
    refused(["run", toml(tiny), *common, "--resume", "--set", "seed=3"], "another configuration (seed differ)")
    assert files_below(trained) == before


def test_resuming_nothing(refused, toml, tiny, common, tmp_path):
    refused(["run", toml(tiny), *common, "--resume"], "wanted a run folder with config.toml, found none")
    assert not (tmp_path / "out").exists()


def test_no_run_folder(refused, tmp_path, data_root):
    refused(["evaluate", tmp_path / "none", "--data", data_root], "wanted a run folder")
    refused(["table", tmp_path], "wanted a results file, found none")


def test_a_file_in_the_way(refused, toml, tiny, common, tmp_path):
    (tmp_path / "out").write_text("mine")
    refused(["run", toml(tiny), *common], "StorageError", "found a file")
    refused(["run", toml(tiny), *common, "--out", tmp_path / "out" / "below"], "StorageError", "cannot be written")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_checkpoint_of_another_architecture(refused, reid, toml, tiny, common, trained, data_root, files_below):
    config = trained / "config.toml"
    config.write_text(config.read_text().replace("dim = 16", "dim = 8"))
    before = files_below(trained)
    words = ["CheckpointError", "made for another architecture", "neck_conv.bias [16] instead of [8]"]
    refused(["evaluate", trained, "--data", data_root], *words)
    refused(["train", toml(tiny), *common, "--resume", "--set", "matcher.dim=8"], *words)
    assert files_below(trained) == before


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
def test_a_checkpoint_cut_in_half(name, refused, reid, toml, tiny, common, trained, files_below):
    cut(trained / "checkpoints" / "epoch_2" / name)
    (trained / "results.json").rename(trained / "results.old")
    before = files_below(trained)
    words = ["CheckpointError", f"epoch_2/{name}: damaged or cut off", "Remove epoch_2"]
    refused(["run", toml(tiny), *common, "--resume"], *words)
    if name == "model.safetensors":
        refused(["evaluate", trained, *common[:2]], *words)
    assert files_below(trained) == before
    for file in (trained / "checkpoints" / "epoch_2").iterdir():  # as the message says
        file.unlink()
    (trained / "checkpoints" / "epoch_2").rmdir()
    assert reid("run", toml(tiny), *common, "--resume")[0] == 0


def test_results_cut_in_half(refused, trained):
    cut(trained / "results.json")
    refused(["table", trained], "CheckpointError", "results.json: wanted JSON")


def test_results_of_a_newer_reid(refused, trained):
    table = json.loads((trained / "results.json").read_text())
    (trained / "results.json").write_text(json.dumps({**table, "schema_version": 99}))
    refused(["table", trained], "a newer reid")


def test_a_checkpoint_of_a_newer_reid(refused, toml, tiny, common, trained):
    facts = trained / "checkpoints" / "epoch_2" / "state.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "schema": 99}))
    refused(["run", toml(tiny), *common, "--resume"], "wanted schema 1, found 99")


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
def test_a_full_disk_while_a_checkpoint_is_saved(name, refused, reid, toml, tiny, common, trained, files_below):
    shutil.rmtree(trained / "checkpoints" / "epoch_2")  # as if stopped in the second epoch
    before = files_below(trained / "checkpoints")
    arguments = ["train", toml(tiny), *common, "--resume"]
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, name)
        refused(arguments, "StorageError", "epoch_2", "No space left", "MiB are free")
    assert files_below(trained / "checkpoints") == before
    assert [path.name for path in (trained / "checkpoints").iterdir()] == ["epoch_1"]
    assert reid(*arguments)[0] == 0


@pytest.mark.parametrize("name", ["results.json", "cmc.png"])
def test_a_full_disk_while_results_are_written(name, refused, trained, data_root, monkeypatch, files_below):
    before = files_below(trained)
    if name == "cmc.png":

        def full(self, path, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Figure, "savefig", full)
    else:
        fill_disk(monkeypatch, name)
    refused(["evaluate", trained, "--data", data_root, "--workers", 0], "StorageError", name, "No space left")
    after = files_below(trained)
    assert after.keys() == before.keys()
    assert remaining(after, apart=("results.json",)) == remaining(before, apart=("results.json",))
    assert json.loads(after["results.json"])["targets"][0]["per_query"]


def test_a_full_disk_at_the_very_start(refused, toml, tiny, common, monkeypatch):
    fill_disk(monkeypatch, "environment.json")
    refused(["run", toml(tiny), *common], "StorageError", "environment.json")


def test_a_damaged_log(refused, toml, tiny, common, trained):
    log = trained / "log.jsonl"
    log.write_text("{\n" + log.read_text())
    (trained / "results.json").unlink()
    (trained / "checkpoints" / "epoch_2").rename(trained / "epoch_2")
    refused(["run", toml(tiny), *common, "--resume"], "log.jsonl:1", "Remove the line")


def forbid(monkeypatch, below):
    """Let every attempt to make a file or folder in ``below`` fail as without write permission."""
    make_file, make_folder = tempfile.mkstemp, Path.mkdir

    def refuse(path):
        if Path(path).is_relative_to(below):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def mkstemp(*arguments, **options):
        refuse(options["dir"])
        return make_file(*arguments, **options)

    def mkdir(self, *arguments, **options):
        if not self.exists():
            refuse(self)
        return make_folder(self, *arguments, **options)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(Path, "mkdir", mkdir)


def test_no_write_permission_for_the_run(refused, toml, tiny, common, tmp_path, monkeypatch):
    forbid(monkeypatch, tmp_path / "out")
    words = ["StorageError", "Permission denied", f"Check the permissions of {tmp_path}, or choose another folder."]
    refused(["run", toml(tiny), *common], *words)
    assert not (tmp_path / "out").exists()


def test_no_write_permission_for_the_results(refused, trained, data_root, monkeypatch, files_below):
    before = files_below(trained)
    forbid(monkeypatch, trained)
    words = ["StorageError", "results.json: cannot be written: Permission denied", f"permissions of {trained}"]
    refused(["evaluate", trained, "--data", data_root, "--workers", 0], *words)
    assert files_below(trained) == before


def test_an_evaluation_that_would_change_the_training(refused, trained, data_root, files_below):
    before = files_below(trained)
    for assignment, key in (("source=[]", "source"), ("seed=4", "seed"), ("matcher.dim=8", "matcher")):
        words = ["ConfigError", f"cannot be changed any more ({key})", "target and evaluation only"]
        refused(["evaluate", trained, "--data", data_root, "--set", assignment], *words)
    assert files_below(trained) == before
