"""DDN, FMN and AutoAttack's attacks in L1 beside Foolbox and adv-lib, on one published network.

    python -m benchmarks.peers_distances wong2020_fgsm_mnist.pth --data_dir tfds --steps 100
    python -m benchmarks.peers_distances wong2020_fgsm_mnist.pth --data_dir tfds --l1 3,5,8

It needs foolbox, adv-lib and torch in an environment of its own. The weights are those of Wong et
al. (2020) for MNIST. All sides attack the first test images; an image counts as adversarial if
either framework's network misclassifies it. Times are of one thread each, in turn.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import torch

from benchmarks.pairing import in_turn
from robust_tf import attacks, data, models
from robust_tf.models import StridedCNN

ORDERS = {"Linf": float("inf"), "L2": 2, "L1": 1}


class Absent(types.ModuleType):
    """In place of a module that a library imports to draw or to load models."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


for missing in ("git", "visdom", "visdom_logger", "torchvision", "torchvision.models"):
    sys.modules.setdefault(missing, Absent(missing))


class Subject:
    """The network in both frameworks, images, labels, and what is misclassified."""

    def __init__(self, weights: str, data_dir: str | None, images: int):
        test = data.load("mnist", data_dir=data_dir).test
        self.x = test.images[:images].astype("float32") / 255
        self.y = test.labels[:images].astype("int32")
        self.keras = StridedCNN((28, 28, 1), 10)
        models.from_torch(self.keras, weights)
        conv, relu, linear = torch.nn.Conv2d, torch.nn.ReLU, torch.nn.Linear
        first = (conv(1, 16, 4, 2, 1), relu(), conv(16, 32, 4, 2, 1), relu(), torch.nn.Flatten())
        self.torch = torch.nn.Sequential(*first, linear(1568, 100), relu(), linear(100, 10))
        self.torch.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.torch.eval().requires_grad_(False)
        self.images = torch.from_numpy(self.x.transpose(0, 3, 1, 2).copy())
        self.labels = torch.from_numpy(self.y.astype("int64"))
        self.right = ~self.wrong(self.x)

    def wrong(self, x: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Whether either network misclassifies these images, bool (B,)."""
        theirs = self.torch(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).argmax(1).numpy()
        ours = np.argmax(self.keras(x, training=False), axis=1)
        return (theirs != self.y[rows]) | (ours != self.y[rows])

    def distances(self, x_adv: np.ndarray, norm: str) -> np.ndarray:
        """Of each correctly classified image; inf where the image is not adversarial."""
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        step = (x_adv.astype("float64") - self.x).reshape(len(self.x), -1)
        length = np.linalg.norm(step, ORDERS[norm], axis=1)
        return np.where(self.wrong(x_adv), length, np.inf)[self.right]


def nhwc(images: torch.Tensor) -> np.ndarray:
    """(B, C, H, W) to NumPy, channels last."""
    return images.detach().numpy().transpose(0, 2, 3, 1).copy()


def searches(subject: Subject, steps: int) -> dict[str, dict[str, Callable[[], np.ndarray]]]:
    """By attack and norm, what each library makes of the images."""
    import foolbox
    from adv_lib.attacks.decoupled_direction_norm import ddn
    from adv_lib.attacks.fast_minimum_norm import fmn

    wrapped = foolbox.PyTorchModel(subject.torch, bounds=(0, 1), device="cpu")
    own = (subject.torch, subject.images, subject.labels)

    def ours(attack: Any) -> Callable[[], np.ndarray]:
        return lambda: attack(subject.keras, subject.x, subject.y).numpy()

    def of_foolbox(attack: Any) -> Callable[[], np.ndarray]:
        return lambda: nhwc(attack(wrapped, *own[1:], epsilons=None)[1])

    found = {
        "DDN L2": {
            "ours": ours(attacks.DDN(steps=steps)),
            "adv-lib": lambda: nhwc(ddn(*own, steps=steps, levels=None)),
            "Foolbox": of_foolbox(foolbox.attacks.DDNAttack(steps=steps)),
        }
    }
    theirs = {"Linf": "LInfFMNAttack", "L2": "L2FMNAttack", "L1": "L1FMNAttack"}
    for norm, order in ORDERS.items():
        found[f"FMN {norm}"] = {
            "ours": ours(attacks.FMN(norm=norm, steps=steps)),
            "adv-lib": lambda order=order: nhwc(fmn(*own, norm=order, steps=steps)),
            "Foolbox": of_foolbox(getattr(foolbox.attacks, theirs[norm])(steps=steps)),
        }
    return found


def compare_distances(subject: Subject, steps: int) -> None:
    """A row for each attack and library: median, images without a result, nearer and farther."""
    print("| attack | library | median | not found | ours nearer / farther by 1 % | time to ours |")
    print("|---|---|---|---|---|---|")
    for name, made in searches(subject, steps).items():
        norm = name.split()[1]
        seconds = dict(zip(made, map(min, in_turn(list(made.values()), 3)), strict=True))
        results = {library: subject.distances(make(), norm) for library, make in made.items()}
        ours = results["ours"]
        for library, found in results.items():
            near, far = np.mean(ours < 0.99 * found), np.mean(ours > 1.01 * found)
            compared = "" if library == "ours" else f"{near:.2f} / {far:.2f}"
            print(
                f"| {name} | {library} | {np.median(found):.4f} | {np.isinf(found).sum()} | "
                f"{compared} | {seconds[library] / seconds['ours']:.2f} |",
                flush=True,
            )


def compare_verdicts(subject: Subject, radii: list[float]) -> None:
    """Images that withstand APGD-CE, APGD-T and FAB-T of AutoAttack's in L1, one after another."""
    from adv_lib.attacks import fab
    from adv_lib.attacks.auto_pgd import apgd, apgd_targeted

    torch.manual_seed(0)
    net, large = subject.torch, {"use_large_reps": True}
    plain = {**large, "n_restarts": 5, "loss_function": "ce"}
    targeted = {**large, "num_targets": 5}
    minimal = {"n_iter": 100, "restarts": 9, "targeted_restarts": True}
    print("| eps | stage | ours | adv-lib |\n|---|---|---|---|")
    for eps in radii:
        stages = dict(attacks.AutoAttack(eps, "L1").stages())
        theirs: dict[str, Callable[..., torch.Tensor]] = {
            "APGD-CE": lambda x, y, eps=eps: apgd(net, x, y, eps, 1, **plain),
            "APGD-T": lambda x, y, eps=eps: apgd_targeted(net, x, y, eps, 1, **targeted),
            "FAB-T": lambda x, y: fab(net, x, y, 1.0, **minimal),
        }
        left = {"ours": subject.right.copy(), "adv-lib": subject.right.copy()}
        for stage, attack in theirs.items():
            for side, robust in left.items():
                rows = np.flatnonzero(robust)
                x, y = subject.x[rows], subject.y[rows]
                if side == "ours":
                    x_adv = stages[stage](subject.keras, x, y).numpy()
                else:
                    x_adv = nhwc(attack(subject.images[rows], subject.labels[rows]))
                length = np.abs(x_adv.astype("float64") - x).reshape(len(rows), -1).sum(1)
                robust[rows] = ~(subject.wrong(x_adv, rows) & (length <= eps * (1 + 1e-5)))
            sizes = [int(robust.sum()) for robust in left.values()]
            print(f"| {eps:g} | {stage} | {sizes[0]} | {sizes[1]} |", flush=True)


def main() -> None:
    """Reads the arguments and prints the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights")
    parser.add_argument("--data_dir")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--l1", help="radii, divided by commas: verdicts in L1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    subject = Subject(options.weights, options.data_dir, options.images)
    print(f"{options.images} images, {int(subject.right.sum())} classified correctly")
    if options.l1:
        compare_verdicts(subject, [float(eps) for eps in options.l1.split(",")])
    else:
        compare_distances(subject, options.steps)


if __name__ == "__main__":
    main()
