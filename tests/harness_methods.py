"""What every training method promises (WORKSPACE.md, *Contracts*), a function for each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, data
from robust_tf.attacks import BIM, PGD
from robust_tf.training import WeightAverage, WeightPerturbation
from robust_tf.training.checkpoints import Checkpoints
from robust_tf.training.loop import Loop
from tests.tiny import labelled, same_bits, tiny_network, two_replicas, weights_of
from tests.training.runs import assert_same_values, checkpoint


@dataclasses.dataclass
class MethodCase:
    """A training method and what is expected of it.

    method: class. arguments: of its constructor, the network aside. network: of `builder`.
    without_chance: arguments that leave nothing random but dropout and the attack. independent:
    whether the examples of a batch do not see each other.
    """

    method: type
    arguments: dict[str, Any]
    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    without_chance: dict[str, Any] = dataclasses.field(default_factory=dict)
    independent: bool = True
    builder: Callable[..., keras.Model] = tiny_network

    def build(self, dropout: float = 0.3, compiled: Any = (), **arguments: Any) -> Any:
        """A new model, always of the same weights, compiled with momentum SGD."""
        network = self.builder(dropout=dropout, **self.network)
        model = self.method(network, **{**self.arguments, **arguments})
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(**{"optimizer": optimizer, "seed": 3, **dict(compiled)})
        return model


def fit(model: Any, steps: int, batch: int = 12, **kwargs: Any) -> dict[str, list[float]]:
    """`model.fit` for so many steps on one batch, an epoch each; the logs by epoch."""
    x, y = labelled(batch)
    kwargs = {"epochs": steps, "batch_size": batch, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, **kwargs).history


def same_weights(a: Any, b: Any, atol: float | None = None) -> None:
    """Bit for bit, or to a tolerance."""
    for one, other in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol or 0)


def check_learns(case: MethodCase) -> None:
    """Every trainable variable moves; the loss is the sum of its terms, and falls; all finite, also
    on one class alone and on one example alone."""
    model = case.build(dropout=0.0)
    before = [compat.raw(v).numpy() for v in model.trainable_variables]
    history = fit(model, 1)
    assert before
    for old, variable in zip(before, model.trainable_variables, strict=True):
        new = compat.raw(variable).numpy()
        assert np.isfinite(new).all() and (new != old).any(), variable.name
    history = {name: [*history[name], *values] for name, values in fit(model, 7).items()}
    assert history["loss"][-1] < history["loss"][0], history["loss"]
    assert set(history) == set(model.train_names)
    assert all(np.isfinite(values).all() for values in history.values())
    total = sum(w * np.array(history[name]) for name, w in model.term_weights.items())
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    x, y = labelled()
    for images, labels in ((x[y == 1], y[y == 1]), (x[:1], y[:1])):
        logs = model.fit(images, labels, batch_size=12, verbose=0).history
        assert np.isfinite([*logs.values()]).all(), logs
        assert all(np.isfinite(w).all() for w in weights_of(model))


def check_seed(case: MethodCase) -> None:
    """Another seed, other bits."""
    one, other = case.build(), case.build(compiled={"seed": 4})
    for model in (one, other):
        fit(model, 1)
    assert any((a != b).any() for a, b in zip(weights_of(one), weights_of(other), strict=True))


def saved(model: Any, folder: Any) -> dict[str, np.ndarray]:
    """Makes a checkpoint of the trainer's there; what it holds."""
    Checkpoints(str(folder / "checkpoints"), model).save_last()
    return checkpoint(folder, "last")


def restore(model: Any, folder: Any) -> None:
    assert Checkpoints(str(folder / "checkpoints"), model).restore_last()


@contextlib.contextmanager
def sums_as_written() -> Iterator[None]:
    """TensorFlow reorders sums, in a loop otherwise than outside: weights would be an ulp apart."""
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})


@sums_as_written()
def check_trainer(case: MethodCase, folder: Any) -> None:
    """The trainer's loop, the same stopped within an epoch and continued, `fit`: the same bits."""
    split, batch = data.Split(*labelled(24)), 12
    batches = functools.partial(data.batches, split, batch, seed=3, training=True)
    compiled = {"weight_decay": 0.01, "eps_warmup_steps": 3}
    trained, other = case.build(compiled=compiled), case.build(compiled=compiled)
    quiet = {"shuffle": False, "verbose": 0}
    beginning = saved(other, folder / "beginning")
    loop = Loop(trained, tf.distribute.get_strategy())

    def steps(count: int, **which: int) -> None:
        good, _ = loop.train(iter(batches(**which)), tf.constant(count))
        assert int(good) == count

    steps(2, epoch=0)
    loop.reset()
    steps(1, epoch=1)
    halfway = saved(trained, folder / "halfway")
    steps(1, epoch=1, skip=1)
    end, logs = saved(trained, folder / "end"), loop.train_metrics()
    restore(trained, folder / "halfway")
    steps(1, epoch=1, skip=1)
    assert_same_values(saved(trained, folder / "again"), end)
    # A model that was never trained, as a new process has it, goes on by `fit`.
    restore(other, folder / "halfway")
    assert_same_values(saved(other, folder / "restored"), halfway)
    other.fit(batches(epoch=1, skip=1), **quiet)
    same_weights(other, trained)
    restore(other, folder / "beginning")
    assert_same_values(saved(other, folder / "afresh"), beginning)
    whole = data.epochs(split, batch, 2, seed=3)
    history = other.fit(whole, epochs=2, steps_per_epoch=2, **quiet).history
    same_weights(other, trained)
    assert history.keys() == logs.keys()
    for name, values in history.items():
        same_bits(np.float32(values[-1]), np.float32(logs[name]))


def check_composed(case: MethodCase) -> None:
    """Under a weight perturbation weights are put back and move on; an average lags behind."""
    perturbation, average = WeightPerturbation(0.05), WeightAverage(0.9)
    compiled = {"weight_perturbation": perturbation, "weight_average": average}
    model = case.build(compiled=compiled)
    variables = [compat.raw(v) for v in model.network.trainable_variables]
    first = [v.numpy() for v in variables]
    moved = [tf.Variable(w) for w in first]
    forward = model.forward

    def watched(*arguments: Any) -> Any:
        for seen, variable in zip(moved, variables, strict=True):
            seen.assign(variable)
        return forward(*arguments)

    model.forward = watched  # the last one of a step is at the weights that the adversary moved
    auxiliary = [optimizer for optimizer, _ in model.auxiliary_optimizers().values()]
    optimizers = [model.optimizer, *auxiliary]
    rates = [float(tf.convert_to_tensor(optimizer.learning_rate)) for optimizer in optimizers]
    for optimizer in optimizers:
        optimizer.learning_rate = 0.0
    history = fit(model, 1)
    for seen, variable, w in zip(moved, variables, first, strict=True):
        same_bits(variable, w)
        length = 0.05 * np.linalg.norm(w) if w.ndim > 1 else 0.0
        np.testing.assert_allclose(np.linalg.norm(seen - w), length, rtol=1e-4)
    for optimizer, rate in zip(optimizers, rates, strict=True):
        optimizer.learning_rate = rate
    for name, values in fit(model, 2).items():
        assert np.isfinite([*history[name], *values]).all(), name
    averaged = model.averaged.trainable_variables
    for variable, mean, w in zip(variables, averaged, first, strict=True):
        now, mean = variable.numpy(), compat.raw(mean).numpy()
        assert np.isfinite(now).all() and (now != w).any() and (now != mean).any()


def check_replicas(case: MethodCase, folder: Any) -> None:
    """Two replicas with half the batch each take the step of one with the whole; and with shares of
    6 + 6, 4 + 3 and 1 + 0 images all stays finite and, again, is what one replica computes.

    Where examples see each other it is those of a replica that do: there both get the same batch,
    and take the step of one; of unequal shares it is only said that all stays finite.
    """
    arguments = dict(case.without_chance)
    if "attack" in case.arguments:
        # In an L2 ball, where steps are continuous in the gradient: the sign of a component that is
        # zero but for rounding would move a pixel by eps, on one processor and not on another.
        arguments.setdefault("attack", BIM(1.0, 0.5, 2, norm="L2"))
    compiled = {"weight_decay": 0.01, "evaluation_attack": BIM(1.0, 0.5, 2, norm="L2")}
    alone = case.build(dropout=0.0, compiled=compiled, **arguments)
    with two_replicas().scope():
        shared = case.build(dropout=0.0, compiled=compiled, **arguments)
    saved(alone, folder)
    for images in (7, 13):
        x, y = labelled(images)
        weights = np.linspace(0.5, 1.5, images).astype("float32")
        sizes = {"batch_size": 12, "verbose": 0, "sample_weight": weights}
        losses = shared.fit(x, y, shuffle=False, **sizes).history
        after = shared.evaluate(x, y, **sizes)
        assert np.isfinite([*losses.values()]).all() and np.isfinite(after).all()
        assert all(np.isfinite(w).all() for w in weights_of(shared))
        if case.independent:
            right = alone.fit(x, y, shuffle=False, **sizes).history
            for name, values in right.items():
                np.testing.assert_allclose(losses[name], values, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(after, alone.evaluate(x, y, **sizes), rtol=1e-4)
            same_weights(alone, shared, atol=2e-5)
    x, y = labelled()
    for model, copies in ((alone, 1), (shared, 1 if case.independent else 2)):
        restore(model, folder)
        images, labels = np.concatenate([x] * copies), np.concatenate([y] * copies)
        equal = {"batch_size": len(images), "sample_weight": np.ones(len(images), "float32")}
        model.fit(images, labels, epochs=3, shuffle=False, verbose=0, **equal)
    same_weights(alone, shared, atol=2e-5)


def check_saved_midway(case: MethodCase, folder: Any) -> None:
    """Saved to .keras and loaded without custom objects, it is what it was, and trains on alike."""
    evaluation = PGD(0.1, 0.05, 2)
    compiled = {"evaluation_attack": evaluation, "weight_decay": 0.01, "eps_warmup_steps": 3}
    first = case.build(compiled=compiled)
    fit(first, 2)
    path = str(folder / "model.keras")
    first.save(path)
    second = keras.models.load_model(path)
    assert type(second) is case.method
    assert (second.attack, second.settings.evaluation_attack) == (first.attack, evaluation)
    assert int(second.optimizer.iterations) == 2 * first.updates_per_batch
    for name in ("settings", "term_weights", "name"):
        assert getattr(second, name) == getattr(first, name)
    was, now = first.get_config(), second.get_config()
    models = (
        "network",
        *first.auxiliary_models(),
    )  # whose shapes are lists after a file, tuples before
    assert all(now[key] == value for key, value in was.items() if key not in models)
    x, y = labelled()
    same_bits(second(x), first(x))
    same_weights(second, first)
    fit(first, 2)
    fit(second, 2)
    same_weights(second, first)
    same_bits(second.evaluate(x, y, verbose=0), first.evaluate(x, y, verbose=0))


def check_keras(case: MethodCase, folder: Any) -> None:
    """`fit` with validation and a checkpoint of the best, `evaluate`, `predict`."""
    model = case.build(compiled={"evaluation_attack": BIM(0.1, 0.05, 2)})
    x, y = labelled()
    path = str(folder / "best.keras")
    best = keras.callbacks.ModelCheckpoint(
        path, monitor="val_robust_accuracy", mode="max", save_best_only=True
    )
    history = fit(model, 2, validation_data=(x, y), validation_batch_size=8, callbacks=[best])
    assert {"val_loss", "val_natural_accuracy", "val_robust_accuracy"} <= set(history)
    logits = model.predict(x, batch_size=5, verbose=0)
    np.testing.assert_allclose(logits, model.network(x), rtol=0, atol=1e-5)
    results = model.evaluate(x, y, batch_size=12, verbose=0, return_dict=True)
    assert results["natural_accuracy"] == np.float32(np.mean(logits.argmax(1) == y))
    assert results["robust_accuracy"] == np.float32(history["val_robust_accuracy"][-1])
    assert results["robust_accuracy"] <= results["natural_accuracy"]
    kept = keras.models.load_model(path).evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(kept["robust_accuracy"], max(history["val_robust_accuracy"]))


def check_half(case: MethodCase) -> None:
    """In mixed_float16 the losses are those of float32, and every optimizer scales them."""
    histories = []
    for policy in ("float32", "mixed_float16"):
        keras.mixed_precision.set_global_policy(policy)
        model = case.build(dropout=0.0)
        histories.append(np.array(fit(model, 5)["loss"]))
    scales = keras.mixed_precision.LossScaleOptimizer
    auxiliary = [optimizer for optimizer, _ in model.auxiliary_optimizers().values()]
    assert all(isinstance(optimizer, scales) for optimizer in (model.optimizer, *auxiliary))
    np.testing.assert_allclose(*histories, rtol=0, atol=0.05)
    assert histories[1][-1] < histories[1][0]


def check_export(case: MethodCase, folder: Any) -> None:
    """Exported as it comes, and from a file, it gives the same logits."""
    model = case.build()
    model.save(folder / "model.keras")
    x, _ = labelled(5)
    for number, which in enumerate((model, keras.models.load_model(folder / "model.keras"))):
        which.export(str(folder / f"export{number}"))
        exported = tf.saved_model.load(str(folder / f"export{number}"))
        np.testing.assert_allclose(exported.serve(x), model.network(x), atol=1e-6)


METHOD_CHECKS = [
    check_learns,
    check_seed,
    check_trainer,
    check_composed,
    check_replicas,
    check_saved_midway,
    check_keras,
    check_half,
    check_export,
]


def run_method_test(
    case: MethodCase, folder: Any, checks: Sequence[Callable] = METHOD_CHECKS
) -> None:
    """Every promise of `METHOD_CHECKS`; `folder` is for files."""
    for check in checks:
        check(case, *([folder] if "folder" in check.__annotations__ else []))
