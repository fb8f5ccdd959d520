"""The networks of `keras.applications`, with classes of their own and cut for training."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from robust_tf import compat, files, registration
from robust_tf.models.cutting import split
from robust_tf.models.input_range import input_range
from robust_tf.models.layers import check_image_shape, logits_layer
from robust_tf.models.split import SplitClassifier
from robust_tf.validation import check_number, check_whole

# How each family wants its pixels: a mode of `with_input_range`, or the end of a range from 0.
# Families that are not named have the layers for it inside and take 0..255.
PIXELS = {
    "vgg16": "caffe",
    "vgg19": "caffe",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "densenet": "torch",
    "xception": "tf",
    "inception_v3": "tf",
    "inception_resnet_v2": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "nasnet": "tf",
}

# Arguments of the builders that are ours to set.
TAKEN = {
    "include_top",
    "include_preprocessing",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
}
DOWNLOAD = (
    "where nothing can be downloaded, have Keras do it on another machine and name the file "
    "(~/.keras/models/..._notop.h5) in weights="
)


def applications() -> dict[str, Any]:
    """The builders of `keras.applications` by name."""
    found = vars(keras.applications).items()
    return {name: one for name, one in found if name[0].isupper() and callable(one)}


@registration.configurable
def Application(
    input_shape: Sequence[int],
    num_classes: int,
    name: str = "MobileNetV2",
    weights: str | None = None,
    size: int | None = None,
    at: str | None = None,
    momentum: float | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> SplitClassifier:
    """A network of `keras.applications` without its last layer, and logits for these classes.

    Images in [0, 1] are resized, made RGB and brought to the range that the network wants inside of
    it, so that eps is in units of [0, 1] of the image as it was given. The feature map is averaged
    over height and width; its batch normalization and dropout follow the modes of an attack.

    Args:
      input_shape: (height, width, channels); one channel is repeated three times. For other than
        three the pixels of families that were trained on RGB means are in 0..255.
      num_classes: number of logits, >= 2.
      name: of a class of `keras.applications`, such as 'MobileNetV2'.
      weights: None: random; 'imagenet': downloaded by Keras; or a file of weights, of the network
        without its last layer (as Keras' files that end in `notop`) or with it.
      size: side of the square that images are resized to inside, bilinearly; None: as they are.
      at: layer after which the features z are, such as 'block_5_add'; None: after the averaging.
      momentum: of the moving averages of its batch normalization, in [0, 1); None: as the network
        has it. MobileNetV2's 0.999 takes thousands of steps; where there are hundreds, 0.9.
      arguments: of the builder in `keras.applications`, such as {'alpha': 0.35}.

    Raises:
      ValueError: no such network, argument or layer, images that are too small for it, weights that
        cannot be had or do not fit.
    """
    builder = _builder(name)
    check_image_shape("Application", input_shape)
    if momentum is not None:
        hint = "0.9 where there are hundreds of steps"
        check_number("Application", "momentum", momentum, hint=hint, high=1.0, strict_high=True)
    if size is not None:
        size = check_whole("Application", "size", size, 1, "the network says how large it must be")
    height, width, channels = input_shape
    shape = (height, width) if size is None else (size, size)
    inner = (*shape, 3 if channels == 1 else channels)
    if weights is not None and inner[2] != 3:
        raise ValueError(
            f"Application(weights={weights!r}): was trained on RGB, the images have {channels} "
            "channels; use weights=None, or images of 1 or 3 channels."
        )
    images = x = keras.Input(tuple(input_shape), name="images")
    if (height, width) != shape:
        x = keras.layers.Resizing(*shape, name="resized")(x)
    if channels == 1:
        x = keras.layers.Concatenate(name="rgb")([x, x, x])
    wanted = PIXELS.get(family(builder), 255.0)
    x = input_range(wanted if inner[2] == 3 or wanted == "tf" else 255.0, inner)(x)
    base = _base(builder, name, x, inner, weights, dict(arguments or {}))
    if momentum is not None:
        for layer in compat.layers_of(base):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = float(momentum)
    features = keras.layers.GlobalAveragePooling2D(name="features")(base.output)
    logits = logits_layer(num_classes, "zeros")(features)
    return split(keras.Model(images, logits, name=name.lower()), at)


def _builder(name: str) -> Any:
    known = applications()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
        raise ValueError(
            f"Application(name={name!r}): keras.applications has no such class; {hint}"
        )
    return known[name]


def family(builder: Any) -> str:
    """The module of a builder in keras.applications, such as 'mobilenet_v2'."""
    return str(inspect.unwrap(builder).__module__.rpartition(".")[2])


def _base(
    builder: Any,
    name: str,
    pixels: Any,
    shape: tuple[int, ...],
    weights: str | None,
    arguments: dict[str, Any],
) -> keras.Model:
    """The network without its last layer, on these pixels, with its weights."""
    known = set(inspect.signature(builder).parameters) - TAKEN
    unknown = [one for one in arguments if one not in known]
    if unknown:
        raise ValueError(
            f"Application(arguments={arguments!r}): {name} has no {unknown[0]!r} to set, but "
            f"{', '.join(sorted(known)) or 'nothing'}."
        )
    file = weights if weights not in (None, "imagenet") else None
    if file is not None and not files.exists(file):
        raise ValueError(
            f"Application(weights={file!r}): there is no such file; None, 'imagenet' or a file."
        )
    try:
        base = builder(
            include_top=False,
            weights="imagenet" if weights == "imagenet" else None,
            input_tensor=pixels,
            input_shape=shape,
            **arguments,
        )
    except Exception as error:  # the builders and their downloads raise anything
        hint = "choose size= as large as it says" if weights is None else DOWNLOAD
        raise ValueError(
            f"Application(name={name!r}, weights={weights!r}) on images of shape {shape}: "
            f"{_first_line(error)}; {hint}."
        ) from error
    if file is not None:
        _load(base, builder, name, file, arguments)
    return base


def _load(base: keras.Model, builder: Any, name: str, file: str, arguments: dict[str, Any]) -> None:
    """Weights from a file of the network without its last layer, or of all of it."""
    try:
        base.load_weights(file)
        return
    except Exception as error:  # of another network, or no weights at all
        first = _first_line(error)
    try:
        whole = builder(weights=file, **arguments)
    except Exception as error:
        raise ValueError(
            f"Application(weights={file!r}): holds weights of {name} neither without its last "
            f"layer ({first}) nor with it ({_first_line(error)})."
        ) from error
    # Layer by layer: Keras 2 lists what is not trained behind what is, the last layer's too.
    own, theirs = ([one for one in model.layers if one.weights] for model in (base, whole))
    for mine, other in zip(own, theirs, strict=False):
        mine.set_weights(other.get_weights())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"
