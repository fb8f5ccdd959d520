"""How a forward pass is run: batch-normalisation mode and the seed of its dropout masks.

Keras passes one flag, `training`, down to its layers. Adversarial training needs more: an attack
may use batch statistics without touching the moving averages, and a resumed run must draw the masks
that the stopped one would have drawn. Both travel in a context that the layers of
`robust_tf.models.layers` read while a graph is traced.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

BATCH_NORM_MODES = ("running", "batch", "training")


class _Context(threading.local):
    """Per thread, because `tf.distribute` traces each replica in a thread of its own."""

    batch_norm: str | None = None
    seed: tf.Tensor | None = None
    filled: tf.Tensor | None = None


_CONTEXT = _Context()


@contextlib.contextmanager
def forward_mode(
    batch_norm: str | None = None,
    seed: tf.Tensor | tuple[int, int] | None = None,
    filled: tf.Tensor | None = None,
) -> Iterator[None]:
    """Runs the forward passes inside with this batch-normalisation mode and dropout seed.

    Args:
      batch_norm: 'running' (moving averages), 'batch' (statistics of the batch, moving averages
        untouched), 'training' (statistics of the batch, moving averages updated), or None: as the
        context around this one, or else the `training` flag of the call says.
      seed: int32 (2,), from which dropout masks are drawn, or None: as in the context around this
        one, or else TensorFlow's global generator.
      filled: bool scalar, whether the images are a replica's share of a batch and not what stands
        in for an empty one, which moves no average; None: as in the context around this one.

    Raises:
      ValueError: unknown mode.
    """
    check_batch_norm_mode(batch_norm, allow_none=True)
    before = _CONTEXT.batch_norm, _CONTEXT.seed, _CONTEXT.filled
    if batch_norm is not None:
        _CONTEXT.batch_norm = batch_norm
    if seed is not None:
        _CONTEXT.seed = tf.convert_to_tensor(seed, tf.int32)
    if filled is not None:
        _CONTEXT.filled = filled
    try:
        yield
    finally:
        _CONTEXT.batch_norm, _CONTEXT.seed, _CONTEXT.filled = before


def in_force() -> tuple[str | None, tf.Tensor | None, tf.Tensor | None]:
    """What `again` is given to run a forward pass once more."""
    return _CONTEXT.batch_norm, _CONTEXT.seed, _CONTEXT.filled


@contextlib.contextmanager
def again(mode: tuple[str | None, tf.Tensor | None, tf.Tensor | None]) -> Iterator[None]:
    """Runs a forward pass as when `in_force` was asked, but leaves moving averages as they are."""
    before = in_force()
    _CONTEXT.batch_norm, _CONTEXT.seed, _ = mode
    _CONTEXT.filled = tf.constant(False)
    try:
        yield
    finally:
        _CONTEXT.batch_norm, _CONTEXT.seed, _CONTEXT.filled = before


def check_batch_norm_mode(mode: str | None, allow_none: bool = False) -> None:
    """Raises ValueError unless `mode` is one of `BATCH_NORM_MODES`."""
    if mode not in BATCH_NORM_MODES and not (allow_none and mode is None):
        raise ValueError(f"batch_norm={mode!r}: must be one of {BATCH_NORM_MODES}.")


def batch_norm_mode(training: bool | None) -> str:
    """The mode in force here."""
    return _CONTEXT.batch_norm or ("training" if training else "running")


def dropout_seed() -> tf.Tensor | None:
    """The seed in force here, int32 (2,), or None."""
    return _CONTEXT.seed


def is_filled(x: tf.Tensor) -> tf.Tensor:
    """Whether x (B, ...) holds examples that statistics may see, a bool scalar."""
    filled = tf.size(x) > 0
    return filled if _CONTEXT.filled is None else tf.logical_and(filled, _CONTEXT.filled)
