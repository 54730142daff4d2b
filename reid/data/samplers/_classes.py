"""What both samplers need of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from reid.errors import SamplingError


def images_by_class(labels: Sequence[int], wanted: int, sampler: str) -> list[list[int]]:
    """Positions of the images of each class, ascending.

    Args:
        labels: the images' classes, 0 .. C - 1, each at least once.
        wanted: classes a batch needs.
        sampler: whose batch, for the message.

    Raises:
        SamplingError: there are fewer classes than that.
    """
    images: list[list[int]] = [[] for _ in range(max(labels, default=-1) + 1)]
    for position, label in enumerate(labels):
        images[label].append(position)
    if len(images) < wanted:
        raise SamplingError(
            f"{sampler} sampler: wanted at least {wanted} identities in the training set for one batch, found "
            f"{len(images)}. Train on more identities, or make the batch smaller in [stage.sampler]."
        )
    return images


def repeats_note(images: Sequence[Sequence[int]], num_images: int) -> str | None:
    """Say how many identities have fewer images than a batch takes of each; None: they all have enough.

    Args:
        images: positions of the images of each class.
        num_images: images of an identity in a batch.
    """
    few = sum(len(own) < num_images for own in images)
    if few == 0:
        return None
    return f"{few:,} of {len(images):,} identities have fewer than {num_images} images; theirs repeat within a batch"
