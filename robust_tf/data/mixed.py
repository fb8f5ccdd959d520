"""Two sets of training examples in fixed parts of every batch."""

from __future__ import annotations

import dataclasses

import numpy as np

from robust_tf.data.splits import Split


@dataclasses.dataclass(frozen=True, eq=False)
class MixedSplit(Split):
    """A training split whose batches hold a fixed part of additional examples.

    An epoch has as many examples as there are own ones, additional ones counted, as in the program
    of robust self-training; so it sees a part of the own ones, drawn anew each time.

    Attributes:
      own: Number of own examples, which come first.
      fraction: Part of a batch that is additional, in (0, 1).
    """

    own: int = 0
    fraction: float = 0.5

    @classmethod
    def of(cls, own: Split, extra: Split, fraction: float) -> MixedSplit:
        """Both in memory, one behind the other.

        Raises:
          ValueError: images of different shapes or types, or own ones that are not in memory.
        """
        if own.image_shape != extra.image_shape or own.dtype != extra.dtype:
            raise ValueError(
                f"additional images are {extra.dtype} {extra.image_shape}, the own "
                f"ones {own.dtype} {own.image_shape}; they must be alike."
            )
        if not own.in_memory:
            raise ValueError(
                "additional images need the own ones in memory, and these are read from disk: set "
                "data.in_memory = True, or leave out train.extra."
            )
        images = np.concatenate([own.images, extra.images])
        labels = np.concatenate([own.labels, extra.labels])
        return cls(images, labels, own=len(own), fraction=fraction)

    @property
    def epoch_size(self) -> int:
        """Examples in one epoch."""
        return self.own

    def order(self, seed: int, epoch: int, batch_size: int) -> np.ndarray:
        """See `Split.order`.

        Raises:
          ValueError: a batch too small to hold some of both.
        """
        added = round(self.fraction * batch_size)
        if not 0 < added < batch_size:
            raise ValueError(
                f"batch_size is {batch_size} and {self.fraction} of it additional: {added} of "
                "each batch; take a larger batch, or a fraction nearer to 0.5."
            )
        rng = np.random.default_rng([seed, epoch, 4])
        steps = self.own // batch_size
        first = _draw(rng, self.own, steps * (batch_size - added)).reshape(steps, -1)
        second = self.own + _draw(rng, len(self) - self.own, steps * added).reshape(steps, -1)
        batches = rng.permuted(np.concatenate([first, second], axis=1), axis=1)
        return batches.reshape(-1).astype(np.int32)


def _draw(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """`count` of 0 .. size - 1, each as often as the others, give or take one."""
    rounds = -(-count // size)
    return np.concatenate([rng.permutation(size) for _ in range(rounds)])[:count]
