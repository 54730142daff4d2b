"""TLift by loops over queries and cameras, as its equations read. Imports nothing of reid."""

import numpy as np


def tlift(score, query_camera, query_time, gallery_camera, gallery_time, *, tau, sigma, num_pivots, alpha):
    """Scores times (alpha + how close in time a gallery image is to the pivots of its camera), [Q, G]."""
    weight = np.zeros(score.shape)
    similarity = {}
    for camera in np.unique(gallery_camera):
        time = gallery_time[gallery_camera == camera]
        similarity[camera] = np.exp(-((time[:, None] - time) ** 2) / sigma**2)
    for query in range(len(score)):
        nearby = (query_camera == query_camera[query]) & (np.abs(query_time - query_time[query]) < tau)
        for camera, closeness in similarity.items():
            images = np.flatnonzero(gallery_camera == camera)
            values = score[np.ix_(nearby, images)]
            descending = np.sort(values.ravel())[::-1]
            threshold = descending[min(num_pivots, len(descending)) - 1]
            _, pivots = np.nonzero(values >= threshold)
            weight[query, images] = closeness[pivots].mean(axis=0)
    return (weight + alpha) * score
