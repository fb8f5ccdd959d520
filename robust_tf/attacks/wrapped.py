"""Base of attacks that run another attack."""

from __future__ import annotations

from robust_tf.attacks.base import Attack, Number
from robust_tf.attacks.threat import Budget


class WrappedAttack(Attack):
    """Base of attacks that run another one, `attack`, whose ball, steps and mode are theirs."""

    attack: Attack

    @property
    def eps(self) -> float:  # type: ignore[override]
        """Of the attack, as the others."""
        return self.attack.eps

    @property
    def step_size(self) -> float | None:  # type: ignore[override]
        return self.attack.step_size

    @property
    def has_step_size(self) -> bool:  # type: ignore[override]
        return self.attack.has_step_size

    @property
    def norm(self) -> str:  # type: ignore[override]
        return self.attack.norm

    @property
    def balls(self) -> tuple[tuple[str, float | None], ...]:
        return self.attack.balls

    @property
    def batch_norm(self) -> str:  # type: ignore[override]
        return self.attack.batch_norm

    def budget(
        self, eps: Number | None = None, step_size: Number | None = None, scale: Number = 1.0
    ) -> Budget:
        return self.attack.budget(eps, step_size, scale)

    def notes(self, num_classes: int) -> list[str]:
        return self.attack.notes(num_classes)
