"""Quality over time of two stages, on tiny runs."""

import json

import pytest
import torch

from reid import curve as measuring
from reid.curve import measure_curves
from reid.errors import CheckpointError, ConfigError, ProtocolError
from reid.evaluate import evaluate
from reid.evaluation import states
from reid.evaluation.curve import Curves
from reid.evaluation.states import _mapped as mapped
from reid.pipeline import Pipeline

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}
EMBEDDING = {"matcher": {"name": "embedding", "stride": 8}, "stage": []}
FLOAT32 = "evaluation.state_precision=float32"
QACONV = {"matcher": {"name": "qaconv", "stride": 8, "dim": 8}, "stage": [], "title": "another"}


@pytest.fixture
def first(made):
    return made("first", **EMBEDDING)


@pytest.fixture
def second(made):
    """Its backbone is another one."""
    return made("second", stage=[], seed=1)


def test_a_shorter_list_is_the_head_of_the_longest(first, second, session):
    ks = (1, 3, 4, 15)
    found = measure_curves(first, [second], session, top_ks=ks, assignments=[FLOAT32])
    (curve,) = found.curves
    (line,) = curve.lines
    assert [point.top_k for point in line.points] == list(ks)
    for point in line.points:
        pipeline = Pipeline(first, second, point.top_k, "replace")
        (wanted,) = evaluate(first, session, assignments=[FLOAT32], pipeline=pipeline)[0].targets
        assert point.figures.mAP == pytest.approx(wanted.mAP, abs=1e-12)
        assert point.figures.rank1 == wanted.rank1
        assert point.oracle == wanted.reranked.oracle
        assert curve.first == wanted.reranked.first
        assert point.query_s == pytest.approx(line.encode_s + curve.score_s + point.rescore_s)
    assert len({point.figures.mAP for point in line.points}) > 2
    assert min(curve.encode_s, curve.score_s, line.encode_s, line.points[0].rescore_s) > 0
    assert (curve.target, curve.num_query, curve.num_gallery, curve.camera_rule) == ("market1501", 10, 15, "on")
    assert not curve.counts_checked
    assert not line.one_backbone
    assert (found.method, line.method) == ("tiny, seed 0", "tiny, seed 1")


def test_several_second_stages_are_lines_of_one_curve(first, second, made, session):
    on_its_maps = made("third", **QACONV)  # the first stage's seed, so its backbone
    found = measure_curves(first, [second, on_its_maps, second], session, top_ks=[5, 2, 2])
    (curve,) = found.curves
    assert [line.method for line in curve.lines] == [
        "tiny, seed 1 (second, 1)",
        "another, seed 0",
        "tiny, seed 1 (second, 3)",
    ]
    assert [line.one_backbone for line in curve.lines] == [False, True, False]
    one, _, again = ([point.figures for point in line.points] for line in curve.lines)
    assert one == again
    assert {tuple(point.top_k for point in line.points) for line in curve.lines} == {(2, 5)}


def test_time_is_taken_of_what_is_compared(first, second, session, monkeypatch):
    """The clock runs as many ticks as there are pairs."""
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    rescore = measuring.rescore

    def counted(score, query, gallery, shortlist, images, *, how):
        assert len(query) == 1
        now[0] += shortlist.gallery_idx_QK.size
        return rescore(score, query, gallery, shortlist, images, how=how)

    monkeypatch.setattr(measuring, "rescore", counted)
    (curve,) = measure_curves(first, [second], session, top_ks=[2, 7]).curves
    assert [point.rescore_s for point in curve.lines[0].points] == [2.0, 7.0]


def test_what_is_beyond_the_memory_is_measured_in_pieces(first, second, session, monkeypatch):
    files, sizes = [], []
    monkeypatch.setattr(states, "_mapped", lambda layout, file: files.append(file.name) or mapped(layout, file))
    rescore = measuring.rescore

    def watched(score, *args, **how):
        return rescore(lambda query, gallery: sizes.append(len(gallery)) or score(query, gallery), *args, **how)

    monkeypatch.setattr(measuring, "rescore", watched)
    memory = 12 * 2 * 2 * 2 * 32 * 16 / 2**30  # blocks of two states: bfloat16, layers, positions, channels
    measure_curves(first, [second], session, top_ks=[7], assignments=[f"evaluation.memory_gib={memory}"])
    assert files == ["market1501.queries", "market1501.gallery", "market1501.gallery"]
    assert set(sizes) == {1, 2}


def test_the_first_of_the_timed_warms_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])

    def steps(*seconds):
        for number, taken in enumerate(seconds):
            now[0] += taken
            yield number

    for taken, wanted in (((100, 3, 1, 2), 2), ((5,), 5)):
        values, median = measuring._timed(steps(*taken), torch.device("cpu"))
        assert (values, median) == (list(range(len(taken))), wanted)


def test_held_out_people_are_tested_where_they_are_new_to_all(made, session):
    first = made("first", **EMBEDDING, validation_pids=3)
    alike, trained = made("second", stage=[], validation_pids=3), made("third")
    for second, wanted in ((alike, ["market1501", "validation"]), (trained, ["market1501"])):
        found = measure_curves(first, [second], session, top_ks=[2])
        assert [curve.target for curve in found.curves] == wanted


def test_what_cannot_be_measured(first, second, made, session):
    for lengths, said in (
        ([0, 2], r"wanted numbers from 1, found 0, 2\."),
        ([], r"wanted numbers from 1, found none\."),
        ([2, 16], "top_k = 16: wanted at most the 15 images of the gallery of market1501"),
    ):
        with pytest.raises(ConfigError, match=said):
            measure_curves(first, [second], session, top_ks=lengths)
    with pytest.raises(ConfigError, match="no classical re-ranking beside a second stage"):
        measure_curves(first, [second], session, top_ks=[2], assignments=["evaluation.rerank=[{name='tlift'}]"])
    with pytest.raises(ConfigError, match=r"wanted at least one \[\[target\]\]"):
        measure_curves(first, [second], session, top_ks=[2], assignments=["target=[]"])
    with pytest.raises(ConfigError, match="wanted exact scores to re-rank, found key_rank"):
        measure_curves(first, [second], session, top_ks=[2], assignments=["evaluation.key_rank=4"])
    leaking = made("leaking", source=[{**MARKET, "train": "all"}], target=[])
    with pytest.raises(ProtocolError):
        measure_curves(first, [leaking], session, top_ks=[2])
    with pytest.raises(CheckpointError, match="wanted a run folder"):
        measure_curves(first, [type(first)(first.path / "nowhere")], session, top_ks=[2])


def test_the_command(reid, first, second, drawn_root, tmp_path):
    where = "--data", drawn_root, "--device", "cpu", "--workers", 0
    code, shown, _ = reid("curve", first.path, "--rerank", second.path, "--top-k", "1, 4", *where)
    assert code == 0
    rows = [line.split("|")[3].strip() for line in shown.splitlines() if line.startswith("| market1501")]
    assert rows == ["0", "1", "4"]
    read = Curves.model_validate(json.loads((first.path / "curve.json").read_text()))
    assert [point.top_k for point in read.curves[0].lines[0].points] == [1, 4]
    assert (first.path / "figures" / "curve_market1501.png").stat().st_size > 1000
    assert not first.results.exists()
    code, shown, _ = reid(
        *("curve", first.path, "--rerank", second.path, "--rerank", first.path, "--top-k", 3, "--out", tmp_path / "o"),
        *where,
    )
    assert code == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"curve.json", "figures"}
    for wrong in ("1,,2", "a", "0", "-1"):
        code, _, error = reid("curve", first.path, "--rerank", second.path, f"--top-k={wrong}")
        assert (code, f"--top-k {wrong}: wanted numbers from 1" in error) == (2, True)
