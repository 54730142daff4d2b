"""FAISS behind the interface of :class:`~reid.search.index.EmbeddingIndex`; nothing else imports the package."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid.errors import CheckpointError, ConfigError
from reid.search._exact import Best

FaissKind = Literal["faiss_flat", "faiss_ivf", "faiss_hnsw"]

IMAGES_PER_CELL = 39  # of an inverted file, at least: FAISS warns below
CELLS_PER_ROOT = 4  # cells of an inverted file, as a multiple of the root of the gallery's size
CELLS_SEARCHED = 1 / 16  # of all, and at least ...
LEAST_CELLS = 8
LINKS = 32  # of each image in the graph
BREADTH_BUILT = 80  # candidates kept while an image is linked
BREADTH_SEARCHED = 128  # candidates kept while the graph is searched, at least twice as many as are wanted


def faiss_module() -> Any:
    """The package. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise ConfigError(
            "search: wanted the package faiss-cpu, found none. Install it: pip install -e '.[search]', or use kind "
            "'exact'."
        ) from None


def build(embedding_GD: NDArray[np.float32], kind: FaissKind) -> Any:
    """A FAISS index of dot products; its cells are drawn with FAISS's own fixed seed."""
    faiss = faiss_module()
    num, dim = embedding_GD.shape
    if kind == "faiss_flat":
        index = faiss.IndexFlatIP(dim)
    elif kind == "faiss_ivf":
        cells = max(1, min(round(CELLS_PER_ROOT * math.sqrt(num)), num // IMAGES_PER_CELL))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(embedding_GD)
    else:
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BREADTH_BUILT
    index.add(embedding_GD)
    return index


def search(index: Any, query_QD: NDArray[np.float32], k: int) -> Best:
    """The ``k`` images that the index finds best; queries that it finds fewer for are compared with all images."""
    faiss = faiss_module()
    everything = None
    if isinstance(index, faiss.IndexIVF):
        cells = min(index.nlist, max(LEAST_CELLS, math.ceil(CELLS_SEARCHED * index.nlist)))
        how, everything = (faiss.SearchParametersIVF(nprobe=number) for number in (cells, index.nlist))
    elif isinstance(index, faiss.IndexHNSW):
        how = faiss.SearchParametersHNSW(efSearch=max(BREADTH_SEARCHED, 2 * k))
    else:
        how = None
    score_QK, idx_QK = index.search(query_QD, k, params=how)
    short_N = np.flatnonzero((idx_QK < 0).any(axis=1))
    if len(short_N):
        whole = faiss.downcast_index(index.storage) if everything is None else index
        score_QK[short_N], idx_QK[short_N] = whole.search(query_QD[short_N], k, params=everything)
    order_QK = np.lexsort((idx_QK, -score_QK), axis=1)
    return tuple(np.take_along_axis(found_QK, order_QK, axis=1) for found_QK in (idx_QK, score_QK))  # type: ignore[return-value]


def write(index: Any, file: Path) -> None:
    """Write an index in FAISS's own form."""
    try:
        faiss_module().write_index(index, str(file))
    except RuntimeError as error:
        raise OSError(f"FAISS: {error}") from error


def read(file: Path) -> Any:
    """Read an index that :func:`write` wrote. Raises CheckpointError where that cannot be."""
    try:
        return faiss_module().read_index(str(file))
    except RuntimeError:
        raise CheckpointError(
            f"{file}: wanted a FAISS index, found none that can be read. Build the index anew."
        ) from None
