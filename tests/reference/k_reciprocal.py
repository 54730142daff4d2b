"""k-reciprocal re-ranking on full matrices, image by image, as the released codes lay it out. Imports nothing of reid.

Equal distances keep the order of the images, so that results can be compared.
"""

import numpy as np


def full_distances(query_gallery, query_query, gallery_gallery, squared):
    """All distances [N, N], row i divided by its largest: column i of the joined matrix, queries first."""
    joined = np.block([[query_query, query_gallery], [query_gallery.T, gallery_gallery]]).astype(np.float32)
    if squared:
        joined = joined**2
    largest = joined.max(axis=0)
    return (joined / np.where(largest > 0, largest, 1)).T


def reciprocal(order, image, k):
    """Of the first k neighbours of an image, those that have it among their first k."""
    forward = order[image, :k]
    backward = order[forward, :k]
    return forward[(backward == image).any(axis=1)]


def expanded(order, image, k1):
    own = reciprocal(order, image, k1 + 1)
    everybody = own
    for member in own:
        half = reciprocal(order, member, int(np.around(k1 / 2)) + 1)
        if 3 * len(np.intersect1d(half, own)) > 2 * len(half):
            everybody = np.append(everybody, half)
    return np.unique(everybody)


def encodings(distance, order, k1, k2, precision):
    weight = np.zeros(distance.shape, dtype=precision)
    for image in range(len(distance)):
        members = expanded(order, image, k1)
        value = np.exp(-distance[image, members])
        weight[image, members] = value / np.sum(value)
    if k2 == 1:
        return weight
    averaged = np.zeros_like(weight)
    for image in range(len(distance)):
        averaged[image] = np.mean(weight[order[image, :k2]], axis=0)
    return averaged


def jaccard(weight, num_query):
    """Jaccard distance of every query from every image, [Q, N]."""
    holders = [np.where(weight[:, image] != 0)[0] for image in range(len(weight))]
    distance = np.zeros((num_query, len(weight)), dtype=weight.dtype)
    for query in range(num_query):
        shared = np.zeros(len(weight), dtype=weight.dtype)
        for image in np.where(weight[query] != 0)[0]:
            images = holders[image]
            shared[images] = shared[images] + np.minimum(weight[query, image], weight[images, image])
        distance[query] = 1 - shared / (2 - shared)
    return distance


def rerank(query_gallery, query_query, gallery_gallery, k1, k2, distance_weight, *, released=False):
    """Final distances [Q, G]; released: distances are not squared, encodings are float16."""
    num_query = len(query_gallery)
    distance = full_distances(query_gallery, query_query, gallery_gallery, squared=not released)
    order = np.argsort(distance, axis=1, kind="stable")
    weight = encodings(distance, order, k1, k2, np.float16 if released else np.float32)
    final = jaccard(weight, num_query) * (1 - distance_weight) + distance[:num_query] * distance_weight
    return final[:, num_query:]


def euclidean(left, right):
    """Distances [N, M] of rows, float32, by one product."""
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    return np.sqrt(np.maximum(squares, 0))
