"""The trainer: stops at what is not a number, keeps the best."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, data
from robust_tf.attacks import PGD
from robust_tf.methods import ADR, Standard
from robust_tf.models import MLP
from robust_tf.training import NonFiniteLossError
from tests.training.runs import moons, points_recipe, rows, trainer


class Exploding(ADR):
    """ADR whose entropy overflows from its fourth step on."""

    def terms(self, batch):
        terms = super().terms(batch)
        grown = tf.where(self.optimizer.iterations >= 3, float("inf"), 1.0)
        return {**terms, "entropy": lambda: grown * (1 + terms["entropy"]())}


def test_non_finite_loss_names_term_step_and_last_good_checkpoint(tmp_path):
    method = functools.partial(Exploding, attack=PGD(0.02, 0.01, 1))
    run = trainer(tmp_path, points_recipe(method=method, steps_per_call=3), moons())
    with pytest.raises(NonFiniteLossError) as error:
        run.train()
    message = str(error.value)
    assert "non-finite loss at step 4, term entropy. " in message
    path = str(tmp_path / "checkpoints/last/ckpt-3")
    assert path in message and "train.learning_rate" in message
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
        if name.startswith(("network", "optimizer")):
            assert np.isfinite(reader.get_tensor(name)).all(), name
    assert not (tmp_path / "model.keras").exists()
    # The same command finds the same wall, from that checkpoint on.
    with pytest.raises(NonFiniteLossError, match="at step 4"):
        trainer(tmp_path, points_recipe(method=method, steps_per_call=3), moons()).train()


def test_weights_that_overflow_are_never_saved(tmp_path):
    class Leaping(keras.optimizers.SGD):
        """Leaves the numbers at its second step, after a finite loss."""

        def apply_gradients(self, pairs, *args, **kwargs):
            scale = tf.where(self.iterations >= 1, float("inf"), 1.0)
            pairs = [(scale * (1 + gradient), variable) for gradient, variable in pairs]
            return super().apply_gradients(pairs, *args, **kwargs)

    settings = {"optimizer": Leaping, "steps_per_call": 2, "method": Standard, "epochs": 1}
    run = trainer(tmp_path, points_recipe(**settings), moons())
    with pytest.raises(NonFiniteLossError, match=r"after step 2.*cross_entropy.*ckpt-0"):
        run.train()


def test_best_is_the_best_by_robust_validation_accuracy(tmp_path):
    run = trainer(tmp_path, points_recipe(epochs=4, validate_every=2), moons())
    summary = run.train()
    scores = {
        row["epoch"]: row["val_robust_accuracy"]
        for row in rows(tmp_path)
        if "val_robust_accuracy" in row
    }
    assert set(scores) == {2, 4}
    best = max(scores.values())
    assert summary["best_validation_accuracy"] == best
    assert summary["best_epoch"] == next(e for e, score in scores.items() if score == best)
    saved = keras.models.load_model(tmp_path / "best.keras")
    last = run.model.network.get_weights()
    assert run.checkpoints.load_best([run.model.network])
    for best_weight, weight in zip(
        saved.get_weights(), run.model.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(best_weight, weight)
    in_file = keras.models.load_model(tmp_path / "model.keras").get_weights()
    for last_weight, weight in zip(last, in_file, strict=True):
        np.testing.assert_array_equal(last_weight, weight)
    values, one_class = run.loop.test(data.batches(run.dataset.validation, 25))
    assert values["robust_accuracy"] == best
    predicted = np.argmax(run.model.network(run.dataset.validation.images), 1)
    assert (one_class is not None) == (len(set(predicted)) == 1)


def test_no_validation_split_and_no_attacks(tmp_path):
    settings = {"validation_attack": None, "evaluation_attacks": (), "method": Standard}
    summary = trainer(tmp_path, points_recipe(**settings), moons(validation=0)).train()
    assert summary["robust_accuracy"] == {} and summary["best_epoch"] == -1
    assert summary["worst_case"] == summary["natural_accuracy"]


def one_class(input_shape, num_classes):
    """A network that predicts class 1, whatever the image."""
    network = MLP(input_shape, num_classes)
    kernel, bias = network.classifier.layers[-1].weights[-2:]
    compat.raw(kernel).assign(tf.zeros_like(compat.raw(kernel)))
    compat.raw(bias).assign(np.arange(num_classes, dtype="float32"))
    return network


@pytest.mark.parametrize(
    "validation, images",
    [(25, "all 25 validation images"), (0, "all images of a training batch")],
)
def test_a_network_that_predicts_one_class_is_said_once(validation, images, tmp_path):
    settings = {"network": one_class, "method": Standard, "learning_rate": 1e-9}
    settings |= {"validation_attack": None, "evaluation_attacks": ()}
    run = trainer(tmp_path, points_recipe(**settings), moons(validation=validation))
    with pytest.warns(UserWarning) as given:
        run.train()
    said = [str(one.message) for one in given if "collapsed" in str(one.message)]
    assert len(said) == 1  # of two epochs
    assert f"it predicts class 1 for {images}" in said[0]
    assert (
        "train.eps_warmup_epochs or train.term_warmup_epochs, or lower train.learning_r" in said[0]
    )
    assert run.collapsed and [row["collapsed"] for row in rows(tmp_path)] == [True, True]
