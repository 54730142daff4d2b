"""Alpha query expansion, one embedding at a time. Imports nothing of reid."""

import numpy as np


def unit(vector):
    return vector / np.linalg.norm(vector)


def expand(vectors, among, num, alpha, *, same=False):
    """Each vector plus its nearest of ``among``, weighted by cosine ** alpha; same: both are the same images."""
    vectors, among = [unit(vector) for vector in vectors], [unit(vector) for vector in among]
    result = []
    for place, vector in enumerate(vectors):
        cosines = [(float(vector @ other), -idx) for idx, other in enumerate(among) if not (same and idx == place)]
        total = vector.copy()
        for cosine, minus_idx in sorted(cosines, reverse=True)[:num]:
            total += max(cosine, 0.0) ** alpha * among[-minus_idx]
        result.append(unit(total))
    return np.array(result)
