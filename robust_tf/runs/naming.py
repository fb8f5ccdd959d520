"""What figures and tables call the method of a run."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "AdversarialTraining": "AT",
    "SqueezeTraining": "ST",
    "FeatureScattering": "Feature Scattering",
}


def label_of(method: str, terms: dict[str, Any], attack: str | None = None) -> str:
    """'AT', 'ADV' (half clean, half adversarial), 'ADR LC/GB' (with ADR's terms), 'ADR-TRADES', ...

    Training on a union of balls is 'AT max', 'AT average' or 'AT MSD'.

    'ADV-TRADES' is half and half by the adversary of TRADES: ADR-TRADES without ADR's terms.

    Args:
      method: name of the class, '' where it is not known.
      terms: of its loss, with their weights.
      attack: name of the training attack, see `evaluation.name_of`.
    """
    if method == "UnionTraining":
        by_msd = (attack or "").startswith("MSD")
        return "AT MSD" if by_msd else "AT average" if len(terms) > 1 else "AT max"
    half = method == "AdversarialTraining" and terms.get("clean")
    if method == "AdversarialTraining" and not half:
        for single in ("FGSM-RS", "N-FGSM"):
            if (attack or "").startswith(single):
                return single
    if method != "ADR" and not half:
        return _NAMES.get(method, method)
    pairs = [("local", "LC"), ("global_", "GB")]
    parts = [short for term, short in pairs if terms.get(term)]
    if terms.get("entropy") or terms.get("smoothness"):
        parts.append("CA")
    if (attack or "").startswith("TRADES"):
        return "ADR-TRADES" if parts else "ADV-TRADES"
    return f"ADR {'/'.join(parts)}" if parts else "ADV"
