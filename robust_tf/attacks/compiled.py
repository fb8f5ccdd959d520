"""Attacks compiled for a model: once, for as long as the model lives and stays what it was."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from robust_tf import autograph
from robust_tf.attacks.arguments import check_logits
from robust_tf.attacks.network import Network, Passes, logits_of, traced
from robust_tf.attacks.threat import Budget
from robust_tf.attacks.watch import Watch
from robust_tf.models.black_box import BlackBox, NoGradientError, no_gradient


class CompiledAttack(NamedTuple):
    """An attack as one graph for all batch sizes, radii and step sizes.

    function: (x, y, seed, budget) -> x_adv, or what another method of the attack returns; watches:
    of the models that are part of the graph, first the one that is attacked.
    """

    function: Callable[..., Any]
    watches: tuple[Watch, ...]


class GraphCode(Protocol):
    """What is compiled: hashable, with methods (network, x, y, seed, budget) -> tensors."""

    def network_of(self, model: Callable[..., Any]) -> Network:
        """The model as these methods see it."""

    def models(self, model: Callable[..., Any]) -> list[Callable[..., Any]]:
        """What becomes part of the graph: the model, and others that the attack brings along."""


@dataclasses.dataclass
class _Graphs:
    """What is compiled for one object; keys begin with the name of its method, '' for itself.

    watches: by image shape; attacks: by graph code, its method, image shape and kind of seed;
    passes: by graph code, what its attacks have cost, those that are compiled again too.
    """

    watches: dict[Any, Watch] = dataclasses.field(default_factory=dict)
    attacks: dict[Any, CompiledAttack] = dataclasses.field(default_factory=dict)
    passes: dict[Any, Passes] = dataclasses.field(default_factory=dict)


class _Reference(weakref.ref):
    """Weak, and equal to those of the same object, not to those of an equal one."""

    __slots__ = ("number",)

    def __init__(self, owner: Any, callback: Any = None):
        super().__init__(owner, callback)  # type: ignore[call-arg]
        self.number = id(owner)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        alive = self()
        return self is other or (
            alive is not None and isinstance(other, _Reference) and alive is other()
        )


class _Cache:
    """The graphs of each model, which go when the model goes.

    Args:
      watched: whether models may change while it is in use.
    """

    def __init__(self, watched: bool):
        self.watched = watched
        self.known: dict[_Reference, _Graphs] = {}

    def of(self, owner: Any) -> _Graphs:
        """Those of this model, whatever others it is equal to."""
        known = self.known
        return known.setdefault(_Reference(owner, lambda gone: known.pop(gone, None)), _Graphs())


_SHARED = _Cache(watched=True)
_OWN: contextvars.ContextVar[_Cache | None] = contextvars.ContextVar("own graphs", default=None)


def _cache() -> _Cache:
    """The one in use here."""
    return _OWN.get() or _SHARED


@contextlib.contextmanager
def own_graphs() -> Iterator[None]:
    """Attacks called in here share what is compiled in here, and nothing else; it is freed after.

    Models are taken to stay what they are in the meantime, and are not looked at again.
    """
    token = _OWN.set(_Cache(watched=False))
    try:
        yield
    finally:
        _OWN.reset(token)


def compiled(
    code: GraphCode, method: str, model: Any, x: tf.Tensor, seed: tf.Tensor
) -> CompiledAttack:
    """The method of this name on `model` as it is now, for images like x and a seed like this one.

    A model whose logits on a few of the images are no longer those of the graph has changed, and
    the attack is compiled again; see `Watch`.
    """
    watches = tuple(_watch(one, x) for one in code.models(model))
    graphs, name = _graphs_of(model)
    key = name, code, method, tuple(x.shape[1:]), seed.shape.rank
    found = graphs.attacks.get(key)
    if found is None or found.watches != watches:
        passes = graphs.passes.setdefault((name, code), Passes())
        alive = _weak(model)

        def run(x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget) -> Any:
            network = passes.counting(code.network_of(alive()))
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
        try:
            convert = autograph.is_needed(code, *code.models(model))
            function = tf.function(run, autograph=convert).get_concrete_function(*signature)
        except NoGradientError as error:  # of a black box behind a function of the user's
            raise TypeError(no_gradient(type(code).__name__)) from error
        found = graphs.attacks[key] = CompiledAttack(function, watches)
    return found


def passes_of(code: GraphCode, model: Any) -> tuple[int, int]:
    """Images that this code has sent through `model` so far: forwards, and backwards."""
    entries = [p for (_, known), p in _graphs_of(model)[0].passes.items() if known == code]
    return (
        sum(int(passes.forwards.numpy()) for passes in entries),
        sum(int(passes.gradients.numpy()) for passes in entries),
    )


def _watch(model: Any, x: tf.Tensor) -> Watch:
    """What tells whether the model has changed since attacks on it were compiled; a new one if so.

    What was compiled for the model as it was is dropped.
    """
    cache, (graphs, name) = _cache(), _graphs_of(model)
    key = name, tuple(x.shape[1:])
    known = graphs.watches.get(key)
    network = logits_of(model, "running")
    if known is not None:
        if not cache.watched or known.is_current(network, model, x):
            return known
        graphs.attacks = {k: g for k, g in graphs.attacks.items() if known not in g.watches}
    first = network(x[: 1 if isinstance(model, BlackBox) else 64])
    num_classes = check_logits(first, model)
    logits = None
    if cache.watched:
        alive = _weak(model)

        def forward(images: tf.Tensor) -> tf.Tensor:
            return logits_of(alive(), "running")(images)

        logits = traced(forward, model, x.shape[1:])
    graphs.watches[key] = found = Watch(num_classes, logits, x, first)
    return found


def _graphs_of(model: Any) -> tuple[_Graphs, str]:
    """What is compiled for the model, or for the object whose method it is, and its name there."""
    bound = isinstance(model, types.MethodType)
    owner, name = (model.__self__, model.__name__) if bound else (model, "")
    try:
        return _cache().of(owner), name
    except TypeError as error:
        raise TypeError(
            f"the model, a {type(owner).__name__}, cannot be remembered ({error}); give "
            "lambda x: model(x)."
        ) from error


def _weak(model: Any) -> Callable[[], Any]:
    """A strong reference from a graph to its model would keep both alive for ever."""
    is_method = isinstance(model, types.MethodType)
    return weakref.WeakMethod(model) if is_method else weakref.ref(model)
