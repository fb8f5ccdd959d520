"""Any built Keras classifier, cut in two or taken whole."""

from __future__ import annotations

import difflib
import warnings
from typing import Any

import keras
import tensorflow as tf

from robust_tf import argument_types, compat
from robust_tf.models.classifier import (
    Classifier,
    WholeClassifier,
    choose_output,
    image_shape_of,
    probe,
)
from robust_tf.models.conversion import convert
from robust_tf.models.graph import Call, calls_of, endpoints
from robust_tf.models.logits import ends_in, take_off
from robust_tf.models.split import SplitClassifier

Halves = tuple[keras.Model, keras.Model]


@argument_types.checked
def split(model: Any, at: str | None = None, output: str | int | None = None) -> SplitClassifier:
    """Cuts a built Keras classifier in two, at a layer whose output becomes the features z.

    The halves are made of the model's own layers: they share its weights, and give the same bits.
    Its batch normalization and dropout are converted in place, see `convert`. A softmax at the end
    is taken off, of one unit with a sigmoid two logits are made, and a note says so. A layer is
    frozen by `layer.trainable = False`, in the model or in the halves.

    Args:
      model: Sequential or functional, also with models inside, such as those of
        `keras.applications`; images (B, H, W, C) -> (B, C).
      at: name of the last layer of the generator; None: the cut before the last layer with weights.
      output: which output, where the model gives several: a key, or a number.

    Returns:
      The model as a `SplitClassifier`.

    Raises:
      TypeError: not a Keras model.
      ValueError: a model that is not built or whose layers are not known; a layer that is not there
        or is called twice, or across which a connection skips (the nearest that can be cut are
        named); an output that is not that of a classifier; a layer that `convert` refuses.

    >>> network = models.split(keras.applications.MobileNetV2(weights=None), at="block_5_add")
    """
    model = _model_of(model)
    if isinstance(model, SplitClassifier):
        if output is not None:
            raise ValueError(f"models.split(output={output!r}): a SplitClassifier has one output.")
        if at is None:
            return convert(model)  # type: ignore[no-any-return]
    images, logits = _whole(model, output)
    halves = _halves(images, logits, at)
    if halves is None:
        raise ValueError(
            f"the model {model.name!r} cannot be cut: before its last layer with weights there is "
            "no place that all of the computation passes; methods without features take it whole."
        )
    return _made(SplitClassifier(*halves, name=model.name), model)  # type: ignore[return-value]


def as_classifier(model: Any) -> Classifier:
    """Any built Keras model as methods train it: cut by default, else whole; layers converted.

    Raises:
      TypeError, ValueError: as `split`, but for a cut that is not there.
    """
    model = _model_of(model)
    if isinstance(model, Classifier):
        return convert(model)  # type: ignore[no-any-return]
    if not compat.is_graph(model):
        if isinstance(model, keras.Sequential) or image_shape_of(model) is None:
            raise ValueError(_unbuilt(model))
        return convert(WholeClassifier(model))  # type: ignore[no-any-return]
    images, logits = _whole(model, None)
    halves = _halves(images, logits, None)
    if halves is not None:
        return _made(SplitClassifier(*halves, name=model.name), model)
    return _made(WholeClassifier(keras.Model(images, logits, name=model.name)), model)


def _model_of(model: Any) -> Any:
    """The Keras model in what was given."""
    if isinstance(model, WholeClassifier) and compat.is_graph(model.model):
        model = model.model
    if not isinstance(model, keras.Model) or hasattr(model, "step_metrics"):
        hint = "give a built Keras model, such as a Sequential or functional one."
        if hasattr(model, "network"):
            hint = "give its network."
        raise TypeError(f"the network is a {type(model).__name__}; {hint}")
    return model


def _made(network: Classifier, model: Any) -> Classifier:
    """A network that was made here of a model: logits, by a trial, and converted."""
    probe(network)
    network.weights_source = getattr(model, "weights_source", None)
    return convert(network)  # type: ignore[no-any-return]


def _unbuilt(model: Any) -> str:
    if isinstance(model, keras.Sequential):
        return (
            f"the model {model.name!r} is not built: begin it with keras.Input((height, width, "
            "channels)), or call model.build((None, height, width, channels))."
        )
    return (
        f"the model {model.name!r}, a {type(model).__name__}, is not built, so the shape of its "
        "images is not known: call it on images once, model(tf.zeros((1, height, width, "
        "channels))), or give models.WholeClassifier(model, image_shape=(height, width, channels))."
    )


def _whole(model: Any, output: str | int | None) -> tuple[Any, Any]:
    """Symbolic images and logits."""
    if isinstance(model, SplitClassifier):
        images = model.generator.inputs[0]
        return images, model.classifier(model.generator.outputs[0])
    if not compat.is_graph(model):
        if isinstance(model, keras.Sequential) or image_shape_of(model) is None:
            raise ValueError(_unbuilt(model))
        raise ValueError(
            f"models.split: the layers of {model.name!r}, a {type(model).__name__}, are called by "
            "code of its own, which cannot be cut; build it as a functional model, or give "
            "SplitClassifier(generator, classifier). Methods without features take it whole."
        )
    images, outputs = endpoints(model)
    chosen = choose_output(outputs, output, model.name)
    if chosen.shape.rank != 2 if hasattr(chosen.shape, "rank") else len(chosen.shape) != 2:
        raise ValueError(
            f"the model {model.name!r} gives {tuple(chosen.shape)}; a classifier gives logits, "
            "(batch, classes): end it with a pooling or Flatten and a Dense layer."
        )
    taken = take_off(chosen)
    if ends_in(taken.logits) is not None:
        raise ValueError(
            f"the model {model.name!r} ends in a {ends_in(taken.logits)} behind which there are "
            "other layers: end it before, so that it gives logits."
        )
    if taken.activation is not None:
        made = "two logits [0, z] were made of it" if taken.activation == "sigmoid" else "taken off"
        warnings.warn(
            f"the model {model.name!r} ends in a {taken.activation} (layer {taken.layer!r}): "
            f"{made}, as losses and attacks work on logits; the weights are shared.",
            stacklevel=4,
        )
    return images, taken.logits


def _halves(images: Any, logits: Any, at: str | None) -> Halves | None:
    """The models before and behind the cut; None where there is none by default."""
    calls = calls_of(images, logits)
    if at is not None:
        return _cut_at(images, logits, calls, at)
    weighted = [position for position, call in enumerate(calls) if call.has_weights]
    if not weighted:
        return None
    last = calls[weighted[-1]]
    if last.narrow or weighted[-1] == len(calls) - 1:
        inside = _inside(images, logits, last, None)
        if inside is not None:
            return inside
    for call in reversed(calls[: weighted[-1]]):
        if call.narrow:
            return _two(images, call.outputs[0], logits)
    return None


def _cut_at(images: Any, logits: Any, calls: list[Call], at: str) -> Halves:
    here = [position for position, call in enumerate(calls) if call.name == at]
    if len(here) > 1:
        raise ValueError(
            f"models.split(at={at!r}): the layer is called {len(here)} times, so that its name "
            "does not say where to cut; name the layer before or behind."
        )
    if here:
        call = calls[here[0]]
        if call.outputs[0] is logits:
            raise ValueError(
                f"models.split(at={at!r}): this layer gives the logits themselves, and nothing is "
                "left for the classifier; name one before it."
            )
        if not call.narrow:
            raise ValueError(_skipped(calls, here[0], at))
        return _two(images, call.outputs[0], logits)
    for position, call in enumerate(calls):
        if compat.is_graph(call.layer) and at in _names(call.layer):
            if not call.narrow and call.outputs[0] is not logits:
                raise ValueError(_skipped(calls, position, call.name))
            if sum(one.layer is call.layer for one in calls) > 1:
                raise ValueError(
                    f"models.split(at={at!r}): the model {call.name!r} around it is called twice; "
                    "name a layer before or behind."
                )
            if _ends_with(call.layer, at) and call.outputs[0] is not logits:
                return _two(images, call.outputs[0], logits)
            found = _inside(images, logits, call, at)
            assert found is not None  # `at` is given
            return found
    names = [call.name for call in calls if call.narrow and call.outputs[0] is not logits]
    near = difflib.get_close_matches(at, [call.name for call in calls], 1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"models.split(at={at!r}): on the way from images to logits there is no such layer; {hint}"
        f"it can be cut at {_listed(names)}."
    )


def _inside(images: Any, logits: Any, call: Call, at: str | None) -> Halves | None:
    """The halves by a cut inside a model that is called in the graph; None if there is none."""
    if not compat.is_graph(call.layer) or len(call.inputs) != 1:
        return None
    begin, end = endpoints(call.layer)
    if tf.nest.is_nested(end):
        return None
    halves = _halves(begin, end, at)
    if halves is None:
        return None
    before, behind = halves
    start = call.inputs[0]
    generator = before
    if start is not images:
        generator = keras.Model(images, before(start), name="generator")
    if call.outputs[0] is logits:
        return generator, behind
    features = keras.Input(tuple(behind.inputs[0].shape[1:]), name="features")
    rest = keras.Model(call.outputs[0], logits, name="rest")
    return generator, keras.Model(features, rest(behind(features)), name="classifier")


def _two(images: Any, features: Any, logits: Any) -> Halves:
    return (
        keras.Model(images, features, name="generator"),
        keras.Model(features, logits, name="classifier"),
    )


def _names(model: Any) -> set[str]:
    """Of all layers and operators on the way through a model and the models inside it."""
    images, outputs = endpoints(model)
    if tf.nest.is_nested(outputs):
        return set()
    found = set()
    for call in calls_of(images, outputs):
        found.add(call.name)
        if compat.is_graph(call.layer):
            found |= _names(call.layer)
    return found


def _ends_with(model: Any, at: str) -> bool:
    """Whether what the model gives comes from the layer of this name."""
    layer = compat.producer_of(endpoints(model)[1])[0]
    return layer.name == at or (compat.is_graph(layer) and _ends_with(layer, at))


def _skipped(calls: list[Call], position: int, at: str) -> str:
    before = [call.name for call in calls[:position] if call.narrow][-1:]
    behind = [call.name for call in calls[position + 1 : -1] if call.narrow][:1]
    places = [
        f"{name!r} {where}"
        for where, names in (("before", before), ("behind", behind))
        for name in names
    ]
    return (
        f"models.split(at={at!r}): a connection skips this layer, so that what it gives is not all "
        "that the rest of the model needs; the nearest layers that can be cut: "
        f"{' and '.join(places) or 'none'}."
    )


def _listed(names: list[str]) -> str:
    """The names, those in the middle left out where there are many."""
    if len(names) > 8:
        names = [*names[:3], "...", *names[-4:]]
    return ", ".join(name if name == "..." else repr(name) for name in names) or "no layer"
