"""Seconds and memory of TLift and of k-reciprocal re-ranking, against the formulations of the released codes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_mib
from reid.reranking._sightings import Sightings
from reid.reranking.k_reciprocal import Config, rerank_embeddings
from reid.reranking.tlift import Config as TLiftConfig
from reid.reranking.tlift import tlift
from tests.reference import k_reciprocal as k_reciprocal_reference
from tests.reference import tlift as tlift_reference

NAME = "reranking"
DIM = 512
TLIFT = (3368, 15913)  # Market-1501's queries and gallery
CAMERAS, HOURS = 6, 2
K_RECIPROCAL, PIDS = (2000, 8000), 750
MSMT17, MSMT17_PIDS = (11659, 82161), 3060
LOOPS, OURS = "TLift: a loop over queries and cameras", "TLift: reid"
DENSE, SPARSE = "k-reciprocal, 2,000 + 8,000: full matrices", "k-reciprocal, 2,000 + 8,000: reid"
FULL = "k-reciprocal, MSMT17 (11,659 + 82,161): reid"
GOALS = {OURS: 10.0, SPARSE: 5.0}
FULL_MIB = 8.0 * 1024


def measure() -> list[Row]:
    """Rows: both re-rankings by the reference and by us, then the k-reciprocal one at MSMT17's size."""
    seconds = medians(cases(), rounds=1)
    rows = []
    for reference, ours in ((LOOPS, OURS), (DENSE, SPARSE)):
        for case in (reference, ours):
            ratio = seconds[reference] / seconds[case]
            rows.append(Row(case, seconds[case], "s", ratio, peak_mib(NAME, case), GOALS.get(case)))
    return rows + full_size()


def full_size() -> list[Row]:
    """Rows: one run at MSMT17's size in a process of its own, whose memory is counted whole."""
    command = [sys.executable, "-c", f"from benchmarks import {NAME}; {NAME}.run_full_size()"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found = json.loads(run.stdout)
    note = "the whole process: libraries, embeddings, 3.6 GiB of scores"
    return [
        Row(FULL, found["s"], "s", 1.0, found["mib"], note=f"one run, {found['used_s']:,.0f} s of a core"),
        Row(f"{FULL}, memory", found["mib"], "MiB", 1.0, found["mib"], FULL_MIB, note, goal_is_value=True),
    ]


def run_full_size() -> None:
    """Print seconds and this process's peak of resident memory as JSON."""
    query_QD, gallery_GD = _embeddings(MSMT17, MSMT17_PIDS)
    started, used = time.perf_counter(), time.process_time()
    rerank_embeddings(torch.from_numpy(query_QD), torch.from_numpy(gallery_GD), how=Config())
    elapsed_s, used_s = time.perf_counter() - started, time.process_time() - used
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"s": elapsed_s, "used_s": used_s, "mib": int(peak) / 1024}))


def cases() -> dict[str, Callable[[], object]]:
    """Name -> re-rank."""
    rng = np.random.default_rng(0)
    score_QG = rng.random(TLIFT, dtype=np.float32)
    query, gallery = (Sightings(rng.integers(CAMERAS, size=num), rng.random(num) * 3600 * HOURS) for num in TLIFT)
    query_QD, gallery_GD = _embeddings(K_RECIPROCAL, PIDS)
    return {
        LOOPS: partial(_loops, score_QG, query, gallery, TLiftConfig()),
        OURS: partial(tlift, score_QG, query, gallery=gallery),
        DENSE: partial(_dense, query_QD, gallery_GD, Config()),
        SPARSE: partial(rerank_embeddings, torch.from_numpy(query_QD), torch.from_numpy(gallery_GD)),
    }


def _loops(score_QG: NDArray[np.float32], query: Sightings, gallery: Sightings, how: TLiftConfig) -> None:
    tlift_reference.tlift(
        *(score_QG, query.camid_N, query.time_s_N, gallery.camid_N, gallery.time_s_N),
        tau=how.tau_s,
        sigma=how.sigma_s,
        num_pivots=how.num_pivots,
        alpha=how.alpha,
    )


def _dense(query_QD: NDArray[np.float32], gallery_GD: NDArray[np.float32], how: Config) -> None:
    sides = ((query_QD, gallery_GD), (query_QD, query_QD), (gallery_GD, gallery_GD))
    distances = [k_reciprocal_reference.euclidean(*pair) for pair in sides]
    k_reciprocal_reference.rerank(*distances, how.k1, how.k2, how.distance_weight)


def _embeddings(num: tuple[int, int], num_pids: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normalised embeddings of queries and gallery around one centre a person."""
    rng = np.random.default_rng(0)
    centre_PD = rng.standard_normal((num_pids, DIM), dtype=np.float32)
    embedding_ND = rng.standard_normal((sum(num), DIM), dtype=np.float32)
    embedding_ND += centre_PD[rng.integers(num_pids, size=sum(num))]
    embedding_ND /= np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    return embedding_ND[: num[0]], embedding_ND[num[0] :]
