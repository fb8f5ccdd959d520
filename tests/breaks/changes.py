"""Deliberate breaks of the library, each with the tests that must notice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Change:
    """One break: in `file`, `old` becomes `new`; the tests that pytest is given must fail."""

    title: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def make(self, folder: Path) -> None:
        """Breaks the copy of the clone in `folder`.

        Raises:
          ValueError: `old` is not there exactly once.
        """
        path = folder / self.file
        text = path.read_text() if path.exists() else ""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.title}: {self.file} has {self.old!r} {text.count(self.old)} times; it must "
                "be there once: bring tests/breaks/changes.py up to date."
            )
        path.write_text(text.replace(self.old, self.new))


def chosen(file: str, expression: str = "") -> tuple[str, ...]:
    """Pytest's arguments for a file of tests, or those of it that the expression chooses."""
    return (f"tests/{file}", *(("-k", expression) if expression else ()))


ATTACKS = "attacks/test_every_attack.py"
METHODS = "methods/test_every_method.py"
CHANGES = [
    Change(
        "the cross-entropy's sign is turned",
        "robust_tf/attacks/objectives.py",
        "return -value if self.targeted else value",
        "return value if self.targeted else -value",
        chosen(ATTACKS, "PGD-raises_loss"),
    ),
    Change(
        "L-inf does not project",
        "robust_tf/attacks/threat.py",
        "return tf.clip_by_value(x, bounds.low, bounds.high)",
        "return x",
        chosen(ATTACKS, "PGD-ball"),
    ),
    Change(
        "the upper bound of the ball is rounded outwards",
        "robust_tf/attacks/threat.py",
        "tf.math.nextafter(high, x), high)",
        "high, high)",
        chosen(ATTACKS, "PGD-ball or FGSM-ball or BIM-ball"),
    ),
    Change(
        "the L2 norm is over the batch too",
        "robust_tf/attacks/threat.py",
        "axis=list(range(1, x.shape.rank)), keepdims=True",
        "axis=list(range(0, x.shape.rank)), keepdims=True",
        chosen("attacks/test_attacks_numpy.py", "l2_loop"),
    ),
    Change(
        "momentum forgets the steps before",
        "robust_tf/attacks/steps.py",
        "momentum = self.decay * state[0] + gradient",
        "momentum = gradient",
        chosen("attacks/test_attacks_numpy.py", "momentum or the_loop"),
    ),
    Change(
        "the divergence that TRADES raises is the other way round",
        "robust_tf/attacks/objectives.py",
        'if self.direction == "clean_adv":',
        'if self.direction == "adv_clean":',
        chosen("attacks/test_attacks_numpy.py"),
    ),
    Change(
        "the margin's best other class may be the label's own",
        "robust_tf/attacks/objectives.py",
        "tf.reduce_max(tf.where(own, minus_inf, logits), axis=1)",
        "tf.reduce_max(logits, axis=1)",
        chosen("attacks/test_attacks_numpy.py", "margin"),
    ),
    Change(
        "the best iterate is the one of the lowest objective",
        "robust_tf/attacks/gradient.py",
        'tf.logical_or(is_adversarial, values > rows["value"])',
        'tf.logical_or(is_adversarial, values < rows["value"])',
        chosen("attacks/test_restarts.py", "best or weaker"),
    ),
    Change(
        "every restart begins where the first one did",
        "robust_tf/attacks/gradient.py",
        'last(rows, fold(rows["seed"], run))',
        'last(rows, rows["seed"])',
        chosen("attacks/test_restarts.py"),
    ),
    Change(
        "DLR divides by the gap to the second logit",
        "robust_tf/attacks/dlr.py",
        "return rise / (top[:, 0] - top[:, 2] + _TINY)",
        "return rise / (top[:, 0] - top[:, 1] + _TINY)",
        chosen("attacks/test_apgd.py", "ratios"),
    ),
    Change(
        "FAB's projection mistakes the room to the box",
        "robust_tf/attacks/fab_projections.py",
        "room = tf.where(direction > 0, 1 - x, x)",
        "room = tf.where(direction > 0, x, 1 - x)",
        chosen("attacks/test_fab.py", "projection"),
    ),
    Change(
        "an example that leaves the active set leaves its image behind",
        "robust_tf/attacks/active_set.py",
        "return tf.gather(index, stay), kept, settle(index, rows, results)",
        "return tf.gather(index, stay), kept, results",
        chosen("attacks/test_restarts.py"),
    ),
    Change(
        "local compactness is a mean over the batch",
        "robust_tf/losses/compactness.py",
        "tf.reduce_mean(_power(tf.abs(z - z_adv), norm), axis=-1)",
        "tf.reduce_mean(_power(tf.abs(z - z_adv), norm), axis=0)",
        chosen("losses/test_losses_compactness.py", "local_value"),
    ),
    Change(
        "global compactness draws other classes together",
        "robust_tf/losses/compactness.py",
        "tf.where(same, tf.constant(1.0), tf.constant(1 - 1 / alpha, tf.float32))",
        "tf.where(same, tf.constant(1 - 1 / alpha, tf.float32), tf.constant(1.0))",
        chosen("losses/test_losses_compactness.py", "pair_weights"),
    ),
    Change(
        "smoothness holds the adversarial side fixed",
        "robust_tf/losses/smoothness.py",
        "return kl_divergence(tf.stop_gradient(tf.convert_to_tensor(logits)), logits_adv)",
        "return kl_divergence(logits, tf.stop_gradient(tf.convert_to_tensor(logits_adv)))",
        chosen("losses/test_losses_smoothness.py", "released"),
    ),
    Change(
        "the triplet loss pushes the positive away",
        "robust_tf/losses/triplet.py",
        "tf.nn.relu(far - near + margin)",
        "tf.nn.relu(near - far + margin)",
        chosen("losses/test_losses_triplet.py", "cosine_triplet"),
    ),
    Change(
        "batch normalization keeps the stale part of its averages",
        "robust_tf/models/layers.py",
        "new = self.decay * old + (1 - self.decay) * tf.stop_gradient(batch)",
        "new = (1 - self.decay) * old + self.decay * tf.stop_gradient(batch)",
        chosen("models/test_layers.py", "numpy"),
    ),
    Change(
        "Keras' batch normalization, converted, trains in an attack's mode 'batch'",
        "robust_tf/models/keras_layers.py",
        'if mode == "training":',
        'if mode != "running":',
        chosen("models/test_conversion.py", "modes"),
    ),
    Change(
        "a skip connection is not looked for",
        "robust_tf/models/graph.py",
        "alive == {id(made[0])} and bool(inputs)",
        "bool(inputs)",
        chosen("models/test_cutting.py", "cannot_be_cut"),
    ),
    Change(
        "dropout does not scale what it keeps",
        "robust_tf/models/layers.py",
        "return inputs * keep / tf.cast(1 - self.rate, inputs.dtype)",
        "return inputs * keep",
        chosen("models/test_layers.py", "rate_and_scale"),
    ),
    Change(
        "TRADES trains on the divergence the other way round",
        "robust_tf/methods/trades.py",
        "losses.kl_divergence(batch.clean.logits, batch.adv.logits)",
        "losses.kl_divergence(batch.adv.logits, batch.clean.logits)",
        chosen("methods/test_trades.py"),
    ),
    Change(
        "MART weighs by p_y and not by 1 - p_y",
        "robust_tf/methods/mart.py",
        "missing = -tf.math.expm1(-losses.cross_entropy(clean, batch.y))",
        "missing = tf.exp(-losses.cross_entropy(clean, batch.y))",
        chosen("methods/test_alp_mart.py", "step"),
    ),
    Change(
        "replicas do not share the mean",
        "robust_tf/methods/reduction.py",
        "return tf.reduce_sum(weighted(values)) / reduction.size",
        "return tf.reduce_sum(weighted(values)) / reduction.here",
        chosen(METHODS, "Standard-replicas"),
    ),
    Change(
        "each replica clips its own gradient",
        "robust_tf/compat.py",
        "        gradients = _clipped_sum(optimizer, gradients)\n",
        "        gradients = list(gradients)\n",
        chosen("training/test_clipping.py", "clips_what or overflow"),
    ),
    Change(
        "each part draws what the first part draws",
        "robust_tf/draws.py",
        "begin = tf.concat([[0, part.first], tf.zeros_like(rest)], 0)",
        "begin = tf.concat([[0, 0], tf.zeros_like(rest)], 0)",
        chosen("methods/test_accumulation.py", "TRADES"),
    ),
    Change(
        "a scale of the batch is that of a part",
        "robust_tf/methods/scoring.py",
        "with knowing(numbers):",
        "with knowing(None):",
        chosen("methods/test_accumulation.py", "whole_batch and ATLD"),
    ),
    Change(
        "what is computed again moves the averages again",
        "robust_tf/models/forward.py",
        "_CONTEXT.filled = tf.constant(False)",
        "_CONTEXT.filled = tf.constant(True)",
        chosen("models/test_remat.py", "step_is_the_same"),
    ),
    Change(
        "every step draws the same numbers",
        "robust_tf/methods/base.py",
        "seed = step_seed(self.settings.seed, batches)",
        "seed = step_seed(self.settings.seed, tf.constant(0))",
        chosen("methods/test_methods_step.py", "draws_anew"),
    ),
    Change(
        "robust accuracy counts images that were wrong before the attack",
        "robust_tf/methods/keras_model.py",
        "robust = natural * correct(network(x_adv, training=False), share.y)",
        "robust = correct(network(x_adv, training=False), share.y)",
        chosen("methods/test_methods_step.py", "robust_accuracy_counts"),
    ),
    Change(
        "the weight average takes its decay for its rate",
        "robust_tf/training/weight_average.py",
        "if self.decay is None else 1.0 - self.decay",
        "if self.decay is None else self.decay",
        chosen("training/test_composition.py", "averages_line_by_line"),
    ),
    Change(
        "the weight perturbation goes downhill",
        "robust_tf/training/weight_perturbation.py",
        "w + self.gamma * length * move",
        "w - self.gamma * length * move",
        chosen("training/test_composition.py", "perturbed_step"),
    ),
    Change(
        "checkpoints leave the optimizers out",
        "robust_tf/training/checkpoints.py",
        "for variable in compat.optimizer_variables(optimizer)",
        "for variable in ()",
        chosen(METHODS, "Standard-trainer or AdversarialTraining-trainer"),
    ),
    Change(
        "every epoch has the order of the first",
        "robust_tf/data/splits.py",
        "np.random.default_rng([seed, epoch, 0])",
        "np.random.default_rng([seed, 0, 0])",
        chosen("data/test_pipeline.py", "same_seed"),
    ),
    Change(
        "the worst case is that of the best attack",
        "robust_tf/evaluation/results.py",
        "return np.logical_and.reduce(verdicts)",
        "return np.logical_or.reduce(verdicts)",
        chosen("evaluation/test_evaluator.py", "worst_case"),
    ),
    Change(
        "what an attack puts outside its ball counts",
        "robust_tf/evaluation/runner.py",
        "fits &= np.logical_or.reduce(inside)",
        "pass",
        chosen("evaluation/test_protocol.py", "not_an_image"),
    ),
    Change(
        "the union of balls takes the candidate of the lowest cross-entropy",
        "robust_tf/attacks/union.py",
        "take = value > highest",
        "take = value < highest",
        chosen("attacks/test_union.py", "highest_cross_entropy"),
    ),
    Change(
        "a run's worst case counts attacks of any norm up to its eps",
        "robust_tf/runs/worst_case.py",
        "return _NESTED.index(outer[0]) <= _NESTED.index(inner[0])",
        "return True",
        chosen("runs/test_threats.py", "lie_in_which"),
    ),
    Change(
        "a stage of an attack meets the images again that the one before has broken",
        "robust_tf/evaluation/evaluation_run.py",
        "self._chunks(np.flatnonzero(outcome.robust))",
        "self._chunks(np.flatnonzero(natural))",
        chosen("evaluation/test_evaluator.py", "stages"),
    ),
    Change(
        "the papers' count leaves out the images that are misclassified without an attack",
        "robust_tf/evaluation/evaluation_run.py",
        "alone |= outcome.robust",
        "alone = outcome.robust.copy()",
        chosen("evaluation/test_adaptive.py", "papers_count_is"),
    ),
    Change(
        "a collapsed network is not noticed",
        "robust_tf/evaluation/checks/forward.py",
        "return int(predictions[0]) if wrong.sum() >= 3",
        "return None if wrong.sum() >= 3",
        chosen("evaluation/test_checks.py", "collapsed"),
    ),
    Change(
        "the manifold transformation goes to the adversarial side",
        "robust_tf/inference/manifold.py",
        "u + tf.stop_gradient(reach * tf.sign(gradient))",
        "u - tf.stop_gradient(reach * tf.sign(gradient))",
        chosen("inference/test_manifold.py", "step_of_the_paper"),
    ),
    Change(
        "intervals of accuracies are those of the fooled",
        "robust_tf/figures/curves.py",
        "low, high = wilson(np.asarray(counts), examples)",
        "low, high = wilson(examples - np.asarray(counts), examples)",
        chosen("figures/test_numbers.py", "curve_of_an_evaluation"),
    ),
    Change(
        "the curves of two runs are swapped",
        "robust_tf/cli/figure_kinds.py",
        "inputs.best_curves(runs, options.evaluation)",
        "inputs.best_curves(dict(zip(runs, [*runs.values()][::-1])), options.evaluation)",
        chosen("figures/test_figures_command.py", "numbers_of_the_runs"),
    ),
    Change(
        "the report shows one run's features beside the other's name",
        "robust_tf/report/features.py",
        "enumerate(zip(runs, analyses, strict=True))",
        "enumerate(zip(runs, analyses[::-1], strict=True))",
        chosen("report"),
    ),
    Change(
        "a changed digit is not found",
        "robust_tf/files.py",
        "return value.pop(CHECKSUM) == _checksum(value)",
        "return bool(value.pop(CHECKSUM))",
        chosen("test_files.py", "changed_digit"),
    ),
    Change(
        "the order of checkpoints is that of TensorFlow's list alone",
        "robust_tf/training/checkpoint_files.py",
        "for name in reversed([*rest, *listed])]",
        "for name in reversed(listed)]",
        chosen("faults/test_faults.py", "checkpoint"),
    ),
]
