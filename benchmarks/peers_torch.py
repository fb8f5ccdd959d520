"""AutoAttack in PyTorch, from the parts of torchattacks with the settings of the original.

torchattacks' own `AutoAttack` runs its parts for 10 iterations, and its Square with another
schedule; here they have the 100 iterations, the 9 targets and the schedule of the original program.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torchattacks


class AutoAttackTorch:
    """AutoAttack standard, L-inf, on a copy of a Keras CNN with identical weights.

    Args:
      network: `SplitClassifier` made by `models.CNN`.
      eps: radius.
      scale: factor of the logits, to hide gradients.
    """

    def __init__(self, network: Any, eps: float, scale: float = 1.0):
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
        self.model = _converted(network, scale)
        shared = {"norm": "Linf", "eps": eps, "n_restarts": 1, "seed": 0}
        self.attacks = {
            "APGD-CE": torchattacks.APGD(self.model, steps=100, loss="ce", **shared),
            "APGD-T": torchattacks.APGDT(self.model, steps=100, n_classes=10, **shared),
            "FAB-T": torchattacks.FAB(
                self.model, steps=100, multi_targeted=True, n_classes=10, **shared
            ),
            "Square": torchattacks.Square(
                self.model, n_queries=5000, resc_schedule=False, **shared
            ),
        }

    def standing(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Which examples stand after each attack, bool (N,), the first entry without any."""
        images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(y.astype("int64"))
        stands = self._right(images, labels)
        result = {"natural": stands.copy()}
        for name, attack in self.attacks.items():
            left = np.flatnonzero(stands)
            if len(left):
                x_adv = attack(images[left], labels[left])
                assert float((x_adv - images[left]).abs().max()) < attack.eps + 1e-5
                stands[left] = self._right(x_adv, labels[left])
            result[name] = stands.copy()
        return result

    def _right(self, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return (self.model(images).argmax(1) == labels).numpy()


def _converted(network: Any, scale: float) -> torch.nn.Module:
    """The Keras CNN in PyTorch: kernels HWIO to OIHW, the first dense one from NHWC to NCHW."""
    layers: list[torch.nn.Module] = []
    shape: tuple[int, ...] = ()
    for layer in [*network.generator.layers, *network.classifier.layers]:
        kind, weights = type(layer).__name__, layer.get_weights()
        if kind == "Conv2D":
            kernel = torch.from_numpy(weights[0].transpose(3, 2, 0, 1).copy())
            conv = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:])
            conv.weight.data, conv.bias.data = kernel, torch.from_numpy(weights[1].copy())
            layers += [conv, torch.nn.ReLU()]
        elif kind == "MaxPooling2D":
            layers.append(torch.nn.MaxPool2d(2))
            shape = tuple(layer.output.shape[1:])
        elif kind == "Flatten":
            layers.append(torch.nn.Flatten())
        elif kind == "Dense":
            kernel = weights[0]
            if shape:
                kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3)
                kernel, shape = kernel.reshape(-1, kernel.shape[-1]), ()
            last = layer is network.classifier.layers[-1]
            factor = np.float32(scale if last else 1.0)
            dense = torch.nn.Linear(*kernel.shape)
            dense.weight.data = torch.from_numpy((factor * kernel.T).copy())
            dense.bias.data = torch.from_numpy(factor * weights[1])
            layers += [dense] if last else [dense, torch.nn.ReLU()]
        elif kind not in ("InputLayer", "Dropout"):
            raise ValueError(f"no conversion for the layer {layer.name} ({kind}).")
    return torch.nn.Sequential(*layers).eval()
