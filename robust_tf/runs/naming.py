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

    Args:
      method: name of the class, '' where it is not known.
      terms: of its loss, with their weights.
      attack: name of the training attack, see `evaluation.name_of`.
    """
    if method == "AdversarialTraining" and terms.get("clean"):
        return "ADV"
    if method != "ADR":
        return _NAMES.get(method, method)
    if (attack or "").startswith("TRADES"):
        return "ADR-TRADES"
    pairs = [("local", "LC"), ("global_", "GB")]
    parts = [short for term, short in pairs if terms.get(term)]
    if terms.get("entropy") or terms.get("smoothness"):
        parts.append("CA")
    return f"ADR {'/'.join(parts)}" if parts else "ADV"
