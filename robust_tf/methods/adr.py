"""ADR: adversary divergence reduction, by compactness and the clustering assumption."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from robust_tf import compat, losses, registration
from robust_tf.attacks import Attack
from robust_tf.attacks.network import logits_of
from robust_tf.attacks.randomness import fold
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.losses.compactness import Pairs
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.validation import plain_fields

# Table 3 has 1, 1, 1, 0 for MNIST and CIFAR-10 ResNet and 1, 1, 1, 1 for the CIFAR-10 CNN; its
# column heads are lost and read in the order of Equations 5 and 6. `code` is the command of the
# program.
PRESETS = {
    "table3": {"local": 1.0, "global_": 1.0, "entropy": 1.0, "smoothness": 0.0},
    "table3_cifar10_cnn": {"local": 1.0, "global_": 1.0, "entropy": 1.0, "smoothness": 1.0},
    "code": {"local": 1.0, "global_": 1.0, "entropy": 1.0, "smoothness": 1.0},
    "none": {"local": 0.0, "global_": 0.0, "entropy": 0.0, "smoothness": 0.0},
}


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Compactness(DataclassConfig):
    """How ADR compares features.

    Args:
      alpha: of the pair weight of global compactness, in (0, 1); 0.99 in the program.
      pairs: 'clean_adv' (program), 'clean_clean' (paper), 'adv_adv' or 'all'.
      norm: p of the distance, divided by the number of features; 1 in the program.
      detach_clean: hold the clean features fixed. The released program does, with a batch
        normalisation before z; without one the features collapse or grow without bound, so the
        default is the paper's form, gradients through both sides.
    """

    alpha: float = 0.99
    pairs: Pairs = "clean_adv"
    norm: float = 1
    detach_clean: bool = False

    def __post_init__(self) -> None:
        plain_fields(self)
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"Compactness(alpha={self.alpha!r}): must be in (0, 1); ADR uses 0.99."
            )
        kinds = ("clean_adv", "clean_clean", "adv_adv", "all")
        if self.pairs not in kinds:
            raise ValueError(f"Compactness(pairs={self.pairs!r}): must be one of {kinds}.")
        if not self.norm >= 1:
            raise ValueError(f"Compactness(norm={self.norm!r}): must be >= 1.")


@registration.configurable
@registration.serializable
class ADR(RobustModel):
    """0.5 CE(x) + 0.5 CE(x') + local + global + conditional entropy + smoothness (+ true VAT).

    Args:
      network: to be trained; its intermediate layer z is what the compactness terms act on.
      attack: the adversary, `PGD` (ADR-ADV) or `TRADESAttack` (ADR-TRADES).
      preset: weights of the four terms: 'table3' (1, 1, 1, 0), 'table3_cifar10_cnn' and 'code'
        (1, 1, 1, 1), 'none'. Weights that are given replace the preset's.
      local: weight of local compactness (Equation 1).
      global_: weight of global compactness (Equations 2 and 3).
      entropy: weight of the conditional entropy of adversarial predictions (Equation 5).
      smoothness: weight of KL(p(x) || p(x')), clean side fixed (Equation 6).
      virtual: weight of true virtual adversarial training (Miyato et al., 2018); not in the paper,
        whose adversarial example takes its place.
      compactness: how features are compared.

    Where labels are mixed (mixup), the pairs of global compactness go by the most probable class.

    Source: Bui et al. (2020), arXiv 2007.05123, and the released TensorFlow program where the
    paper's formulas leave a choice (entropy of adversarial examples only, CE 0.5 and 0.5).
    """

    warmup_terms = ("local", "global_", "entropy", "smoothness", "virtual")
    takes_soft_labels = True

    def __init__(
        self,
        network: keras.Model,
        attack: Attack,
        preset: str = "table3",
        local: float | None = None,
        global_: float | None = None,
        entropy: float | None = None,
        smoothness: float | None = None,
        virtual: float = 0.0,
        compactness: Compactness | None = None,
        name: str | None = None,
    ):
        if preset not in PRESETS:
            raise ValueError(f"ADR(preset={preset!r}): must be one of {tuple(PRESETS)}.")
        given = {"local": local, "global_": global_, "entropy": entropy, "smoothness": smoothness}
        chosen = {k: v if v is not None else PRESETS[preset][k] for k, v in given.items()}
        self.compactness = compactness or Compactness()
        self.adr_weights = {**chosen, "virtual": virtual}
        weights = {"clean": 0.5, "adversarial": 0.5, **self.adr_weights}
        self.needs_features = bool(chosen["local"] or chosen["global_"])
        super().__init__(network, attack, weights, name)

    def terms(self, batch: Batch) -> Terms:
        clean, adv, y, pairs = batch.clean, batch.adv, batch.y, self.compactness
        return {
            "clean": lambda: losses.label_cross_entropy(clean.logits, y),
            "adversarial": lambda: losses.label_cross_entropy(adv.logits, y),
            "local": lambda: losses.local_compactness(
                clean.features, adv.features, pairs.norm, pairs.detach_clean
            ),
            "global_": lambda: losses.global_compactness(
                clean.features,
                adv.features,
                losses.class_ids(y),
                pairs.alpha,
                pairs.pairs,
                pairs.norm,
                pairs.detach_clean,
            ),
            "entropy": lambda: losses.conditional_entropy(adv.logits),
            "smoothness": lambda: losses.smoothness(clean.logits, adv.logits),
            "virtual": lambda: losses.virtual_adversarial(
                logits_of(self.network, "running"), batch.x, seed=fold(batch.seed, 2)
            ),
        }

    def of_a_part(self) -> str:
        return (
            "global compactness has the pairs of each part" if self.adr_weights["global_"] else ""
        )

    def get_config(self) -> dict[str, Any]:
        compactness = compat.serialize(self.compactness)
        return {**super().get_config(), **self.adr_weights, "compactness": compactness}
