"""Training steps beside a minimal PyTorch program of the same algorithm, in turns in one run.

    python -m benchmarks.beside_torch [--networks ResNet-18 WRN-16-4 CNN] [--methods ST]

First both are given the same weights and the same start noise, and what they compute is compared:
the adversarial images, and the loss of the step. (There the start is uniform: from the normal one,
a thousandth wide, the first gradients of a divergence are rounding alone, and their signs differ.)
Then steps are timed in pairs, the first of a pair now this one, now that. A ratio above 1 says that
the step here is the faster one; the interval is the 95 % one of the ratio of the medians (pairs
drawn with replacement). Beside other work `--clock=processor` counts the seconds of this process
alone. `peers_training.py` is the PyTorch program. Needs torch (extra `torch`).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.pairing import CLOCKS, Ratio, pairs
from robust_tf import attacks, methods, models
from robust_tf.attacks.randomness import as_seed, fold
from robust_tf.methods.batch import AdversarialBatch
from robust_tf.methods.scoring import score

# How a network is built here, and in PyTorch (of tests/torch_networks.py).
NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], tuple[int, ...]]] = {
    "ResNet-18": (
        lambda: models.ResNet18((32, 32, 3), 10),
        lambda nets: nets.ResNet(18),
        (32, 32, 3),
    ),
    "WRN-16-4": (
        lambda: models.WideResNet((32, 32, 3), 10, depth=16, width=4),
        lambda nets: nets.WideResNet(16, 4),
        (32, 32, 3),
    ),
    "CNN": (
        lambda: models.CNN((28, 28, 1), 10, filters=(32, 32, 64, 64), dropout=0.0),
        lambda nets: _without_dropout(nets.SmallCNN()),
        (28, 28, 1),
    ),
    "tiny CNN": (
        lambda: models.CNN((18, 18, 1), 10, filters=(4, 4, 6, 6), hidden=12, dropout=0.0),
        lambda nets: _without_dropout(nets.SmallCNN(18, filters=(4, 6), hidden=12)),
        (18, 18, 1),
    ),
    "tiny WRN": (
        lambda: models.WideResNet((8, 8, 3), 10, depth=10, width=1),
        lambda nets: nets.WideResNet(10, 1),
        (8, 8, 3),
    ),
}
SHOWN = ("ResNet-18", "WRN-16-4", "CNN")
BETA = 6.0


class Budget(NamedTuple):
    """Of the training attack."""

    eps: float = 8 / 255
    step_size: float = 2 / 255
    steps: int = 10


METHODS: dict[str, Callable[[Any, Budget], methods.RobustModel]] = {
    "PGD-AT": lambda network, ball: methods.AdversarialTraining(network, attacks.PGD(*ball), 0.0),
    "TRADES": lambda network, ball: methods.TRADES(network, attacks.TRADESAttack(*ball), BETA),
    "ST": lambda network, ball: methods.SqueezeTraining(
        network, attacks.SqueezeAttack(*ball), BETA
    ),
}


class Both(NamedTuple):
    """A method with the same weights, here and in PyTorch, and a batch of images.

    ours: compiled; theirs: `peers_training.Step`; x: float32 (B, H, W, C); y: int32 (B,).
    """

    ours: methods.RobustModel
    theirs: Any
    x: np.ndarray
    y: np.ndarray


class Agreement(NamedTuple):
    """How far what both compute is apart.

    images: largest mean distance of an adversarial image of theirs from ours, in eps; pixels: share
    of pixels that are farther apart than 1e-4; loss: of the step on our adversarial images,
    relative.
    """

    images: float
    pixels: float
    loss: float


def both(
    network: str,
    method: str,
    batch: int,
    ball: Budget,
    device: str = "cpu",
    half: bool = False,
) -> Both:
    """The same method on the same network, once each.

    Args:
      network: of `NETWORKS`.
      method: of `METHODS`.
      batch: images.
      ball: of the attack.
      device: PyTorch's.
      half: PyTorch's side computes in float16, by autocast; here the dtype policy in force says it.
    """
    torch, nets = (importlib.import_module(name) for name in ("torch", "tests.torch_networks"))
    peers = importlib.import_module("benchmarks.peers_training")
    build, build_torch, shape = NETWORKS[network]
    torch.manual_seed(0)
    theirs = build_torch(nets).eval()
    rng = np.random.default_rng(0)
    # Coarse squares and some noise: batches of noise alone are of one image to deep layers.
    coarse = rng.random((batch, 4, 4, shape[-1]), "float32")
    large = coarse.repeat(-(-shape[0] // 4), 1).repeat(-(-shape[1] // 4), 2)
    x = 0.9 * large[:, : shape[0], : shape[1]] + 0.1 * rng.random((batch, *shape), "float32")
    # Logits as of a trained network, in the mode of the attack: else divergences are rounding, or
    # probabilities are 0 and 1, of which candidates for a pair are equal.
    theirs.train(method == "ST")
    with torch.no_grad():
        factor = 2.0 / theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).std()
        for parameter in list(theirs.parameters())[-2:]:
            parameter.mul_(factor)
    state = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    ours = METHODS[method](models.from_torch(build(), state), ball)
    ours.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    step = peers.STEPS[method](theirs.to(device), peers.Ball(*ball), BETA, half)
    return Both(ours, step, x, rng.integers(0, 10, batch).astype("int32"))


def agreement(pair: Both) -> Agreement:
    """Compares adversarial images from the same start, and the loss of a step on ours."""
    model, theirs = pair.ours, pair.theirs
    attack = _from_uniform(model.attack)
    x, y = tf.constant(pair.x), tf.constant(pair.y)
    seed = tf.constant([3, 5])
    begun = model.attack
    model.set_attack(attack)

    @tf.function(autograph=False)
    def both_parts() -> tuple[Any, tf.Tensor]:
        made = model.generate_adversarial(x, y, seed, tf.constant(1.0))
        wrapped = made if isinstance(made, tuple) else AdversarialBatch(made)
        return made, score(model, (x, y, wrapped), seed, False).loss  # before the update

    made, got = both_parts()
    model.set_attack(begun)
    starts = [to_torch(start, theirs) for start in _starts(attack, x, seed)]
    images, labels = to_torch(x, theirs), to_torch(y, theirs)
    found = theirs.images(images, labels, starts)
    mine = list(made) if isinstance(made, tuple) else [made]
    other = list(found) if isinstance(found, tuple) else [found]
    apart = np.stack(
        [
            np.abs(a.numpy() - b.detach().cpu().numpy().transpose(0, 2, 3, 1))
            for a, b in zip(mine, other, strict=True)
        ]
    )
    ahead = [to_torch(one, theirs) for one in mine]
    theirs.module.train()
    loss = theirs.loss(images, labels, tuple(ahead) if len(ahead) > 1 else ahead[0])
    want = float(loss.detach())
    return Agreement(
        float(apart.mean(axis=(2, 3, 4)).max() / theirs.ball.eps),
        float((apart > 1e-4).mean()),
        abs(float(got) - want) / abs(want),
    )


def steps(pair: Both) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A training step here and one there, as functions without arguments."""
    data = tf.constant(pair.x), tf.constant(pair.y)
    graph = tf.function(pair.ours.train_step, autograph=False)  # traced in the first call
    images, labels = (to_torch(part, pair.theirs) for part in data)
    return (
        lambda: {name: float(value) for name, value in graph(data).items()},
        lambda: pair.theirs(images, labels),
    )


def to_torch(x: Any, step: Any) -> Any:
    """Images or labels as a tensor where the network of the step is."""
    torch = importlib.import_module("torch")
    array = np.array(x)
    device = next(step.module.parameters()).device
    if array.ndim == 4:
        return torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(device)
    return torch.from_numpy(array.astype("int64")).to(device)


def _from_uniform(attack: Any) -> Any:
    """The attack with a uniform start."""
    if isinstance(attack, attacks.SqueezeAttack):
        return dataclasses.replace(attack, start="uniform")
    if isinstance(attack, attacks.TRADESAttack):
        return dataclasses.replace(attack, random_start="uniform")
    return attack


def _starts(attack: Any, x: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
    """The images from which the attack starts with this seed, those of a pair as (col, adv)."""
    if isinstance(attack, attacks.SqueezeAttack):
        from robust_tf.attacks.training.squeeze import LINF

        one, two = attack.starts(LINF.bounds(x, tf.constant(attack.eps, tf.float64)), seed)
        return [one, two]
    bounds = attack.threat.bounds(x, tf.constant(attack.eps, tf.float64))
    return [attack.start(attack.threat, bounds, fold(as_seed(seed), 0))]


def _without_dropout(network: Any) -> Any:
    """The network, whose dropout drops nothing."""
    for module in network.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    return network


def line(network: str, method: str, batch: int, times: list[list[float]], same: Agreement) -> str:
    """A row of the table."""
    ratio = Ratio.of(times[1], times[0])
    ours, theirs = (float(np.median(one)) for one in times)
    return (
        f"| {network}, {method}, batch {batch} | {ours:.3f} | {theirs:.3f} | {ratio} "
        f"| {same.images:.1e}, {100 * same.pixels:.2f} % | {same.loss:.1e} |"
    )


HEAD = (
    "| step | here, s | PyTorch, s | PyTorch / here | images apart: mean in eps, pixels | loss |\n"
    "|---|---|---|---|---|---|"
)


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(SHOWN))
    parse.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parse.add_argument("--batch_size", type=int, default=32)
    parse.add_argument("--steps", type=int, default=10, help="of the attack")
    parse.add_argument("--rounds", type=int, default=7)
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parse.add_argument("--channels_last", action="store_true", help="PyTorch's memory format")
    options = parse.parse_args()
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(options.threads)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    versions = f"TensorFlow {tf.__version__}, torch {torch.__version__}"
    print(f"{versions}, {options.threads} thread(s), {options.clock} clock")
    print(HEAD, flush=True)
    for network in options.networks:
        for method in options.methods:
            pair = both(network, method, options.batch_size, Budget(steps=options.steps))
            same = agreement(pair)
            if options.channels_last:
                pair.theirs.module.to(memory_format=torch.channels_last)
            times = pairs(steps(pair), options.rounds, CLOCKS[options.clock])
            print(line(network, method, options.batch_size, times, same), flush=True)


if __name__ == "__main__":
    main()
