"""The differences between Keras 2.15 (TensorFlow 2.15) and Keras 3, in one place."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# Arguments of Keras' optimizers: the largest norm of each gradient, the largest entry, the largest
# norm of all gradients.
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3

if KERAS_3:
    from keras.src.models.functional import Functional
else:
    from keras.src.engine.functional import Functional


def serialize(value: Any) -> Any:
    """The JSON-ready form of a Keras object, a dataclass of ours, or a plain value."""
    return keras.saving.serialize_keras_object(value)


def deserialize(config: Any) -> Any:
    """Inverse of `serialize`; already built objects and plain values pass through."""
    if isinstance(config, dict) and "class_name" in config:
        return keras.saving.deserialize_keras_object(config)
    return config


def float32_weight(layer: keras.layers.Layer, name: str, size: int, initializer: str) -> Any:
    """A trainable float32 vector of `layer` that mixed precision does not cast down."""
    no_cast = {"autocast": False} if KERAS_3 else {"experimental_autocast": False}
    return layer.add_weight(
        name=name, shape=(size,), dtype="float32", initializer=initializer, **no_cast
    )


def moving_average(layer: keras.layers.Layer, name: str, size: int, initializer: str) -> Any:
    """A float32 statistic of `layer`, updated by each replica alone and averaged when read.

    Only a variable that synchronises on reading can be assigned inside a loop of a replica, which
    is what an attack in batch-normalisation mode 'training' does.
    """
    if KERAS_3:
        return keras.Variable(
            initializer=initializer,
            shape=(size,),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
            synchronization="on_read",
            name=name,
        )
    return layer.add_weight(
        name=name,
        shape=(size,),
        dtype="float32",
        initializer=initializer,
        trainable=False,
        experimental_autocast=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )


def layers_of(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers below `model`, itself included, however deeply nested."""
    return list(model._flatten_layers())


def raw(variable: Any) -> tf.Variable:
    """The `tf.Variable` behind a variable of either Keras."""
    return variable.value if KERAS_3 else variable


def build_optimizer(optimizer: Any, variables: list[Any]) -> None:
    """Creates the optimiser's slots, once, before a replica context or a restore needs them."""
    if is_legacy(optimizer):
        optimizer._create_all_weights(variables)
    elif not optimizer.built if KERAS_3 else not getattr(optimizer, "_built", False):
        optimizer.build(variables)


def is_legacy(optimizer: Any) -> bool:
    """Whether it is of the kind before Keras 2.11, which tensorflow-addons builds on."""
    return not KERAS_3 and isinstance(optimizer, keras.optimizers.legacy.Optimizer)


def optimizer_variables(optimizer: Any) -> list[Any]:
    """All that an optimiser keeps: its counter of steps, and its slots."""
    # `variables` of a legacy optimiser leaves out those of an optimiser inside it.
    return list(optimizer.weights if is_legacy(optimizer) else optimizer.variables)


def save_legacy(optimizer: Any, store: Any) -> bool:
    """Puts what a legacy optimiser keeps into a `.keras` file; whether it is one."""
    if is_legacy(optimizer):
        for number, variable in enumerate(optimizer_variables(optimizer)):
            store[str(number)] = variable.numpy()
    return is_legacy(optimizer)


def load_legacy(optimizer: Any, store: Any) -> bool:
    """Inverse of `save_legacy`."""
    if is_legacy(optimizer):
        for number, variable in enumerate(optimizer_variables(optimizer)):
            variable.assign(store[str(number)])
    return is_legacy(optimizer)


def loss_scaling(optimizer: Any, model: keras.Model) -> Any:
    """The optimiser, by its name or itself; in one that scales losses where float16 needs it.

    Keras decides by the policy of the model that is compiled, which the layers' need not be.
    """
    optimizer = keras.optimizers.get(optimizer)
    half = any(getattr(layer, "compute_dtype", None) == "float16" for layer in layers_of(model))
    if half and not _scales(optimizer):
        return keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def _scales(optimizer: Any) -> bool:
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def scale_loss(optimizer: Any, loss: tf.Tensor) -> tf.Tensor:
    """The loss times the scale of an optimiser of `loss_scaling`."""
    if KERAS_3:
        return optimizer.scale_loss(loss)
    return optimizer.get_scaled_loss(loss) if _scales(optimizer) else loss


def apply_gradients(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """Updates variables by gradients of a loss of `scale_loss`; never by infinite ones.

    What an optimizer clips is the gradient of the loss: neither a replica's part of it, nor scaled.
    """
    if KERAS_3:
        gradients = _clipped_sum(optimizer, gradients)
    elif _scales(optimizer):
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def _clipped_sum(optimizer: Any, gradients: list[Any]) -> list[Any]:
    """What Keras 3 may do with each replica's gradients, so that it does it to their sum.

    Keras 3 clips the part of each replica, and looks for overflows in that of the first alone,
    before it sums them. So they are summed and clipped here, and each replica gets its share of
    that, equal to those of the others and small enough not to be clipped again.
    """
    context = tf.distribute.get_replica_context()
    replicas = 1 if context is None else context.num_replicas_in_sync
    inner = optimizer.inner_optimizer if _scales(optimizer) else optimizer
    clips = any(getattr(inner, name, None) for name in CLIPPING)
    if replicas == 1 or not (clips or _scales(optimizer)):
        return gradients
    known = [position for position, gradient in enumerate(gradients) if gradient is not None]
    summed = context.all_reduce(tf.distribute.ReduceOp.SUM, [gradients[k] for k in known])
    if clips:
        scale = scale_loss(optimizer, tf.constant(1.0))
        summed = [gradient / scale for gradient in summed]
        summed = [gradient * scale for gradient in inner._clip_gradients(summed)]
    shares = dict(zip(known, (gradient / replicas for gradient in summed), strict=True))
    return [shares.get(position) for position in range(len(gradients))]


def record_input_shape(model: keras.Model, shape: tuple[int | None, ...]) -> None:
    """Lets `model.export` and TFLite's converter know what a model that comes built is called on.

    Keras records it when it builds a model, which those of this library need not; Keras 3 would
    also close the model to further layers.
    """
    if KERAS_3:
        model._build_shapes_dict, model._called = {"input_shape": shape}, True
    else:
        model._set_save_spec(tf.TensorSpec(shape, tf.float32))


def producer_of(tensor: Any) -> tuple[Any, list[Any], list[Any]]:
    """Of a symbolic tensor: the layer or operator that made it, what that took, what it gave."""
    history = tensor._keras_history
    layer = history.operation if KERAS_3 else history.layer
    node = layer._inbound_nodes[history.node_index]
    return layer, tf.nest.flatten(node.input_tensors), tf.nest.flatten(node.outputs)


def is_graph(model: Any) -> bool:
    """Whether it is a built Sequential or functional model, whose graph of layers is known."""
    if not isinstance(model, (keras.Sequential, Functional)):
        return False
    own_call = type(model).call not in (keras.Sequential.call, Functional.call)
    return not own_call and getattr(model, "inputs", None) is not None


def draws(layer: keras.layers.Layer) -> bool:
    """Whether it draws random numbers from a generator of its own."""
    rates = [getattr(layer, name, None) for name in ("rate", "dropout", "recurrent_dropout")]
    given = [rate for rate in rates if isinstance(rate, (int, float))]
    if given and not any(given):
        return False
    return bool(getattr(layer, "_seed_generators" if KERAS_3 else "_random_generator", None))
