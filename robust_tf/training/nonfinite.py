"""A run ends where a loss or a weight is not a number, and says which and where."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from robust_tf.training.checkpoints import Checkpoints


class NonFiniteLossError(ArithmeticError):
    """Training met a loss or a weight that is not a number."""


class FiniteCheck:
    """Looks at losses and weights.

    Args:
      checkpoints: of the run; what they would hold is looked at, and the newest one is named.
      watched: names of the loss, as 'loss', and of its terms.
    """

    def __init__(self, checkpoints: Checkpoints, watched: Sequence[str]):
        self._checkpoints, self._watched = checkpoints, list(watched)

    def raise_for_loss(self, finite: tf.Tensor, step: int) -> None:
        """Of a step whose loss is not finite; `finite` says of each of `watched` whether it is.

        Raises:
          NonFiniteLossError: always.
        """
        bad = [name for name, fine in zip(self._watched, finite.numpy(), strict=True) if not fine]
        terms = [name for name in bad if name != "loss"]
        what = f"term {', '.join(terms)}" if terms else "its terms are finite, their sum is not"
        self._stop(f"non-finite loss at step {step}, {what}")

    def check_weights(self, step: int) -> None:
        """After so many steps.

        Raises:
          NonFiniteLossError: a weight or a variable of an optimizer is not finite.
        """
        if not self._checkpoints.finite():
            terms = ", ".join(name for name in self._watched if name != "loss")
            self._stop(
                f"non-finite weights after step {step}, whose loss was finite: the gradient of one "
                f"of its terms ({terms}) overflowed"
            )

    def _stop(self, what: str) -> None:
        raise NonFiniteLossError(
            f"{what}. The last good checkpoint is {self._checkpoints.last_path}. Lower "
            "train.learning_rate or the term's weight, or lengthen train.eps_warmup_epochs; then "
            "start with --restart or in another folder."
        )
