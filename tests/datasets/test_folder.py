import pytest

from reid.datasets.folder import Config, Folder
from reid.errors import DatasetError
from tests.datasets._trees import rows, touch


def load(root, **options):
    return Folder(Config(root=root, **options)).load(root)


def table(tmp_path, text, images=("a.jpg", "b.jpg", "sub/c.png")):
    touch(tmp_path, images)
    path = tmp_path / "people.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_tree_of_identities_is_for_training(tmp_path):
    touch(tmp_path / "mine", ["anna/2.jpg", "anna/1.jpg", "bob/1.png", "anna/.DS_Store"])
    data = load(tmp_path / "mine")
    assert rows(data.train, tmp_path / "mine") == [
        ("anna/1.jpg", 0, None, None),
        ("anna/2.jpg", 0, None, None),
        ("bob/1.png", 1, None, None),
    ]
    assert (data.label, data.counts_checked) == ("folder (mine)", False)
    assert data.train[0].source.startswith("folder:mine:")
    assert not data.query
    assert not data.gallery


def test_tree_with_splits_shares_identities_between_them(tmp_path):
    touch(tmp_path, ["train/7/x.jpg", "query/0009/x.jpg", "gallery/9/y.jpg", "gallery/12/y.jpg"])
    data = load(tmp_path)
    assert [[entry.pid for entry in data.split(split)] for split in ("train", "query", "gallery")] == [
        [7],
        [9],
        [12, 9],
    ]


def test_label_names_the_set(tmp_path):
    touch(tmp_path, ["1/a.jpg"])
    data = load(tmp_path, label="lobby")
    assert data.label == "folder (lobby)"
    assert data.train[0].source == load(tmp_path).train[0].source  # a name changes nothing about who is who


def test_people_are_those_of_the_root(tmp_path):
    for place in ("p", "q"):
        touch(tmp_path / place / "images", ["anna/a.jpg", f"{place}ete/a.jpg"])
    one, other = (load(tmp_path / place / "images") for place in ("p", "q"))
    assert one.label == other.label
    assert one.train[0].source != other.train[0].source
    assert load(tmp_path / "p" / ".." / "p" / "images").train[0].source == one.train[0].source


def test_people_may_be_shared_by_roots(tmp_path):
    touch(tmp_path / "p", ["anna/a.jpg", "bob/a.jpg", "17/a.jpg"])
    touch(tmp_path / "q", ["bob/a.jpg", "carl/a.jpg", "017/a.jpg"])
    one, other = (load(tmp_path / place, people="shop").train for place in ("p", "q"))
    assert {record.source for record in (*one, *other)} == {"folder:shop"}
    seventeen, anna, bob = (record.pid for record in one)
    assert seventeen == 17
    assert [record.pid for record in other][:2] == [17, bob]
    assert len({anna, bob, other[2].pid, 17}) == 4


def test_csv(tmp_path):
    path = table(
        tmp_path,
        "path,pid,camid,time_s,split,role\n"
        "sub/c.png,5,north,12.5,query,\n"
        "b.jpg,5,south,,gallery,person\n"
        "a.jpg,,south,3,gallery,junk\n",
    )
    data = load(path)
    assert rows(data.query, tmp_path) == [("sub/c.png", 5, 0, 12.5)]
    assert rows(data.gallery, tmp_path) == [("a.jpg", -1, 1, 3.0), ("b.jpg", 5, 1, None)]
    assert [entry.role for entry in data.gallery] == ["junk", "person"]


def test_csv_of_the_two_required_columns(tmp_path):
    data = load(table(tmp_path, "\ufeffpid,path\nx,a.jpg\ny,b.jpg\n"))
    assert rows(data.train, tmp_path) == [("a.jpg", 0, None, None), ("b.jpg", 1, None, None)]


def test_unknown_column_names_the_nearest(tmp_path):
    with pytest.raises(DatasetError, match=r"unknown column 'cam_id'. Did you mean 'camid'\?"):
        load(table(tmp_path, "path,pid,cam_id\na.jpg,1,2\n"))


@pytest.mark.parametrize("header", ["path", "pid,camid", "path,pid,pid", ""])
def test_missing_or_doubled_column_is_an_error(tmp_path, header):
    with pytest.raises(DatasetError, match="wanted the columns path and pid, each column once"):
        load(table(tmp_path, header + "\n"))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("gone.jpg,1,,,", r"no image file .*gone\.jpg"),
        ("a.jpg,,,,", "no pid"),
        ("a.jpg,-1,,,", "pid -1; junk is a role"),
        ("a.jpg,1,noon,,", "time_s 'noon', wanted seconds"),
        ("a.jpg,1,nan,,", "time_s 'nan', wanted seconds"),
        ("a.jpg,1,,test,", "split 'test', wanted train, query, gallery"),
        ("a.jpg,1,,,ghost", "role 'ghost', wanted person, distractor, junk"),
        ("a.jpg,1,,,,more", "more values than columns"),
    ],
)
def test_bad_line_is_an_error_with_its_number(tmp_path, line, problem):
    with pytest.raises(DatasetError, match=rf"1 of 2 lines cannot be used: line 3: {problem}"):
        load(table(tmp_path, f"path,pid,time_s,split,role\nb.jpg,1,,,\n{line}\n"))


def test_csv_that_is_no_text_is_an_error(tmp_path):
    path = tmp_path / "people.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="cannot be read as CSV"):
        load(path)


def test_no_root_and_no_such_root_are_errors(tmp_path):
    with pytest.raises(DatasetError, match="found no root"):
        load(None)
    with pytest.raises(DatasetError, match="found nothing at root"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["1/a.jpg", "loose.jpg"], "one folder per identity"),
        (["train/1/a.jpg", "other/1/a.jpg"], "only train, query, gallery"),
        (["1/a.txt"], "image files only"),
        (["1/a.jpg", "1/cam2/b.jpg"], "the images of one identity and no folders"),
        (["1/a.jpg", "2/.keep"], "wanted images of an identity in .*2, found none"),
        (["Train/1/a.jpg", "Query/1/a.jpg"], "beside each other only train, query, gallery"),
        (["gallery/-1/a.jpg", "gallery/5/a.jpg"], "found -1. Junk is a role"),
    ],
)
def test_strange_names_are_errors(tmp_path, files, wanted):
    touch(tmp_path, files)
    with pytest.raises(DatasetError, match=wanted):
        load(tmp_path)


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="found none"):
        load(tmp_path)


def test_a_query_that_would_find_itself_is_an_error(tmp_path):
    lines = "path,pid,split,camid\na.jpg,1,query,{0}\na.jpg,1,gallery,{0}\nb.jpg,1,gallery,{1}\n"
    with pytest.raises(
        DatasetError, match=r"wanted queries that are not in the gallery as well, found 1 that are: .*a\.jpg"
    ):
        load(table(tmp_path, lines.format("", "")))
    assert len(load(table(tmp_path, lines.format("1", "2"))).query) == 1  # the camera rule takes it out
