"""Calls of the Python API that are wrong: one bad argument each, and bad data."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from robust_tf import attacks, data, evaluation, inference, losses, methods, models, training
from tests.bad_inputs import arguments, judging
from tests.tiny import images, tiny_network

PGD = attacks.PGD(0.1, 0.05, 2)
# Of parameters that any text fits, or that are looked at when they are used.
FREE = {"name", "path", "directory", "file", "label", "split", "teacher", "source", "data_dir"}
FREE |= {"initial", "frozen", "train", "validation", "test", "image", "augmentation", "at"}
# What is right although it looks wrong: (target, parameter).
RIGHT = {("Steepest", "step_size"), ("Recipe", "compare_with"), ("InputRange", "scale")}
RIGHT |= {
    ("piecewise", "epochs"),
    ("InputRange", "offset"),
    ("load", "validation_size"),
    ("load", "test_size"),
}
RIGHT |= {("ImageFolder", "image_size"), ("ImageTable", "image_size")}


class Call(NamedTuple):
    """A call, its kind, and what an error has to name."""

    kind: str
    text: str
    run: Callable[[], Any]
    names: tuple[str, ...] = ()

    def fault(self) -> str:
        """What is not clear in the answer; '' if nothing is."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.run()
            raised = None
        except Exception as error:
            raised = error
        return judging.error(raised, self.names)


def targets() -> dict[str, tuple[str, Callable[..., Any], dict[str, Any]]]:
    """By name: the kind, what is called, and right arguments where it has no defaults."""
    found: dict[str, tuple[str, Callable[..., Any], dict[str, Any]]] = {}
    for name, given in _attacks().items():
        found[name] = ("attacks", getattr(attacks, name), given)
    for name, given in _methods().items():
        found[name] = ("methods", getattr(methods, name), given)
    for name, given in _models().items():
        found[name] = ("models", getattr(models, name), given)
    schedule = {"learning_rate": 0.1, "steps_per_epoch": 3, "epochs": 2}
    for name, given in {
        "Recipe": {},
        "AWP": {"steps_per_epoch": 3},
        "EMA": {"steps_per_epoch": 3},
        "SWA": {"steps_per_epoch": 3, "from_epoch": 1},
        "WeightAverage": {},
        "WeightPerturbation": {},
        "piecewise": schedule,
        "cosine": schedule,
        "polyline": schedule,
        "SGD": {"learning_rate": 0.1},
        "PseudoLabels": {"teacher": "x"},
        "make_strategy": {},
    }.items():
        found[name] = ("training", getattr(training, name), given)
    for name, given in {
        "Augmentation": {},
        "Cutout": {"size": 2},
        "Mixup": {},
        "CutMix": {},
        "RandAugment": {},
        "ImageFolder": {"directory": "nowhere"},
        "ImageTable": {"path": ".", "file": "a.csv"},
        "TFDS": {"name": "mnist"},
    }.items():
        found[name] = ("data", getattr(data, name), given)
    for name, given in {
        "Protocol": {},
        "battery": {"name": "smoke", "eps": 0.1},
        "parse_attack": {"text": "FGSM(.1)"},
    }.items():
        found[name] = ("evaluation", getattr(evaluation, name), given)
    return found


def _attacks() -> dict[str, dict[str, Any]]:
    usual = {"eps": 0.1, "step_size": 0.05, "steps": 2}
    given: dict[str, dict[str, Any]] = {
        "MultiTargeted": {"attack": PGD},
        "MSD": {"attacks": [attacks.BIM(0.1, 0.05, 2)]},
        "Union": {"attacks": [PGD, PGD]},
        "Transfer": {"attack": PGD, "source": lambda x: x},
        "ProjectedGradient": {
            "threat": attacks.Linf(0.1),
            "step": attacks.Steepest(0.05),
            "steps": 2,
        },
    }
    bases = {"Attack", "Budget", "GradientAttack", "MinimalDistance", "MinimumNorm", "Objective"}
    bases |= {"Start", "Threat", "CleanStart", "UniformStart"}
    for name in set(attacks.__all__) - bases - set(given):
        parameters = inspect.signature(getattr(attacks, name)).parameters.values()
        given[name] = {one.name: usual[one.name] for one in parameters if one.default is one.empty}
    return dict(sorted(given.items()))


def _methods() -> dict[str, dict[str, Any]]:
    network = tiny_network()
    own = {
        "NuAT": attacks.NuclearAttack(0.1),
        "SqueezeTraining": attacks.SqueezeAttack(0.1, 0.05, 2),
        "GradAlign": attacks.FGSM(0.1),
        "FeatureScattering": attacks.ScatteringAttack(0.1),
        "TRADES": attacks.TRADESAttack(0.1, 0.05, 2),
        "Free": attacks.FGSM(0.1, True),
    }
    every = ("ADR", "ALP", "AdversarialTraining", "Bilateral", "LAT", "MART", "TLA", *own)
    given = {name: {"network": network, "attack": own.get(name, PGD)} for name in every}
    given["Standard"] = {"network": network}
    members = [attacks.FGSM(0.1), attacks.FGSM(0.5, norm="L2")]
    given["UnionTraining"] = {"network": network, "attacks": members}
    return {**given, "Compactness": {}, "DiscriminatorTraining": {}}


def _models() -> dict[str, dict[str, Any]]:
    shape = {"input_shape": (8, 8, 1), "num_classes": 3}
    return {
        "MLP": shape,
        "CNN": {**shape, "input_shape": (20, 20, 1)},
        "WideResNet": {**shape, "depth": 10, "width": 1},
        "MLPDiscriminator": {"inputs": 4, "num_classes": 3},
        "InputRange": {"scale": 255.0},
        "PerImageStandardization": {},
        "BatchNormalization": {},
        "Dropout": {"rate": 0.1},
        "WholeClassifier": {"model": tiny_network()},
        "split": {"model": tiny_network()},
        "as_classifier": {"model": tiny_network()},
        "convert": {"model": tiny_network()},
    }


def one_wrong(kinds: tuple[str, ...] = ()) -> Iterator[Call]:
    """Each parameter of each target with each value that its kind never takes."""
    for name, (kind, target, given) in targets().items():
        if kinds and kind not in kinds:
            continue
        for parameter, annotation in arguments.annotations(target).items():
            if (name, parameter) in RIGHT:
                continue
            for value in arguments.refused(annotation):
                if parameter in FREE and isinstance(value, str):
                    continue
                yield with_value(kind, name, target, given, parameter, value)


def with_value(
    kind: str,
    name: str,
    target: Callable[..., Any],
    given: dict[str, Any],
    parameter: str,
    value: Any,
) -> Call:
    """The call of a target with this value in one parameter."""
    run = functools.partial(target, **{**given, parameter: value})
    return Call(kind, f"{name}({parameter}={value!r})", run, (parameter, repr(value)))


def bad_data(folder: Path) -> list[Call]:
    """Data, models and texts of wrong shapes, types and ranges, where they are given.

    Args:
      folder: for files of data.
    """
    x, y = images(), np.arange(6) % 3
    logits = tf.zeros([4, 3])

    def model(images):
        return tf.reshape(images, [-1, 64])[:, :3]

    fgsm = attacks.FGSM(0.1)
    pairs = {
        "uint8 images": (np.zeros((6, 8, 8, 1), "uint8"), y),
        "images in 0..255": (255 * x, y),
        "NaN images": (np.full_like(x, np.nan), y),
        "images below 0": (x - 1, y),
        "float64 images": (x.astype("float64"), y),
        "one-hot labels": (x, np.eye(3)[y]),
        "a column of labels": (x, y[:, None]),
        "labels of a float type": (x, y.astype("float32")),
        "too few labels": (x, y[:3]),
        "labels out of range": (x, y + 3),
        "negative labels": (x, y - 1),
        "no labels": (x, None),
        "text for labels": (x, ["a"] * 6),
        "a number for images": (0.5, 1),
    }
    found = [
        Call("attack on data", what, functools.partial(fgsm, model, *pair))
        for what, pair in pairs.items()
    ]
    found += [
        Call("attack on data", f"model {one!r}", functools.partial(fgsm, one, x, y))
        for one in (None, "runs/mine", 3)
    ]
    wrong = {
        "features": lambda x: tf.reshape(x, [-1, 8, 8]),
        "one number": lambda x: tf.reduce_mean(x),
        "a list": lambda x: [model(x), model(x)],
        "a dictionary": lambda x: {"logits": model(x)},
    }
    found += [
        Call("attack on models", f"a model that gives {what}", functools.partial(fgsm, one, x, y))
        for what, one in wrong.items()
    ]
    for name, value in (("eps", -1), ("eps", 8), ("eps", "0.1"), ("step_size", -1), ("seed", "a")):
        call = functools.partial(PGD if name != "step_size" else fgsm, model, x, y, **{name: value})
        found.append(Call("attack on data", f"{name}={value!r} at the call", call, (name,)))
    for name, value in {
        "batch_size": 0,
        "max_examples": -1,
        "shard": (3, 2),
        "seed": 1.5,
        "search_dtype": "float8",
        "eps": "0.1",
        "draw": "last",
        "draw_seed": -1,
    }.items():
        run = functools.partial(evaluation.evaluate, model, (x, y), [fgsm], **{name: value})
        found.append(Call("evaluate", f"{name}={value!r}", run, (name,)))
    for what, given in {
        "no model": (None, (x, y), [fgsm]),
        "a class for an attack": (model, (x, y), [attacks.FGSM]),
        "an unknown attack": (model, (x, y), "FGMS(0.1)"),
        "images alone": (model, x, [fgsm]),
        "images in 0..255": (model, (255 * x, y), [fgsm]),
        "NaN images": (model, (np.full_like(x, np.nan), y), [fgsm]),
        "one-hot labels": (model, (x, np.eye(3)[y]), [fgsm]),
        "no images": (model, (x[:0], y[:0]), [fgsm]),
        "a path for data": (model, "digits", [fgsm]),
    }.items():
        run = functools.partial(evaluation.evaluate, *given, progress=False)
        found.append(Call("evaluate", what, run))
    files = {
        "too few labels": {"x_train": x, "y_train": y[:3]},
        "no labels": {"x_train": x},
        "one-hot labels": {"x_train": x, "y_train": np.eye(3)[y]},
        "NaN images": {"x_train": np.full_like(x, np.nan), "y_train": y},
        "images in 0..255, float": {"x_train": 255 * x, "y_train": y},
        "test images of another size": {
            "x_train": x,
            "y_train": y,
            "x_test": x[:, :4],
            "y_test": y,
        },
        "objects": {"x_train": np.array([{}] * 6, object), "y_train": y},
    }
    for what, held in files.items():
        path = folder / f"{what}.npz"
        np.savez(path, **held)
        run = functools.partial(data.load, "mine", source=data.Arrays(str(path)))
        found.append(Call("data.load", what, run))
    for what in (data.Arrays("nowhere.npz"), data.ImageFolder("nowhere"), data.TFDS("nowhere")):
        run = functools.partial(data.load, "mine", source=what)
        found.append(Call("data.load", str(what), run))
    for given in (
        {"name": "minst"},
        {"name": 3},
        {"name": "digits", "validation_size": -1},
        {"name": "digits", "validation_size": 1.5},
        {"name": "digits", "source": 3},
        {"name": "digits", "in_memory": "perhaps"},
        {"name": "digits", "seed": -1},
    ):
        found.append(Call("data.load", str(given), functools.partial(data.load, **given)))
    for name, run in {
        "kl_divergence": lambda: losses.kl_divergence(logits, tf.zeros([4, 5])),
        "cross_entropy": lambda: losses.cross_entropy(logits, tf.zeros([3], tf.int32)),
        "boosted": lambda: losses.boosted_cross_entropy(tf.zeros([4]), tf.zeros([4], tf.int32)),
        "smooth_labels": lambda: losses.smooth_labels(tf.zeros([4], tf.int32), 3, 1.5),
        "squeeze_regularizer": lambda: losses.squeeze_regularizer("l7"),
    }.items():
        found.append(Call("losses", name, run))
    network, discriminator = tiny_network(), models.MLPDiscriminator(3, 3)
    for name, value in (("delta", -1), ("delta", "a"), ("gate", (0.7, 0.3)), ("disc_input", "x")):
        run = functools.partial(
            inference.ManifoldTransformation, network, discriminator, **{name: value}
        )
        found.append(Call("inference", f"{name}={value!r}", run, (name,)))
    return found
