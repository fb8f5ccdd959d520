"""Attacks compiled for a model: once, and for as long as the model lives."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from robust_tf.attacks.arguments import check_logits
from robust_tf.attacks.network import Network, Passes, logits_of
from robust_tf.attacks.threat import Budget


class CompiledAttack(NamedTuple):
    """An attack as one graph for all batch sizes, radii and step sizes.

    num_classes: of the model; function: (x, y, seed, budget) -> x_adv, or what another method of
    the attack returns; passes: what it has cost.
    """

    num_classes: int
    function: Callable[..., Any]
    passes: Passes


class GraphCode(Protocol):
    """What is compiled: hashable, with methods (network, x, y, seed, budget) -> tensors."""

    def network_of(self, model: Callable[..., Any]) -> Network:
        """The model as these methods see it."""


# model -> {(function of it, graph code, its method, image shape, kind of seed): compiled attack}
_CACHE: weakref.WeakKeyDictionary[Any, dict[Any, CompiledAttack]] = weakref.WeakKeyDictionary()


def compiled(
    code: GraphCode, method: str, model: Any, x: tf.Tensor, seed: tf.Tensor
) -> CompiledAttack:
    """The method of this name on `model`, for images like x and a seed like this one."""
    bound = isinstance(model, types.MethodType)
    owner, name = (model.__self__, model.__name__) if bound else (model, "")
    try:
        traces = _CACHE.setdefault(owner, {})
    except TypeError as error:
        raise TypeError(
            f"the model, a {type(owner).__name__}, cannot be remembered ({error}); give "
            "lambda x: model(x)."
        ) from error
    key = name, code, method, tuple(x.shape[1:]), seed.shape.rank
    if key not in traces:
        num_classes = check_logits(logits_of(model, "running")(x[:64]))
        # A strong reference from the graph to the model would keep both alive for ever.
        alive = weakref.WeakMethod(model) if bound else weakref.ref(model)
        passes = Passes()

        def run(x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget) -> Any:
            network = passes.counting(code.network_of(alive()))  # type: ignore[arg-type]
            results = getattr(code, method)(network, x, y, seed, budget)
            # Here too: under a caller's tape the graph of the gradient is not even built.
            return tf.nest.map_structure(tf.stop_gradient, results)

        signature = [
            tf.TensorSpec([None, *x.shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([2] if seed.shape.rank == 1 else [None, 2], tf.int32),
            Budget(tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.float32)),
        ]
        # A concrete function is called without TensorFlow's look-out for retraces, which takes many
        # attacks on one model for one that is traced again and again.
        function = tf.function(run).get_concrete_function(*signature)
        traces[key] = CompiledAttack(num_classes, function, passes)
    return traces[key]


def passes_of(code: GraphCode, model: Any) -> tuple[int, int]:
    """Images that this code has sent through `model` so far: forwards, and backwards."""
    owner = model.__self__ if isinstance(model, types.MethodType) else model
    entries = [entry.passes for key, entry in _CACHE.get(owner, {}).items() if key[1] == code]
    return (
        sum(int(passes.forwards.numpy()) for passes in entries),
        sum(int(passes.gradients.numpy()) for passes in entries),
    )
