"""Attacks against those of other libraries, on the same MNIST network, images and cores.

    python -m benchmarks.attacks pgd        --model runs/adr_mnist/model.keras
    python -m benchmarks.attacks autoattack --model runs/adr_mnist/model.keras
    python -m benchmarks.attacks agreement  --model runs/adr_mnist/model.keras \
        --weak runs/standard_mnist/model.keras

In an environment of their own, beside this library's requirements: `pip install
adversarial-robustness-toolbox foolbox cleverhans easydict`, `pip install torch==2.13.0`, and
`pip install --no-deps torchattacks`. `--data_dir` as for bin/train.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.floor import bare_pass
from benchmarks.pairing import in_turn
from robust_tf import attacks, data
from robust_tf.evaluation import Evaluation, evaluate
from robust_tf.evaluation.loading import load_model
from robust_tf.evaluation.target_model import copy_in

EPS = 0.3


def right(model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether each image is classified correctly."""
    return np.argmax(np.asarray(model(x)), axis=1) == y


def pgd(model: Any, x: np.ndarray, y: np.ndarray, rounds: int) -> None:
    """PGD-40: images per second and robust accuracy of each library, timed in turn."""
    from benchmarks.peers_tensorflow import peers

    steps, step_size, batch = 40, 0.01, 128
    ours = attacks.PGD(EPS, step_size, steps)
    fast = copy_in(model, "bfloat16")

    def batched(attack: Any) -> np.ndarray:
        parts = range(0, len(x), batch)
        return np.concatenate([attack(x[k : k + batch], y[k : k + batch]) for k in parts])

    runs = {
        "robust_tf": lambda: batched(lambda a, b: ours(model, a, b).numpy()),
        "robust_tf, bfloat16 search": lambda: batched(lambda a, b: ours(fast, a, b).numpy()),
    }
    for name, peer in peers(model, EPS, step_size, steps, batch).items():
        runs[name] = lambda p=peer: batched(p)
    bare = bare_pass(model, tf.constant(x[:batch]), tf.constant(y[:batch]))
    times: dict[str, list[float]] = {name: [] for name in (*runs, "floor")}
    accuracy = {}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            x_adv = run()
            if turn:
                times[name].append(time.perf_counter() - began)
            accuracy[name] = right(model, x_adv, y).mean()
        began = time.perf_counter()
        for _ in range(steps):
            bare()
        if turn:
            times["floor"].append((time.perf_counter() - began) * len(x) / batch)
    base = np.median(times["robust_tf"])
    print(f"PGD-{steps}, eps {EPS}, {len(x)} images, {rounds} rounds in turn")
    for name in runs:
        median, share = np.median(times[name]), 100 * accuracy[name]
        print(
            f"{name:28} {len(x) / median:7.0f} img/s  {median / base:6.2f} x robust_tf's time  "
            f"{median / np.median(times['floor']):5.2f} x floor  robust {share:.2f} %"
        )


def autoattack(model: Any, x: np.ndarray, y: np.ndarray) -> None:
    """AutoAttack standard on images that are classified correctly: seconds and verdicts."""
    from benchmarks.peers_torch import AutoAttackTorch

    seconds, stands = {}, {}
    battery = {"AutoAttack": attacks.AutoAttack(EPS)}
    for dtype in ("float32", "bfloat16"):
        began = time.perf_counter()
        result = evaluate(model, (x, y), battery, batch_size=200, search_dtype=dtype, checks=False)
        seconds[dtype], stands[dtype] = time.perf_counter() - began, result.worst_case
        _describe(f"robust_tf, {dtype}", result, floor(copy_in(model, dtype), x, y))
    began = time.perf_counter()
    theirs = AutoAttackTorch(model, EPS).standing(x, y)
    seconds["torch"] = time.perf_counter() - began
    print("PyTorch:", {name: int(s.sum()) for name, s in theirs.items()})
    for name, value in seconds.items():
        print(f"{name:10} {value:7.1f} s  PyTorch / this = {seconds['torch'] / value:5.2f}")
    for name, mine in stands.items():
        print(f"{name}: {int((mine != theirs['Square']).sum())} of {len(y)} verdicts differ")


CASES = {  # which model, eps, what its logits are multiplied by
    "robust": ("model", EPS, 1.0),
    "weak": ("weak", 0.1, 1.0),
    "masked": ("model", EPS, 1000.0),
}


def agreement(
    networks: dict[str, Any], cases: list[str], seeds: list[int], x: np.ndarray, y: np.ndarray
) -> None:
    """AutoAttack standard here, with each seed, and in PyTorch: accuracies, and disagreements."""
    from benchmarks.peers_torch import AutoAttackTorch

    for name in cases:
        which, eps, scale = CASES[name]
        network = networks[which]
        theirs = AutoAttackTorch(network, eps, scale).standing(x, y)["Square"]
        print(f"{name}: eps {eps}, logits x {scale:g}, PyTorch {100 * theirs.mean():.2f} %")
        battery, model = [attacks.AutoAttack(eps)], scaled(network, scale)
        for seed in seeds:
            ours = evaluate(model, (x, y), battery, checks=False, seed=seed).worst_case
            here, there = np.flatnonzero(theirs & ~ours), np.flatnonzero(ours & ~theirs)
            print(
                f"  seed {seed}: here {100 * ours.mean():.2f} %; "
                f"broken only here {here}, only there {there}",
                flush=True,
            )


def scaled(network: Any, scale: float) -> Any:
    """The network with its logits times `scale`."""
    return network if scale == 1.0 else lambda x: scale * network(x, training=False)


def floor(model: Any, x: np.ndarray, y: np.ndarray, rounds: int = 9) -> tuple[float, float]:
    """Seconds per image of a bare forward, and of a bare forward with input gradient."""
    images, labels = tf.constant(x), tf.constant(y)
    forward = tf.function(lambda x: model(x, training=False))
    times = in_turn([lambda: forward(images), bare_pass(model, images, labels)], rounds)
    first, second = (float(np.median(found)) / len(x) for found in times)
    return first, second


def _describe(name: str, result: Evaluation, bare: tuple[float, float]) -> None:
    """What an evaluation cost, and what its passes alone would cost."""
    (outcome,) = result.outcomes.values()
    size = len(result)
    alone = (outcome.forwards - outcome.gradients) * bare[0] + outcome.gradients * bare[1]
    print(
        f"{name}: {outcome.details['stages']}, {outcome.forwards / size:.0f} forwards, "
        f"{outcome.gradients / size:.0f} of them with a gradient, per image; "
        f"{outcome.seconds:.1f} s, {outcome.seconds / alone:.2f} of the floor of {alone:.1f} s "
        f"({1e6 * bare[0]:.0f} us a forward, {1e6 * bare[1]:.0f} with gradient)"
    )


def main() -> None:
    """Runs the part that is named."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("part", choices=("pgd", "autoattack", "agreement"))
    parse.add_argument("--model", required=True)
    parse.add_argument("--weak", help="for agreement: a model that was not made robust")
    parse.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parse.add_argument("--seeds", nargs="+", type=int, default=[0], help="agreement: of ours")
    parse.add_argument("--data_dir")
    parse.add_argument("--images", type=int, default=None)
    parse.add_argument("--rounds", type=int, default=3)
    options = parse.parse_args()
    model = copy_in(load_model(options.model), "float32")
    where = {"data_dir": options.data_dir} if options.data_dir else {}
    test = data.load("mnist", **where).test
    count = options.images or {"pgd": 512, "autoattack": 200, "agreement": 500}[options.part]
    x = (test.images[: 2 * count] / np.float32(255)).astype("float32")
    y = test.labels[: 2 * count]
    if options.part == "autoattack":  # images that are worth an attack
        keep = np.flatnonzero(right(model, x, y))
        x, y = x[keep], y[keep]
    x, y = x[:count], y[:count]
    if options.part == "pgd":
        pgd(model, x, y, options.rounds)
    elif options.part == "autoattack":
        autoattack(model, x, y)
    else:
        networks = {"model": model}
        if "weak" in options.cases:
            if not options.weak:
                parse.error("agreement needs --weak")
            networks["weak"] = copy_in(load_model(options.weak), "float32")
        agreement(networks, options.cases, options.seeds, x, y)


if __name__ == "__main__":
    main()
