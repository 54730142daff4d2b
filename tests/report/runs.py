"""Results objects for the tests of this folder, filled by hand."""

from reid.evaluation.metrics import MAX_RANK
from reid.evaluation.reranked import Figures, Reranked
from reid.evaluation.results import RunResult, Stamp, TargetResult


def target(label: str = "market1501", **changes: object) -> TargetResult:
    facts = {
        "target": label,
        "counts_checked": True,
        "camera_rule": "on",
        "rank1": 0.5,
        "rank5": 0.75,
        "rank10": 0.75,
        "mAP": 0.25,
        "mAP_trapezoid": 0.125,
        "mINP": 0.0625,
        "cmc": (0.5, *(0.75,) * (MAX_RANK - 1)),
        "num_query": 8,
        "num_query_counted": 8,
        "num_gallery": 100,
        "unmatched": {},
        "extract_s": 1.0,
        "score_s": 1.0,
        "rank_s": 0.5,
        "pairs_per_s": 800.0,
    }
    return TargetResult.model_validate({**facts, **changes})


def run(*targets: TargetResult, **changes: object) -> RunResult:
    stamp = {
        "sources": ("msmt17",),
        "seed": 3,
        "image_size": (384, 128),
        "normalisation": "ImageNet",
        "precision": "bfloat16",
        "backbone": "resnet",
        "matcher": "transmatcher",
        "parameters": 1,
        "commit": "abc1234",
    }
    facts = {
        "title": "a run",
        "targets": targets,
        "machine": "2 cores",
        "stamp": Stamp.model_validate({**stamp, **changes}),
    }
    return RunResult.model_validate(facts)


def reranked(**changes: object) -> Reranked:
    facts = {
        "top_k": 100,
        "fusion": "replace",
        "weight": None,
        "first": Figures(rank1=0.4, mAP=0.2),
        "oracle": Figures(rank1=0.9, mAP=0.6),
        "shuffled": Figures(rank1=0.1, mAP=0.1),
        "share_of_oracle": 0.125,
        "rescore_s": 3.0,
        "gain": 0.05,
        "gain_low": 0.04,
        "gain_high": 0.06,
    }
    return Reranked.model_validate({**facts, **changes})
