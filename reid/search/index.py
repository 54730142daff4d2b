"""A vector index in front of any matcher: shortlists from galleries that are too large for a matrix of scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from reid.errors import CheckpointError, ConfigError, ShapeError, StorageError
from reid.evaluation.shortlist import Shortlist, gallery_digest
from reid.files import atomic_folder, write_json
from reid.search import _faiss
from reid.search._exact import best_products
from reid.types import ImageRecord

Kind = Literal["exact", _faiss.FaissKind]

SCHEMA = 1
_FACTS, _TENSORS, _FAISS = "index.json", "embedding.safetensors", "index.faiss"


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingIndex:
    """The embeddings of a gallery, to be searched by dot product: by cosine, where they have unit length.

    ``exact`` finds what :func:`~reid.evaluation.shortlist.propose` finds in the matrix of all scores, in memory that
    does not grow with the gallery but for its embeddings. ``faiss_flat`` does the same by FAISS; which of equal images
    at the list's end it takes is left open. ``faiss_ivf`` looks into a part of the gallery's cells only, ``faiss_hnsw``
    walks along a graph: both are faster and miss images. The graph differs from build to build on several threads.

    Attributes:
        kind: which of them.
        num: gallery images, G.
        dim: channels of an embedding, D.
        gallery: digest of the gallery, see :func:`~reid.evaluation.shortlist.gallery_digest`.

    Source of the approximate kinds: Douze et al., The Faiss library, 2024; Malkov and Yashunin, Efficient and Robust
    Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World Graphs, TPAMI 2020.
    """

    kind: Kind
    num: int
    dim: int
    gallery: str
    _vectors: Any  # a tensor [G, D], or what FAISS makes of it

    @classmethod
    def build(
        cls,
        embedding_GD: Tensor | NDArray[np.floating],
        gallery: Sequence[ImageRecord],
        kind: Kind = "exact",
    ) -> EmbeddingIndex:
        """Make an index.

        Args:
            embedding_GD: of the gallery images, [G, D], any floating dtype, kept as float32.
            gallery: the G images.
            kind: see the class.

        Raises:
            ShapeError: there is not one embedding an image, or one is not finite.
            ConfigError: the kind is unknown, or wants FAISS and there is none.
        """
        _refuse_unknown(kind)
        vector_GD = _vectors(embedding_GD, "gallery")
        if not gallery or len(vector_GD) != len(gallery):
            raise ShapeError(
                f"search: wanted an embedding for each of the {len(gallery):,} gallery images, at least one, found "
                f"{len(vector_GD):,}."
            )
        held = vector_GD if kind == "exact" else _faiss.build(vector_GD.numpy(), kind)
        num, dim = vector_GD.shape
        return cls(kind, num, dim, gallery_digest(gallery), held)

    def search(self, query_QD: Tensor | NDArray[np.floating], k: int) -> Shortlist:
        """The ``k`` best gallery images of each query, with their dot products; of equal ones, the earlier first.

        Args:
            query_QD: embeddings, [Q, D], any floating dtype.
            k: how many.

        Raises:
            ConfigError: the gallery has fewer images, or the index wants FAISS and there is none.
            ShapeError: ``k`` is below 1, or the embeddings have another dimension or are not finite.
        """
        vector_QD = _vectors(query_QD, "query")
        if vector_QD.shape[1] != self.dim:
            raise ShapeError(
                f"search: wanted query embeddings of {self.dim} channels, as the gallery's, found "
                f"{vector_QD.shape[1]}. Compute both with the same model."
            )
        if k < 1:
            raise ShapeError(f"search: wanted k >= 1, found {k}.")
        if k > self.num:
            raise ConfigError(
                f"search: wanted k of at most the {self.num:,} images of the gallery, found {k}. Ask for fewer."
            )
        if self.kind == "exact":
            return Shortlist(*best_products(vector_QD, self._vectors, k), self.gallery)
        return Shortlist(*_faiss.search(self._vectors, vector_QD.numpy(), k), self.gallery)

    def save(self, folder: Path) -> None:
        """Write the index into a folder of its own; an index that stands there is replaced.

        Raises:
            StorageError: the folder cannot be written, or holds something else.
        """
        if folder.exists() and not (folder / _FACTS).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder}: wanted a new folder or one with an index, found something else. Choose one.")
        facts = {"schema": SCHEMA, "kind": self.kind, "num": self.num, "dim": self.dim, "gallery": self.gallery}
        with atomic_folder(folder) as temporary:
            if self.kind == "exact":
                (temporary / _TENSORS).write_bytes(safetensors.save({"embedding": self._vectors}))
            else:
                _faiss.write(self._vectors, temporary / _FAISS)
            write_json(temporary / _FACTS, facts)

    @classmethod
    def load(cls, folder: Path, gallery: Sequence[ImageRecord] | None = None) -> EmbeddingIndex:
        """Read an index that :meth:`save` wrote.

        Args:
            folder: where.
            gallery: the images it must be of, in order; None: whoever uses a shortlist has to look
                (:meth:`~reid.evaluation.shortlist.Shortlist.refuse_other`).

        Raises:
            CheckpointError: a file is missing, damaged or of a newer schema.
            ConfigError: the index wants FAISS and there is none.
            ShapeError: it is an index of another gallery.
        """
        facts = _read_facts(folder / _FACTS)
        if gallery is not None and gallery_digest(gallery) != facts["gallery"]:
            raise ShapeError(
                f"{folder}: wanted an index of the gallery at hand, {len(gallery):,} images in the same order, found "
                f"one of another gallery ({facts['num']:,} images). Build it anew."
            )
        held: Any = _read_tensor(folder / _TENSORS) if facts["kind"] == "exact" else _faiss.read(folder / _FAISS)
        found = tuple(held.shape) if facts["kind"] == "exact" else (held.ntotal, held.d)
        if found != (facts["num"], facts["dim"]):
            raise CheckpointError(
                f"{folder}: wanted {facts['num']:,} embeddings of {facts['dim']} channels, found {found[0]:,} of "
                f"{found[1]}. Build the index anew."
            )
        return cls(facts["kind"], *found, facts["gallery"], held)


def _vectors(embedding_ND: Tensor | NDArray[np.floating], what: str) -> Tensor:
    """As float32 on the CPU, [N, D], one row behind another in memory."""
    vector_ND = torch.as_tensor(embedding_ND).detach().to("cpu", torch.float32).contiguous()
    if vector_ND.dim() != 2 or not vector_ND.shape[1]:
        raise ShapeError(f"search: wanted {what} embeddings [N, D], found {list(vector_ND.shape)}.")
    finite_N = vector_ND.isfinite().all(1)
    if not finite_N.all():
        first = int(finite_N.int().argmin())
        raise ShapeError(
            f"search: wanted finite {what} embeddings, found a value that is not for image {first}, counted from 0. "
            "Look for a training that diverged."
        )
    return vector_ND


def _refuse_unknown(kind: str) -> None:
    if kind not in _kinds():
        raise ConfigError(f"search: wanted kind {', '.join(_kinds())}, found {kind!r}.")


def _kinds() -> tuple[str, ...]:
    return get_args(Kind)


def _read_facts(file: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = facts["schema"] <= SCHEMA and facts["kind"] in _kinds() and {"num", "dim", "gallery"} <= facts.keys()
    except (OSError, ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise CheckpointError(
            f"{file}: wanted the facts of an index (schema {SCHEMA}), found none that can be read. Build the index "
            "anew."
        )
    return facts


def _read_tensor(file: Path) -> Tensor:
    try:
        return safetensors.load_file(file)["embedding"]
    except (OSError, SafetensorError, KeyError):
        raise CheckpointError(
            f"{file}: wanted the embeddings of an index, found none that can be read. Build the index anew."
        ) from None
