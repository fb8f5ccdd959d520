"""The guard of a run: when it looks, what it writes, and what then happens."""

from __future__ import annotations

import os
import warnings
from typing import Any

import tensorflow as tf

from robust_tf import data, files
from robust_tf.attacks import Attack
from robust_tf.methods import RobustModel
from robust_tf.training.checkpoints import Checkpoints
from robust_tf.training.guard import (
    FEW_STEPS,
    PGD_STEPS,
    Guard,
    check_passes,
    interval,
    told,
    watching_attacks,
)
from robust_tf.training.overfitting import OVERFITTING, Gap
from robust_tf.training.recipe import Recipe
from robust_tf.training.reporting import Reporter, read_rows
from robust_tf.training.softening import described, soften

LOG = "guard.jsonl"
STOP, ROLLBACK = "stop", "rollback"
# Of the best accuracy under PGD: a checkpoint with less is none to go back to.
GOOD = 0.8
_NEVER = 10**9  # steps


class RunGuard:
    """Checks a run and says what is to be done; the trainer does it.

    Each check is a line of `guard.jsonl`, which is written whenever a checkpoint is: a run that is
    continued makes those behind its checkpoint again. Lines of steps that were rolled back stay, so
    that 'check' grows from line to line, and 'step' goes back where the run did.

    Args:
      recipe: `guard_every`, `guard_images`, `on_collapse`, `guard_rollbacks`.
      model: compiled.
      dataset: validation images are attacked; training images where there are none.
      strategy: under which the model was built.
      checkpoints: of the run; its `guard` is the state.
      run_dir: of the run.
      chief: whether to write.

    Attributes:
      guard: None where the run is not watched.
      settings: for `run.json`; None where the run is not watched.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: RobustModel,
        dataset: data.Data,
        strategy: tf.distribute.Strategy,
        checkpoints: Checkpoints,
        run_dir: str,
        chief: bool,
    ):
        self.recipe, self.model, self.checkpoints = recipe, model, checkpoints
        self.state, self.chief = checkpoints.guard, chief
        self._path = os.path.join(run_dir, LOG)
        self._rows: list[dict[str, Any]] = []
        self._attack = model.attack
        self.guard: Guard | None = None
        self.settings = settings_of(recipe, model, dataset)
        if self.settings is None:
            return
        images, every = self.settings["images"], self.settings["every"]
        self._which = "validation" if self.settings["split"] == "validation" else "training"
        split = getattr(dataset, self.settings["split"])
        self.guard = Guard(model, split, images, every, strategy, self.state)

    @property
    def rolls_back(self) -> bool:
        """Whether good checkpoints are kept."""
        return self.guard is not None and self.recipe.on_collapse == ROLLBACK

    @property
    def stopped(self) -> bool:
        """Whether the run was ended by the guard."""
        return bool(self.state["stopped"])

    def restored(self) -> None:
        """After a checkpoint was restored: the attack that it was trained with, and its lines."""
        if self.guard is None:
            return
        attack = self._attack
        for _ in range(int(self.state["rollbacks"])):
            assert attack is not None
            attack = soften(attack)
        if attack is not self.model.attack:
            assert isinstance(attack, Attack)
            self.model.set_attack(attack)
            self.guard.prepare()
        if self.chief and not self._rows and files.exists(self._path):
            self._rows = read_rows(self._path, "check", self.state["checks"])

    def begin(self) -> None:
        """Before the first step: there is always something to go back to."""
        if self.rolls_back and not self.checkpoints.has_good:
            self.checkpoints.save_good()

    def to_next(self, step: int) -> int:
        """Number of steps from this one of the run to the next check, >= 1."""
        return _NEVER if self.guard is None else self.guard.to_next(step)

    def look(self, step: int, epoch: int, reporter: Reporter) -> str:
        """Checks, if a check is due after so many steps of the run.

        Args:
          step: number of steps done.
          epoch: that is trained, from 0.
          reporter: of the run.

        Returns:
          `STOP`, `ROLLBACK`, or '' to train on.
        """
        if self.guard is None or step % self.guard.every:
            return ""
        state, best = self.state, self.state["pgd"]
        verdict, gap = self.guard.check()
        state.put(last_epoch=epoch + 1)
        action = self._action(verdict)
        row: dict[str, Any] = {
            "check": int(state["checks"]) - 1,
            "epoch": epoch + 1,
            "step": step,
            "training_attack": gap.training,
            "pgd": gap.pgd,
            "images": gap.images,
        }
        if verdict:
            row |= {"verdict": verdict, "action": action or "warn"}
        self._rows.append(row)
        values = {"training_attack": gap.training, "pgd": gap.pgd}
        reporter.scalars({f"guard/{name}_accuracy": value for name, value in values.items()}, step)
        if verdict and (action or not state["found"]):
            self._say(verdict, action, step, epoch, gap, best)
        if action == STOP:
            state.put(stopped=1)
        state.put(found=int(bool(verdict)))
        if verdict:
            self.flush()
        elif self.rolls_back and epoch > state["good_epoch"] and gap.pgd >= GOOD * state["pgd"]:
            if not state["open_checks"] and self.checkpoints.finite():
                state.put(good_epoch=epoch)
                self.flush()
                self.checkpoints.save_good()
        return action

    def roll_back(self) -> None:
        """Goes back to the good checkpoint, with a softer attack; best validations are kept."""
        progress, state = self.checkpoints.progress, self.state
        kept = [progress.best_accuracy, progress.best_epoch, progress.seconds]
        values = [variable.numpy() for variable in kept]
        checks, rollbacks = state["checks"], state["rollbacks"]
        self.checkpoints.restore_good()
        for variable, value in zip(kept, values, strict=True):
            variable.assign(value)
        state.put(checks=checks, rollbacks=rollbacks + 1)
        self.restored()
        assert self.model.attack is not None
        epoch, step = int(progress.epoch.numpy()), int(progress.step_in_epoch.numpy())
        self._rows[-1] |= {"to_epoch": epoch + 1, "to_step_in_epoch": step}
        self._rows[-1] |= described(self.model.attack)
        self.flush()

    def metrics(self, epoch: int) -> dict[str, float]:
        """Of the last check in an epoch, from 0; {} where it had none."""
        if self.guard is None or self.state["last_epoch"] != epoch + 1:
            return {}
        state = self.state
        return {
            "guard_attack_accuracy": state["last_training"],
            "guard_pgd_accuracy": state["last_pgd"],
        }

    def flush(self) -> None:
        """Writes `guard.jsonl`."""
        if self.chief and self._rows:
            files.write_lines(self._path, self._rows)

    def summary(self) -> dict[str, Any] | None:
        """What came of it, for `summary.json`; None where the run is not watched."""
        if self.guard is None:
            return None
        found = [row for row in self._rows if "verdict" in row]
        return {
            "checks": int(self.state["checks"]),
            "found": found,
            "rollbacks": int(self.state["rollbacks"]),
            "stopped": self.stopped,
        }

    def _action(self, verdict: str) -> str:
        """What is done; a run that diverges is not mended by a softer attack."""
        if verdict != OVERFITTING or self.recipe.on_collapse == "warn":
            return ""
        if self.rolls_back and self.state["rollbacks"] < self.recipe.guard_rollbacks:
            return ROLLBACK
        return STOP

    def _say(self, verdict: str, action: str, step: int, epoch: int, gap: Gap, best: float) -> None:
        if not self.chief:
            return
        figures = told(verdict, f"step {step} (epoch {epoch + 1})", gap, best, self._which)
        if verdict != OVERFITTING:
            end = "the training diverges; lower train.learning_rate."
        elif action == ROLLBACK:
            end = "going back to the last good checkpoint, with a softer attack."
        elif action == STOP:
            why = " after as many rollbacks as train.guard_rollbacks allows" * self.rolls_back
            end = f"the training is stopped{why}."
        else:
            end = "train.on_collapse = 'stop' or 'rollback' would act on it."
        warnings.warn(f"{figures}; {end}", stacklevel=2)


def is_watched(recipe: Recipe, model: RobustModel) -> bool:
    """Whether a run has a guard: if asked for, or if its attack has few steps.

    Raises:
      ValueError: a guard, or a rollback, was asked for, and the training attack cannot have it.
    """
    every, steps = recipe.guard_every, model.attack_steps
    wanted = 0 < steps <= FEW_STEPS if every is None else every > 0
    if not wanted:
        return False
    try:
        watching_attacks(model.attack)
    except ValueError:
        if every is None:
            return False
        raise
    if recipe.on_collapse == ROLLBACK:
        assert model.attack is not None
        soften(model.attack)
    return True


def settings_of(recipe: Recipe, model: RobustModel, dataset: data.Data) -> dict[str, Any] | None:
    """How a run is watched, JSON-ready; None where it is not; raises as `is_watched`."""
    if not is_watched(recipe, model):
        return None
    name = "validation" if len(dataset.validation) else "train"
    images = min(recipe.guard_images, len(getattr(dataset, name)))
    steps = model.attack_steps
    cost, step = check_passes(steps, images), model.passes_per_image * recipe.batch_size
    every = recipe.guard_every or interval(cost, step)
    return {
        "every": every,
        "images": images,
        "split": name,
        "pgd_steps": PGD_STEPS,
        "share_of_passes": round(cost / (every * step), 6),
        "on_collapse": recipe.on_collapse,
        "rollbacks": recipe.guard_rollbacks,
    }


def note_idle(recipe: Recipe, model: RobustModel) -> None:
    """Warns of `train.on_collapse` where nothing watches for it; raises as `is_watched`."""
    if not is_watched(recipe, model) and recipe.on_collapse != "warn":
        warnings.warn(
            f"train.on_collapse={recipe.on_collapse!r} has no effect: the attack of "
            f"{type(model).__name__} has {model.attack_steps} steps, and only those of 1 to "
            f"{FEW_STEPS} are watched unless train.guard_every says how often.",
            stacklevel=3,
        )
