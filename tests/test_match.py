"""Where two image files match, by tiny runs."""

import pytest
import torch
from PIL import Image

import reid as package
from reid.errors import CheckpointError, ConfigError, ImageError
from reid.match import match_images
from tests.drawn import TRANSMATCHER

CPU = torch.device("cpu")
QACONV = {"name": "qaconv", "stride": 8, "dim": 8}


@pytest.fixture
def files(drawn_root):
    query, gallery = sorted((drawn_root / "market" / "query").glob("*.jpg"))[:2]
    return query, gallery


@pytest.fixture
def run(made):
    return made("run", stage=[])


@pytest.mark.parametrize("matcher", [{**TRANSMATCHER, "decoder_feedforward": 32}, QACONV])
def test_score_and_places_are_the_models(made, files, matcher):
    run = made("run", matcher=matcher, stage=[])
    found = match_images(*files, run, CPU)
    model = package.load(run.path)
    query, gallery = (model.encode(path) for path in files)
    assert found.score == pytest.approx(model.score(query, gallery).item(), abs=1e-5)
    with torch.no_grad():
        (wanted,) = model.matcher.correspond(query, gallery)
    torch.testing.assert_close(found.found.gallery_N2, wanted.gallery_N2)
    assert found.found.kind == "maximum"
    assert found.query.shape == found.gallery.shape == (64, 32, 3)  # as the model saw them
    assert found.caption == f"{files[0].name}  →  {files[1].name}"


@pytest.mark.parametrize(
    ("matcher", "why"),
    [
        ({"name": "embedding", "stride": 8}, "found embedding: it compares one vector an image"),
        (
            {"name": "rrt", "strides": [8], "dim": 16, "num_layers": 1, "feedforward": 16},
            "found rrt: it has attention maps, and those are not correspondences",
        ),
        (
            {**TRANSMATCHER, "decoder_feedforward": 32, "pool": "mean"},
            "found transmatcher: it takes means over all places",
        ),
    ],
)
def test_matchers_that_do_not_say_where(made, files, matcher, why):
    with pytest.raises(ConfigError, match=why):
        match_images(*files, made("run", matcher=matcher, stage=[]), CPU)


def test_images_and_runs_that_are_not_there(run, files, tmp_path):
    with pytest.raises(ImageError, match=r"nobody\.jpg: wanted an image, found no such file\. Check its name"):
        match_images(files[0], tmp_path / "nobody.jpg", run, CPU)
    with pytest.raises(ImageError, match=r"found a folder\. Name an image file"):
        match_images(files[0], tmp_path, run, CPU)
    with pytest.raises(CheckpointError, match="wanted a run folder"):
        match_images(*files, type(run)(tmp_path / "nowhere"), CPU)


def test_the_command(reid, run, files, tmp_path):
    where = "--run", run.path, "--device", "cpu"
    code, shown, _ = reid("match", *files, *where)
    score, places, picture = shown.splitlines()
    assert code == 0
    assert float(score.split()[1]) == pytest.approx(match_images(*files, run, CPU).score, rel=1e-3, abs=1e-3)
    assert places.startswith("correspondences: 32, kind maximum: for each place of the query image")
    file = run.figures / f"match_{files[0].stem}_{files[1].stem}.png"
    assert picture == f"picture: {file}"
    with Image.open(file) as image:
        assert image.format == "PNG"
    code, shown, _ = reid("match", *files, *where, "--out", tmp_path / "new" / "mine.png")
    assert code == 0
    assert (tmp_path / "new" / "mine.png").stat().st_size > 1000


def test_pictures_of_other_images_are_not_overwritten(reid, run, files, tmp_path):
    """Names without their folder and suffix are not unique: cam1/1.jpg and cam2/1.jpg, 1.jpg and 1.png."""
    photos = [tmp_path / "cam1" / "1.jpg", tmp_path / "cam2" / "1.jpg", tmp_path / "cam1" / "1.png"]
    for photo, (image, form) in zip(photos, ((files[0], "JPEG"), (files[1], "JPEG"), (files[1], "PNG")), strict=True):
        photo.parent.mkdir(exist_ok=True)
        Image.open(image).save(photo, form)
    names = []
    for query, gallery in ((photos[0], photos[1]), (photos[0], photos[0]), (photos[2], photos[1])):
        code, shown, _ = reid("match", query, gallery, "--run", run.path, "--device", "cpu")
        assert code == 0
        names.append(shown.splitlines()[-1].removeprefix("picture: "))
    assert names == [str(run.figures / f"match_1_1{number}.png") for number in ("", "_2", "_3")]
    assert sorted(map(str, run.figures.glob("match_*"))) == sorted(names)


@pytest.mark.filterwarnings("error")
def test_names_of_any_script_and_length(reid, run, files, tmp_path):
    photo = tmp_path / ("日本" * 40 + ".jpg")
    photo.write_bytes(files[0].read_bytes())
    code, shown, error = reid("match", photo, files[1], "--run", run.path, "--device", "cpu")
    assert (code, error) == (0, "")
    picture = shown.splitlines()[-1].removeprefix("picture: ")
    assert picture == str(run.figures / f"match_{'日本' * 18}_{files[1].stem}.png")


def test_what_the_command_refuses(reid, run, files, tmp_path):
    before = files[0].read_bytes()
    mine = tmp_path / "mine.png"
    Image.open(files[0]).save(mine)
    name, beside = "wanted a file named .png, found ", "wanted a file beside the two images, found one of them"
    for query, out, why in (
        (files[0], tmp_path / "mine.jpg", f"{name}.jpg"),
        (files[0], tmp_path / "mine", f"{name}no suffix"),
        (mine, mine, beside),
        (mine, tmp_path / "x" / ".." / "mine.png", beside),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        code, _, error = reid("match", query, files[1], "--run", run.path, "--out", out)
        assert (code, why in error) == (2, True)
    assert files[0].read_bytes() == before
    code, _, _ = reid("match", *files, "--run", run.path, "--device", "cpu", "--out", tmp_path / "LOUD.PNG")
    with Image.open(tmp_path / "LOUD.PNG") as image:
        assert (code, image.format) == (0, "PNG")
    code, _, error = reid("match", *files)
    assert (code, "--run" in error) == (2, True)
    code, _, error = reid("match", *files, "--run", tmp_path)
    assert (code, "wanted a run folder" in error) == (2, True)


def test_help_teaches(reid):
    code, shown, _ = reid("match", "--help")
    text = " ".join(shown.split())
    assert code == 0
    for words in (
        "Show where two images match",
        "QUERY",
        "GALLERY",
        "comparable within a run only",
        "no proof",
        "--run",
    ):
        assert words in text
