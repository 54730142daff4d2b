"""``python -m benchmarks.end_to_end RUN... --data FOLDER``: a trained run's test, by the reference scorer and by ours.

Images are encoded alike in all rows (float32); what differs is how pairs are scored. Both the seconds of scoring and
of everything from image files to metrics are shown, with what becomes of Rank-1 and mAP.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks import pages
from benchmarks._speed_table import RESULTS
from benchmarks.pair_scoring import weights
from reid.domains import Target, open_domains
from reid.engine.extract import Extraction
from reid.engine.model import Model
from reid.engine.retrieve import Shortcuts, retrieve
from reid.evaluation.labels import Labels
from reid.evaluation.metrics import retrieval_metrics
from reid.evaluation.ranking import rank_matches
from reid.evaluation.scoring import Scoring
from reid.files import write_json
from reid.kernels import native
from reid.matchers.qaconv import QAConv
from reid.matchers.transmatcher import TransMatcher
from reid.memory import keep_freed_memory
from reid.models import load_model
from reid.progress import Terminal
from reid.runs import RunFolder, Session, commit, machine
from reid.types import ImageState, StatePrecision
from tests.reference.einsum import qaconv_scores, transmatcher_scores

BLOCK = 32


class EinsumTransMatcher(TransMatcher):
    """The released arrangement: levels are kept, and projected anew in every block."""

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """Levels, before their projection."""
        return ImageState({"levels": torch.stack(self.levels(maps), dim=1)})

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """By the frozen reference."""
        layers = [weights(self, f"decoder.layers.{level}.") for level in range(self.config.num_layers)]
        norm = weights(self, "decoder.norm.")
        return _in_blocks(
            lambda q, g: transmatcher_scores(q["levels"].unbind(1), g["levels"].unbind(1), layers, norm), query, gallery
        )


class EinsumQAConv(QAConv):
    """QAConv with the frozen reference's scores."""

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """By the frozen reference."""
        return _in_blocks(lambda q, g: qaconv_scores(q["features"], g["features"], weights(self, "")), query, gallery)


REFERENCES = {TransMatcher: EinsumTransMatcher, QAConv: EinsumQAConv}
WAYS: dict[str, tuple[StatePrecision, float | None, bool]] = {
    "reid, float32": ("float32", None, False),
    "reid, bfloat16": ("bfloat16", None, False),
    "reid, int8": ("bfloat16", None, True),
    "reid, bfloat16, keys cut to half": ("bfloat16", 0.5, False),
    "reid, int8, keys cut to half": ("bfloat16", 0.5, True),
    "reid, bfloat16, keys cut to a quarter": ("bfloat16", 0.25, False),
}


def _in_blocks(score, query: ImageState, gallery: ImageState) -> Tensor:  # type: ignore[no-untyped-def]
    rows = [torch.cat([score(q, g) for g in gallery.split(BLOCK)], dim=1) for q in query.split(BLOCK)]
    return torch.cat(rows)


def rows_of(run: RunFolder, session: Session) -> Iterator[dict[str, object]]:
    """One row a target and way."""
    experiment = run.experiment()
    for target in open_domains(experiment, session).targets:
        _tested(load_model(run), target, "reid, float32", session)  # its files are in the system's cache from here on
        base: dict[str, float] = {}
        for way in ("einsum, float32", *WAYS):
            model = load_model(run)
            if way not in WAYS:
                model.matcher.__class__ = REFERENCES[type(model.matcher)]
            elif not _possible(way, model):
                continue
            found = _tested(model, target, way, session)
            base = base or found
            yield {
                "run": experiment.title,
                "target": target.label,
                "way": way,
                **found,
                "scoring, times as fast": base["scoring s"] / found["scoring s"],
                "all, times as fast": base["all s"] / found["all s"],
            }


def _possible(way: str, model: Model) -> bool:
    _, share, int8 = WAYS[way]
    has_rank = share is None or isinstance(model.matcher, TransMatcher)
    return has_rank and (not int8 or native.amx().library is not None)


def _tested(model: Model, target: Target, way: str, session: Session) -> dict[str, float]:
    keep_freed_memory(way in WAYS)
    precision, share, int8 = WAYS.get(way, ("float32", None, False))
    rank = None if share is None else int(model.matcher.config.dim * share)  # type: ignore[union-attr]
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        found = retrieve(
            model,
            target.query,
            target.gallery,
            Extraction(num_workers=session.num_workers, states=precision),
            scoring=Scoring(),
            shortcuts=Shortcuts(rank, int8),
            out=Path(folder) / "scores.npy",
            progress=session.progress,
        )
        ranking = rank_matches(found.scores.score_QG, Labels.of(target.query), Labels.of(target.gallery))
        metrics = retrieval_metrics(ranking)
    facts = {
        "rank1": metrics.rank(1),
        "mAP": metrics.mAP,
        "scoring s": found.scores.score_s,
        "all s": time.perf_counter() - started,
        "pairs/s": found.scores.pairs_per_s,
    }
    if found.agreement is not None:
        facts["spearman"] = found.agreement.spearman
    return facts


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, default=Path("datasets"))
    arguments = parser.parse_args()
    session = Session(arguments.data, torch.device("cpu"), 1, Terminal())
    runs = [RunFolder(path) for path in arguments.runs]
    for run in runs:
        if type(load_model(run).matcher) not in REFERENCES:
            parser.error(f"{run.path}: the reference scores TransMatcher and QAConv only")
    rows = [row for run in runs for row in rows_of(run, session)]
    print(f"\nend_to_end on {machine()}\n" + tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4g"))
    facts = {"name": "end_to_end", "machine": machine(), "commit": commit(), "rows": rows}
    write_json(RESULTS / "end_to_end.json", facts)
    pages.update()


if __name__ == "__main__":
    main()
