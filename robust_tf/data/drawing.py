"""Some of many examples, each class by its share."""

from __future__ import annotations

import numpy as np


def draw_order(labels: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """All positions in an order by lot, of which any first part has each class by its share.

    So the first 1000 contain the first 500, and the numbers of a class in them differ by about one
    from its share of all examples.

    Args:
      labels: class ids (N,).
      seed: of the draw, >= 0.
      stream: which of the draws by this seed.

    Returns:
      int64 (N,).
    """
    rng = np.random.default_rng([seed, stream])
    when = np.empty(len(labels))
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        when[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    return np.lexsort((rng.permutation(len(labels)), when))
