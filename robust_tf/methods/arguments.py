"""What a training method is given, checked: its network, attack, weights and batches."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from robust_tf.attacks import Attack
from robust_tf.attacks.arguments import check_labels
from robust_tf.models import Classifier, SplitClassifier, as_classifier, remat


def checked_network(owner: str, network: Any, needs_features: bool) -> Classifier:
    """`network` as a `Classifier` whose layers follow `forward_mode`, see `models.as_classifier`.

    Raises:
      TypeError: no Keras model.
      ValueError: a model that cannot be trained as it is; one without features where they are
        needed.
    """
    try:
        made = as_classifier(network)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: {error}") from error
    if needs_features and not isinstance(made, SplitClassifier):
        raise ValueError(
            f"{owner} works on the features of an intermediate layer, and {made.name!r} has none, "
            "as its layers are not known or cannot be cut; give a functional model that "
            "models.split(model, at=LAYER) can cut, or SplitClassifier(generator, classifier)."
        )
    return made


def check_attack(owner: str, attack: Any) -> None:
    """Raises ValueError unless `attack` is an untargeted `Attack`, and not a name or a class."""
    if attack is None:
        raise ValueError(
            f"{owner}(attack=None): give the training adversary, e.g. "
            "attacks.PGD(eps=0.3, step_size=0.01, steps=40), or train with Standard."
        )
    if not isinstance(attack, Attack):
        raise ValueError(
            f"{owner}(attack={attack!r}): must be an attack, an object such as "
            "attacks.PGD(eps=0.3, step_size=0.01, steps=40)."
        )
    if getattr(getattr(attack, "objective", None), "targeted", False):
        raise ValueError(
            f"{owner}(attack={attack!r}): it is targeted, and training gives no classes to aim at; "
            "give it with targeted=False."
        )


def check_weights(owner: str, weights: dict[str, float]) -> None:
    """Raises ValueError unless the weight of each term is finite and >= 0."""
    for term, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{owner}({term}={weight!r}): weights must be finite and >= 0.")


def check_soft_labels(model: Any, why: str, among: set[Any]) -> None:
    """Raises ValueError unless a method can train on distributions over the classes.

    Args:
      model: the method.
      why: what makes them, 'Mixup()'.
      among: classes of methods, of which those that can are named.
    """
    if not model.takes_soft_labels:
        able = sorted(one.__name__ for one in among if one.takes_soft_labels)
        raise ValueError(
            f"{why} mixes labels, and {type(model).__name__} takes class ids alone: train with "
            f"{', '.join(able[:-1])} or {able[-1]}, or take it out of data.augmentation."
        )
    if model.attack is not None and not model.attack.takes_soft_labels:
        raise ValueError(
            f"{why} mixes labels, and the training attack {model.attack!r} takes class ids "
            "alone: give one that ends at its last iterate (restarts=1, keep='last') and "
            "raises CrossEntropy or KLDivergence, such as PGD or TRADESAttack, or take it out "
            "of data.augmentation."
        )


def check_parts(model: Any) -> None:
    """Warns of what a step on a batch in parts has of each part, and not of the whole.

    Raises:
      ValueError: a method that cannot train on parts.
    """
    found = [clause for clause in (model.of_a_part(),) if clause]
    if model.network.has_batch_norm:
        found.append("batch statistics are of each part")
    if found:
        warnings.warn(
            f"accumulate={model.settings.execution.accumulate}: a step is not quite that of the "
            f"whole batch: {', and '.join(found)}.",
            stacklevel=3,
        )


def turn_remat(model: Any) -> None:
    """Has the network of a compiled method rematerialized, or not, as its settings say.

    Raises:
      ValueError: the method differentiates the network twice.
    """
    on = model.settings.execution.remat
    if on and model.second_order:
        raise ValueError(
            f"remat=True: {type(model).__name__} takes the gradient of a gradient, through which "
            "rematerialization does not go; use accumulate to save memory."
        )
    if remat.turn(model.network.inner_models, on) < 2 and on:
        warnings.warn(
            f"remat=True saves nothing: {model.network.name!r} has no place where all of the "
            "computation passes, or its layers are not known.",
            stacklevel=3,
        )


def gradient_steps(attack: Attack) -> int:
    """The most gradient steps of an attack, of those that it runs, and of its stages; or 0."""
    parts = [one for _, one in attack.stages() if one is not attack]
    parts += [one for one in (getattr(attack, "attack", None),) if isinstance(one, Attack)]
    own = getattr(attack, "steps", 0)
    return max([int(own) if isinstance(own, int) else 0, *map(gradient_steps, parts)])


def subclasses(cls: type) -> set[Any]:
    """All of a class, of whatever depth."""
    found: set[Any] = set(cls.__subclasses__())
    return found.union(*map(subclasses, found))


def unpack(
    data: Any, network: Classifier, soft: bool = False
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Images float32, labels int32, sample weights float32 or None; checked as the step runs.

    Args:
      data: (images, labels), (images, labels, sample weights) or {'image': ..., 'label': ...}.
      network: that takes the images.
      soft: whether labels may be distributions over the classes, float32 (B, C), too.

    Raises:
      ValueError: another structure; labels that are not class ids; images of another shape than the
        network takes; weights that are not one number for each example.
      TypeError: images that are not of a floating type.
    """
    x, y, weights = _parts(data)
    x, y = map(tf.convert_to_tensor, (x, y))
    if not x.dtype.is_floating:
        raise TypeError(
            f"images are {x.dtype.name}; methods take float32 in [0, 1]: "
            "tf.cast(x, tf.float32), divided by 255 if the pixels are 0..255."
        )
    soft = soft and y.shape.rank == 2 and y.dtype.is_floating
    if not soft:
        check_labels(y)
    if not x.shape[1:].is_compatible_with(network.image_shape):
        raise ValueError(
            f"images have shape {tuple(x.shape[1:])}, the network takes "
            f"{tuple(network.image_shape)}: resize the images, or build the network with "
            f"input_shape={tuple(x.shape[1:])}."
        )
    num_classes = network.num_classes
    x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32 if soft else tf.int32)
    low, high = tf.reduce_min(x), tf.reduce_max(x)
    wanted = "images must be finite and in [0, 1], divided by 255 if the pixels are 0..255; range:"
    images_fit = tf.debugging.Assert(tf.logical_and(low >= 0.0, high <= 1.0), [wanted, low, high])
    fit = [images_fit, _soft_fit(y, num_classes) if soft else _ids_fit(y, num_classes)]
    if weights is not None:
        weights = tf.cast(weights, tf.float32)
        if weights.shape.rank == 2 and weights.shape[1] == 1:
            weights = weights[:, 0]
        if weights.shape.rank != 1:
            raise ValueError(
                f"sample weights have shape {weights.shape}: give one number for each example, "
                "(B,)."
            )
        low, high = tf.reduce_min(weights), tf.reduce_max(weights)
        wanted = "sample weights must be finite and >= 0; range:"
        proper = tf.logical_and(low >= 0.0, high < float("inf"))
        fit.append(tf.debugging.Assert(proper, [wanted, low, high]))
    with tf.control_dependencies(fit):  # before a kernel meets them
        return tf.identity(x), tf.identity(y), None if weights is None else tf.identity(weights)


def _ids_fit(y: tf.Tensor, num_classes: int) -> Any:
    low, high = tf.reduce_min(y), tf.reduce_max(y)
    wanted = f"labels must be class ids in 0..{num_classes - 1}; range:"
    return tf.debugging.Assert(tf.logical_and(low >= 0, high < num_classes), [wanted, low, high])


def _soft_fit(y: tf.Tensor, num_classes: int) -> Any:
    if y.shape[1] != num_classes:
        raise ValueError(
            f"labels have shape {y.shape}, the network {num_classes} classes: give distributions "
            f"(batch, {num_classes})."
        )
    sums, low = tf.reduce_sum(y, axis=1), tf.reduce_min(y)
    least, most = tf.reduce_min(sums), tf.reduce_max(sums)
    wanted = "labels must be distributions over the classes; least probability, range of sums:"
    fits = (low >= -1e-6) & (least > 0.999) & (most < 1.001)
    return tf.debugging.Assert(fits, [wanted, low, least, most])


def _parts(data: Any) -> tuple[Any, Any, Any]:
    """Images, labels and sample weights, or None, of what Keras gives a step."""
    if isinstance(data, (tuple, list)) and len(data) == 1:
        data = data[0]
    if isinstance(data, Mapping) and {"image", "label"} <= set(data):
        return data["image"], data["label"], data.get("sample_weight")
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        x, y, weights = (*data, None)[:3]
        if not any(part is None or isinstance(part, (Mapping, tuple, list)) for part in (x, y)):
            return x, y, weights
    raise ValueError(
        f"a batch is {_described(data)}; expected (images, labels), (images, labels, sample "
        "weights) or {'image': images, 'label': labels}: write dataset.map(lambda ...: (images, "
        "labels))."
    )


def _described(data: Any) -> str:
    """The structure in words: '(float32 (None, 8, 8, 1), None)'."""
    if isinstance(data, Mapping):
        return "{" + ", ".join(f"{key!r}: {_described(data[key])}" for key in data) + "}"
    if isinstance(data, (tuple, list)):
        return f"({', '.join(map(_described, data))})" if data else "()"
    if data is None:
        return "None"
    return f"{tf.as_dtype(data.dtype).name} {tuple(data.shape)}"
