"""Checks with PGD: are there gradients, do they raise the loss, do more steps raise it further.

Images that are adversarial after one PGD do not go through the next, so that it takes longest on a
robust model: 170 gradients of each image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files, losses
from robust_tf.attacks import presets
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import margin
from robust_tf.attacks.threat import flat
from robust_tf.evaluation.checks.flags import Flag, flag
from robust_tf.evaluation.checks.forward import Forward, many
from robust_tf.models.black_box import NoGradientError
from robust_tf.models.differentiation import differentiated

# Below this a gradient's norm is lost: in L-inf and L1, whose steps go by signs and ranks, where
# float32 runs out of digits, in L2 where attacks divide by the norm and guard against zero.
VANISHING = {"Linf": 1e-30, "L2": 1e-12, "L1": 1e-30}


def gradients(network: Network, x: tf.Tensor, y: tf.Tensor, norm: str) -> Flag | None:
    """Whether the input gradients of cross-entropy and of the margin are of any use."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        try:
            with differentiated():
                logits = network(x)
        except NoGradientError as error:  # behind a function of the user's
            return flag("zero_gradients", cross_entropy=1.0, margin=1.0, error=str(error))
        values = {"cross_entropy": losses.cross_entropy(logits, y), "margin": margin(logits, y)}
    useless: dict[str, np.ndarray] = {}
    for name, value in values.items():
        try:
            gradient = tape.gradient(value, x, unconnected_gradients="zero")
        except LookupError as error:  # an operation, or a loaded function, that has no gradient
            return flag("zero_gradients", **{name: 1.0, "error": files.reason(error)})
        size = tf.norm(flat(tf.cast(gradient, tf.float64)), axis=1).numpy()
        useless[name] = ~(np.isfinite(size) & (size > VANISHING[norm]))
    if not any(many(images) for images in useless.values()):
        return None
    return flag("zero_gradients", **{name: float(v.mean()) for name, v in useless.items()})


class Search:
    """PGD on correctly classified images: a little, a lot, and without a limit.

    Args:
      model: Keras model or callable.
      forward: the same, on NumPy arrays.
      x, y: images and labels, all classified correctly.
      eps, norm: the ball.
      seed: of the starts.
    """

    def __init__(
        self,
        model: Any,
        forward: Forward,
        x: np.ndarray,
        y: np.ndarray,
        eps: float,
        norm: str,
        seed: int,
    ):
        self.model, self.forward, self.x, self.y = model, forward, x, y
        self.eps, self.norm, self.seed = eps, norm, seed
        self.is_robust = np.ones(len(x), bool)

    def rises(self) -> Flag | None:
        """Whether PGD-20 raises the loss more than noise of the same size does."""
        before = _log_odds(self.forward(self.x), self.y)
        # On average, for on one or two pixels the best noise is as good as any attack.
        noise = np.mean([_log_odds(self.forward(self._noise(k)), self.y) for k in range(8)], 0)
        # The last iterate: where the cross-entropy rounds to 0, the 'best' one is the start.
        after = _log_odds(self._pgd(self.eps, 20, "last"), self.y)
        useless = self.is_robust & ~(after > np.maximum(noise, before))
        return flag("loss_not_rising", images=float(useless.mean())) if many(useless) else None

    def more_steps(self) -> Flag | None:
        """Whether PGD-100, from other starts, succeeds on many images where PGD-20 did not."""
        before = self.is_robust.copy()
        self._pgd(self.eps, 100)
        if not many(before & ~self.is_robust):
            return None
        figures = {"few_steps": float(before.mean()), "many_steps": float(self.is_robust.mean())}
        return flag("more_steps", **figures)

    def large_eps(self) -> Flag | None:
        """Whether images withstand an eps that reaches any image of the box, or the grey one."""
        size = self.x[0].size
        reach = {"Linf": 1.0, "L2": math.sqrt(size) / 2, "L1": size / 2}
        eps = max(self.eps, reach[self.norm])
        self._pgd(eps, 50)
        classes = self.forward(self.x[:1]).shape[1]
        chance = 1 / classes
        accuracy = float(self.is_robust.mean())
        if accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / len(self.x)):
            return None
        return flag("large_eps", eps=float(eps), accuracy=accuracy, chance=chance)

    def _pgd(self, eps: float, steps: int, keep: str = "best") -> np.ndarray:
        """Attacks what is still robust, in steps of 2.5 eps in all; logits of all images."""
        # All arguments, so that no gin binding of the battery's PGD reaches this one.
        attack = presets.PGD(
            eps, 2.5 * eps / steps, steps, 1, keep, self.norm, targeted=False, batch_norm="running"
        )
        moved, where = self.x.copy(), np.flatnonzero(self.is_robust)
        if len(where):
            seed = self.seed + steps  # else every search starts where the last one did
            moved[where] = attack(self.model, self.x[where], self.y[where], seed=seed).numpy()
        logits = self.forward(moved)
        self.is_robust[where] = (logits.argmax(1) == self.y)[where]
        return logits

    def _noise(self, draw: int) -> np.ndarray:
        """The images with noise from the surface of the ball, its corners in L-inf."""
        random = np.random.default_rng((self.seed, draw))
        axes = tuple(range(1, self.x.ndim))
        if self.norm == "L1":
            noise = random.laplace(size=self.x.shape)
            noise /= np.abs(noise).sum(axes, keepdims=True)
        else:
            noise = random.normal(size=self.x.shape)
            if self.norm == "Linf":
                noise = np.sign(noise)
            else:
                noise /= np.sqrt((noise**2).sum(axes, keepdims=True))
        return np.clip(self.x + self.eps * noise, 0, 1).astype(np.float32)


def _log_odds(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log((1 - p_y) / p_y), (B,): rises with the cross-entropy but does not saturate as it does."""
    own = np.eye(logits.shape[1], dtype=bool)[y]
    others = np.where(own, -np.inf, logits)
    top = others.max(1)
    return top + np.log(np.exp(others - top[:, None]).sum(1)) - logits[own]
