"""`bin/convert`: weights of PyTorch into a `.keras` file, and a network's weights for PyTorch."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robust_tf.cli import Parser, UserError, command, quiet_start, subject

if TYPE_CHECKING:
    from robust_tf.models.torch_network import Read

EPILOG = """\
networks are those that recipes name, and builders of your own by --import:
  "WideResNet(depth=34, width=10)"   TRADES, ATLD, Feature Scattering, squeeze training
  "WideResNet(28, 10, activation='silu', padding='same')"   DeepMind's
  ResNet18, PreActResNet18, ResNet50, CNN, StridedCNN, "WideDiscriminator(depth=28, width=5)"

examples:
  bin/convert --checkpoint=model_cifar_wrn.pt --network="WideResNet(depth=34, width=10)" \\
      --output=trades.keras
  bin/convert --checkpoint=atld.pt --network="WideResNet(depth=28, width=10)" \\
      --input_range=-1,1 --output=atld.keras
  bin/convert --run_dir=runs/adr_cifar10 --output=adr.safetensors
  bin/convert --model=trades.keras --output=trades.pt
What is read, for which programs, and which pixels their weights want: docs/checkpoints.md.
"""
KERAS, SAFETENSORS, TORCH = ".keras", ".safetensors", (".pt", ".pth")


def parser() -> Parser:
    """The command line."""
    result = Parser(
        prog="convert",
        description="Makes a .keras file of a checkpoint of PyTorch, or of a network that was "
        "trained here a\nstate dict that load_state_dict takes (.safetensors, .pt).",
        epilog=EPILOG,
    )
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", metavar="FILE", help=".safetensors, .pt, .pth or .tar")
    subject.add_model(source, ".keras file, whose weights are written for PyTorch")
    result.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help=".keras of a checkpoint; .safetensors or .pt of a network",
    )
    result.add_argument(
        "--program",
        metavar="NAME",
        help="of a network, whose names its weights get, such as TRADES.WideResNet; default: those "
        "that the weights came with, else the first program that has this network",
    )
    result.add_argument(
        "--overwrite", action="store_true", help="replace a file that this command has not made"
    )
    subject.add_checkpoint(result)
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    _check(options)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import files, modules
        from robust_tf.cli import convert_file

    files.check_replaceable(
        options.output, "a file of convert", convert_file.is_ours, options.overwrite
    )
    for name in options.imports:
        modules.load(name)
    if options.checkpoint:
        _to_keras(options)
    else:
        _to_torch(options)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together."""
    suffix = os.path.splitext(options.output)[1]
    if options.checkpoint:
        if suffix != KERAS:
            raise UserError(
                f"--output={options.output}: must end in {KERAS}, which --checkpoint is made into."
            )
        if not options.network:
            raise UserError(
                "--checkpoint holds weights and no network: give "
                '--network="WideResNet(depth=34, width=10)", the one that they are of.'
            )
        if options.program:
            raise UserError("--program is for the way back, with --model or --run_dir.")
    elif suffix not in (SAFETENSORS, *TORCH):
        raise UserError(
            f"--output={options.output}: must end in {SAFETENSORS} or {TORCH[0]}, for PyTorch; a "
            "checkpoint of PyTorch is given as --checkpoint."
        )


def _to_keras(options: argparse.Namespace) -> None:
    from robust_tf.cli import convert_file
    from robust_tf.models import torch_network

    about = subject.about_checkpoint(options)
    read = torch_network.read(options.checkpoint, **about)
    for line in _said(options.checkpoint, read):
        print(line)
    written = convert_file.write_keras(read.network, options.output)
    del read  # of large networks there is one in memory at a time
    convert_file.check_keras(options.output, written)
    print(f"wrote {options.output}, read again: the same weights, the same outputs to the bit")


def _said(path: str, read: Read) -> list[str]:
    """What was found in the file, and what has become of it."""
    network, source = read.network, read.network.weights_source
    sizes = f"{network.count_params():,} parameters"
    told = ", ".join(f"{name} {value}" for name, value in read.told.items())
    lines = [
        f"{path}: sha256 {source['sha256']}",
        f"entry          {source['entry'] or 'none, the weights stand alone'}",
        f"prefixes       {' '.join(f'{one}.' for one in source['prefixes']) or 'none'}",
        f"layout         {source['program']}",
        f"pixels         {_pixels(source['normalization'], read)}",
        f"left out       {_left_out(read.state.dropped)}",
        f"network        {type(network).__name__} {network.name}, {sizes}",
    ]
    return lines + ([f"by the file    {told}"] if told else [])


def _pixels(normalization: Any, read: Read) -> str:
    if normalization is None:
        takes_none = not hasattr(read.network, "image_shape")
        return "none, it takes logits" if takes_none else "[0, 1] as they are; see --input_range"
    where = "of the file" if read.state.normalization else "of --input_range"
    if isinstance(normalization, dict):
        normalization = "; ".join(f"{name} {_numbers(one)}" for name, one in normalization.items())
    return f"{normalization}, {where}, made of [0, 1] inside"


def _numbers(values: Any) -> str:
    import numpy as np

    return ", ".join(f"{value:.5g}" for value in np.ravel(values))


def _left_out(names: Sequence[str]) -> str:
    """Names by their kind: 'num_batches_tracked (28)', 'attacker.* (90)'."""
    kinds: Counter[str] = Counter()
    for name in names:
        last = name.rpartition(".")[2]
        counter = last in ("num_batches_tracked", "n_averaged")
        kinds[last if counter else f"{name.partition('.')[0]}.*"] += 1
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.items()) or "nothing"


def _to_torch(options: argparse.Namespace) -> None:
    from robust_tf import models
    from robust_tf.cli import convert_file

    network = subject.Subject(options).model
    state = models.to_torch(network, program=options.program)
    convert_file.write_torch(state, options.output)
    print(f"wrote {options.output}, read again: {len(state)} tensors, the same to the bit")
    for line in convert_file.usage(network, options.output):
        print(line)


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
