"""Names of layers here and in the PyTorch programs of the field, one table for each program.

A table is read in both directions. It is a list of pairs, the name of a layer here and the path of
the module there, in which fields stand for whole numbers, there with an offset where the program
counts from another number:

    ("stage{s}_block{b}_conv1", "block{s}.layer.{b-1}.conv1")

Pairs are tried in order; the first whose left side is the whole name of a layer names it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from robust_tf import compat

Pairs = tuple[tuple[str, str], ...]


class Table(NamedTuple):
    """The names of one program.

    name: 'PROGRAM.CLASS', by which `models.to_torch(program=)` asks for it.
    pairs: (layer here, module there).
    unused: beginning of names that the program has and never uses -> that of the names of the same
      shapes, of which `to_torch` makes copies, since `load_state_dict` wants them.
    centers: pattern of the layers here whose 1x1 kernel is the center of the program's 3x3 one,
      which works on images of one pixel.
    check: of a network here that has these names: why it does not compute what the program does, as
      a sentence with the way out; None where it does.
    """

    name: str
    pairs: Pairs
    unused: Mapping[str, str] = {}
    centers: str = ""
    check: Callable[[Any], str | None] = lambda network: None

    def modules(self, layers: Iterable[str]) -> dict[str, str] | None:
        """The module for each of these layers; None if the table is of another network.

        It is this network's if it names every layer, no module is there twice, and every pair has
        been needed.
        """
        found, needed = {}, set()
        for layer in layers:
            for pair in self.pairs:
                fields = _fields(pair[0], layer)
                if fields is not None:
                    found[layer] = _filled(pair[1], fields)
                    needed.add(pair)
                    break
            else:
                return None
        once = len(set(found.values())) == len(found)
        return found if once and len(needed) == len(self.pairs) else None

    def knows(self, modules: Iterable[str]) -> bool:
        """Whether all these modules are of the program, and all kinds of it are there."""
        needed = set()
        for module in modules:
            kinds = [pair for pair in self.pairs if _fields(pair[1], module) is not None]
            if not kinds:
                return False
            needed.update(kinds)
        return len(needed) == len(self.pairs)


_FIELD = re.compile(r"\{(\w+?)([+-]\d+)?\}")


def _fields(template: str, name: str) -> dict[str, int] | None:
    """The whole numbers in a name, less the template's offsets; None if it is of another kind."""
    pattern, offsets, end = "", {}, 0
    for field in _FIELD.finditer(template):
        pattern += re.escape(template[end : field.start()]) + f"(?P<{field[1]}>[0-9]+)"
        offsets[field[1]], end = int(field[2] or 0), field.end()
    match = re.fullmatch(pattern + re.escape(template[end:]), name)
    if match is None:
        return None
    return {field: int(number) - offsets[field] for field, number in match.groupdict().items()}


def _filled(template: str, fields: Mapping[str, int]) -> str:
    return _FIELD.sub(lambda field: str(fields[field[1]] + int(field[2] or 0)), template)


_WIDE: Pairs = (
    ("stem", "conv1"),
    ("stage{s}_block{b}_1_bn", "block{s}.layer.{b-1}.bn1"),
    ("stage{s}_block{b}_conv1", "block{s}.layer.{b-1}.conv1"),
    ("stage{s}_block{b}_2_bn", "block{s}.layer.{b-1}.bn2"),
    ("stage{s}_block{b}_conv2", "block{s}.layer.{b-1}.conv2"),
    ("stage{s}_block{b}_skip_conv", "block{s}.layer.{b-1}.convShortcut"),
    ("head_bn", "bn1"),
)
_BASIC: Pairs = (
    ("stem_conv", "conv1"),
    ("stem_bn", "bn1"),
    ("stage{s}_block{b}_{n}_conv", "layer{s}.{b-1}.conv{n}"),
    ("stage{s}_block{b}_{n}_bn", "layer{s}.{b-1}.bn{n}"),
    ("stage{s}_block{b}_skip_conv", "layer{s}.{b-1}.shortcut.0"),
    ("stage{s}_block{b}_skip_bn", "layer{s}.{b-1}.shortcut.1"),
    ("logits", "linear"),
)

_DOWNSAMPLE: Pairs = tuple(
    (here, there.replace("shortcut", "downsample").replace("linear", "fc"))
    for here, there in _BASIC
)
_PRE_ACTIVATION: Pairs = (
    ("stem", "conv1"),
    ("stage{s}_block{b}_{n}_bn", "layer{s}.{b-1}.bn{n}"),
    ("stage{s}_block{b}_conv{n}", "layer{s}.{b-1}.conv{n}"),
    ("stage{s}_block{b}_skip_conv", "layer{s}.{b-1}.shortcut.0"),
    ("logits", "linear"),
)


def _computes(network: Any, **wanted: str) -> str | None:
    """Whether the network has these arguments of its builder, which no shape tells."""
    layers = {layer.name: layer for layer in compat.layers_of(network)}
    skip = next((name for name in layers if name.endswith("_skip_conv")), None)
    has = {
        "activation": "silu" if any(name.endswith("_silu") for name in layers) else "relu",
        "padding": "same" if any(_padded_below(layer) for layer in layers.values()) else "torch",
    }
    if skip is not None:
        ends = (layers[skip], layers[skip.removesuffix("skip_conv") + "1_bn"])
        starts = [compat.producer_of(layer.output)[1][0] for layer in ends]
        has["shortcut"] = "raw" if starts[0] is starts[1] else "activated"
    if all(has[name] == value for name, value in wanted.items()):
        return None
    arguments = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    return f"the network computes another function of the same weights; build it with {arguments}."


def _padded_below(layer: Any) -> bool:
    """Whether it is a strided convolution padded below and to the right only."""
    return getattr(layer, "padding", "") == "same" and max(getattr(layer, "strides", [1])) > 1


_torch = functools.partial(_computes, activation="relu", padding="torch")

# Of several that name a network, `to_torch` takes the first.
TABLES: tuple[Table, ...] = (
    Table("ATLD.WideResNet", (*_WIDE, ("logits", "fc")), check=_torch),
    Table(
        "TRADES.WideResNet",
        (*_WIDE, ("logits", "fc")),
        unused={"sub_block1.": "block1."},
        check=_torch,
    ),
    Table(
        "ATLD.Discriminator_2",
        (*_WIDE, ("natural", "fc"), ("logits", "fc2")),
        centers=r"stem|stage\d+_block\d+_conv[12]",
    ),
    Table(
        "TRADES.SmallCNN",
        (
            ("conv{n}", "feature_extractor.conv{n}"),
            ("fc{n}", "classifier.fc{n}"),
            ("logits", "classifier.fc3"),
        ),
    ),
    Table("ST.ResNet", _BASIC),
    Table("torchvision.ResNet", _DOWNSAMPLE),
    Table(
        "Rice.PreActResNet18",
        (*_PRE_ACTIVATION, ("head_bn", "bn")),
        check=functools.partial(_torch, shortcut="activated"),
    ),
    Table(
        "Wong.PreActResNet18",
        (*_PRE_ACTIVATION, ("head_bn", "bn")),
        check=functools.partial(_torch, shortcut="raw"),
    ),
    Table(
        "RobustBench.Wong2020Fast",
        _PRE_ACTIVATION,
        check=functools.partial(_torch, shortcut="raw"),
    ),
    Table(
        "DeepMind.WideResNet",
        (
            ("stem", "init_conv"),
            ("stage{s}_block{b}_{n}_bn", "layer.{s-1}.block.{b-1}.batchnorm_{n-1}"),
            ("stage{s}_block{b}_conv{n}", "layer.{s-1}.block.{b-1}.conv_{n-1}"),
            ("stage{s}_block{b}_skip_conv", "layer.{s-1}.block.{b-1}.shortcut"),
            ("head_bn", "batchnorm"),
            ("logits", "logits"),
        ),
        check=functools.partial(_computes, padding="same"),
    ),
    Table(
        "DeepMind.PreActResNet18",
        (
            ("stem", "conv_2d"),
            ("stage{s}_block{b}_{n}_bn", "layer_{s-1}.{b-1}.batchnorm_{n-1}"),
            ("stage{s}_block{b}_conv{n}", "layer_{s-1}.{b-1}.conv_2d_{n}"),
            ("stage{s}_block{b}_skip_conv", "layer_{s-1}.{b-1}.shortcut"),
            ("head_bn", "batchnorm"),
            ("logits", "logits"),
        ),
        check=functools.partial(_computes, padding="same"),
    ),
    Table(
        "Wong.mnist_net",
        (("conv1", "0"), ("conv2", "2"), ("fc1", "5"), ("logits", "7")),
    ),
)
