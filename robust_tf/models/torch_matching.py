"""Which module of a checkpoint belongs to which layer: by names, else by order and shapes."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robust_tf import compat
from robust_tf.models.torch_layout import Leaf, Shape
from robust_tf.models.torch_names import TABLES, Table

BY_SHAPE = "order and shapes"
_LAYERS = Table("names of layers", ())
Modules = Mapping[str, Mapping[str, Any]]


class Match(NamedTuple):
    """Layers with their modules.

    program: name of the table, 'names of layers' or `BY_SHAPE`; pairs: (layer, path of its module).
    """

    program: str
    pairs: list[tuple[Leaf, str]]


def modules_of(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tensors by the module that they belong to, in order: 'fc' -> {'weight': ..., 'bias': ...}."""
    modules: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        modules.setdefault(module, {})[last] = tensor
    return modules


def tables_for(network: Any, leaves: Sequence[Leaf]) -> list[tuple[Table, list[tuple[Leaf, str]]]]:
    """The tables that name this network, and the module of each layer."""
    names = [leaf.name for leaf in leaves]
    found = []
    for table in TABLES if len(set(names)) == len(names) else ():
        modules = table.modules(names)
        if modules is not None:
            pairs = [
                (leaf._replace(center=bool(re.fullmatch(table.centers, leaf.name))), module)
                for leaf, module in zip(leaves, modules.values(), strict=True)
            ]
            found.append((table, pairs))
    return found


def by_layer(leaves: Sequence[Leaf]) -> list[tuple[Leaf, str]]:
    """The names of the layers, numbered where several have the same."""
    counts: Counter[str] = Counter()
    pairs = []
    for leaf in leaves:
        counts[leaf.name] += 1
        number = counts[leaf.name]
        pairs.append((leaf, leaf.name if number == 1 else f"{leaf.name}_{number}"))
    return pairs


def match(
    network: Any,
    leaves: Sequence[Leaf],
    modules: Modules,
    name: str,
    dropped: Sequence[str] = (),
    ordered: bool = True,
) -> Match:
    """The module of each layer, all shapes right and nothing left over.

    Args:
      network: that the layers are of.
      leaves: the layers with weights.
      modules: of the checkpoint, see `modules_of`.
      name: of the checkpoint, for messages.
      dropped: names that were taken out of it.
      ordered: whether the modules stand in the order of the program; those of `.safetensors` files
        are sorted.

    Raises:
      ValueError: they do not fit; the sentence says where.
    """
    tables = [*tables_for(network, leaves), (_LAYERS, by_layer(leaves))]
    exact = [
        (table, pairs) for table, pairs in tables if {module for _, module in pairs} == set(modules)
    ]
    if exact:
        # Of programs with the same names the one of this function; with a stage that is never used
        # or without.
        table, pairs = max(
            exact,
            key=lambda one: (one[0].check(network) is None, _has_unused(one[0], dropped)),
        )
        problem = table.check(network)
        if problem is not None:
            raise ValueError(f"{name} is of {table.name}: {problem}")
        _check(pairs, modules, name, network.name)
        return Match(table.name, pairs)
    for _, pairs in tables:
        if len(modules.keys() & {module for _, module in pairs}) > len(pairs) / 2:
            _check(pairs, modules, name, network.name)
    return Match(BY_SHAPE, _by_shape(network, leaves, modules, name, ordered))


def _has_unused(table: Table, dropped: Sequence[str]) -> bool:
    return any(name.startswith(begin) for begin in table.unused for name in dropped)


def _check(pairs: list[tuple[Leaf, str]], modules: Modules, name: str, network: str) -> None:
    """Raises ValueError for what is missing, left over or of another shape."""
    missing, wrong, wanted = [], [], set()
    for leaf, module in pairs:
        held = modules.get(module, {})
        for last, shape in leaf.shapes().items():
            wanted.add((module, last))
            if last not in held:
                missing.append(f"{module}.{last} (layer {leaf.name!r})")
            elif tuple(held[last].shape) != shape:
                wrong.append(
                    f"{module}.{last} is {tuple(held[last].shape)}, and the layer {leaf.name!r} "
                    f"takes {shape} (in Keras {tuple(leaf.variables()[last].shape)})"
                )
    left = [
        f"{module}.{last}"
        for module, held in modules.items()
        for last in held
        if (module, last) not in wanted
    ]
    problems = [
        *([f"it lacks {_listed(missing)}"] if missing else []),
        *([f"it has {_listed(left)}, for which there is no layer"] if left else []),
        *([_listed(wrong, "; ")] if wrong else []),
    ]
    if problems:
        raise ValueError(
            f"{name} does not fit the network {network!r}: {'; '.join(problems)}. Build the "
            "network with the depth, width, classes and image size that it was trained with."
        )


def _by_shape(
    network: Any, leaves: Sequence[Leaf], modules: Modules, name: str, ordered: bool
) -> list[tuple[Leaf, str]]:
    """Modules for layers of the same shapes, in the same order."""
    paths = list(modules) if ordered else sorted(modules, key=_natural)
    theirs = {
        path: {last: tuple(one.shape) for last, one in modules[path].items()} for path in paths
    }
    ours = {id(leaf.layer): leaf.shapes() for leaf in leaves}
    depth = {id(layer): number for number, layer in enumerate(compat.layers_of(network))}
    kinds: dict[Any, tuple[list[Leaf], list[str]]] = {}
    for leaf in leaves:
        kinds.setdefault(_key(ours[id(leaf.layer)]), ([], []))[0].append(leaf)
    for path in paths:
        kinds.setdefault(_key(theirs[path]), ([], []))[1].append(path)
    if any(len(some) != len(others) for some, others in kinds.values()):
        raise ValueError(_other_architecture(network, leaves, theirs, name))
    if not ordered:
        for _, others in kinds.values():
            # Numbers tell an order, other parts of names do not.
            if len({re.sub("[0-9]+", "#", path) for path in others}) > 1:
                raise ValueError(_not_told(network, leaves, others, name, "are sorted by name"))
        return [pair for some, others in kinds.values() for pair in zip(some, others, strict=True)]
    found = []
    for order in (list(leaves), sorted(leaves, key=lambda leaf: depth[id(leaf.layer)])):
        if [ours[id(leaf.layer)] for leaf in order] == list(theirs.values()):
            found.append(list(zip(order, paths, strict=True)))
    if found:
        if {(id(leaf.layer), path) for leaf, path in found[0]} != {
            (id(leaf.layer), path) for leaf, path in found[-1]
        }:
            warnings.warn(
                f"{name}: the layers of {network.name!r} have two orders in which shapes fit, as "
                "branches of it have the same; the order of calls was taken. Compare the accuracy "
                "with what was published.",
                stacklevel=4,
            )
        return found[0]
    for _, others in kinds.values():
        if len(others) > 1:
            raise ValueError(_not_told(network, leaves, others, name, "stand in another order"))
    return [(some[0], others[0]) for some, others in kinds.values()]


def _not_told(
    network: Any, leaves: Sequence[Leaf], paths: Sequence[str], name: str, why: str
) -> str:
    return (
        f"{name} and the network {network.name!r} have layers of the same shapes, but in the file "
        f"they {why}, so that {_listed(paths)} cannot be told apart: give a mapping of names to "
        f"tensors in the order of {_listed([leaf.name for leaf in leaves])}."
    )


def _other_architecture(
    network: Any, leaves: Sequence[Leaf], theirs: Mapping[str, Mapping[str, Shape]], name: str
) -> str:
    """Where layers and modules differ, in order, and whose the names are."""
    known = [table.name for table in TABLES if table.knows(theirs)]
    whose = f" Its names are those of {' or '.join(known)}." if known else ""
    counts = f"{len(theirs)} layers with weights against {len(leaves)}"
    left = Counter(_key(shapes) for shapes in theirs.values())
    left.subtract(_key(leaf.shapes()) for leaf in leaves)
    no_layer = [f"{path} {_shown(one)}" for path, one in theirs.items() if left[_key(one)] > 0]
    no_module = [
        f"{leaf.name} {_shown(leaf.shapes())}" for leaf in leaves if left[_key(leaf.shapes())] < 0
    ]
    parts = [
        *([f"it has {_listed(no_layer)}, for which there is no layer"] if no_layer else []),
        *([f"it has nothing for {_listed(no_module)}"] if no_module else []),
    ]
    return (
        f"{name} is of another architecture than the network {network.name!r} ({counts}; shapes as "
        f"in PyTorch): {'; '.join(parts)}.{whose}"
    )


def _key(shapes: Mapping[str, Shape]) -> Any:
    return tuple(sorted(shapes.items()))


def _shown(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{last} {shape}" for last, shape in shapes.items())


def _natural(path: str) -> list[Any]:
    """By numbers in a name as numbers: '2' before '10'."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split("([0-9]+)", path)
    ]


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    shown = list(names[:6])
    more = [f"and {len(names) - 6} more"] if len(names) > 6 else []
    return separator.join([*shown, *more])
