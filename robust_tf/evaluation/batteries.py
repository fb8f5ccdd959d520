"""Batteries: sets of attacks that are run together, bound by gin parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gin

from robust_tf import registration
from robust_tf.attacks import Attack
from robust_tf.evaluation.attack_parser import as_attacks

NAMES = ("smoke", "adr", "atld", "st", "autoattack", "full")


@registration.configurable
def battery(attacks: Mapping[str, Attack] | Sequence[Attack] = gin.REQUIRED) -> dict[str, Attack]:
    """The attacks, by name, that `gin/parts/batteries/NAME.gin` binds.

    Args:
      attacks: a list, or a dict with their names.
    """
    return as_attacks(attacks)
