"""The command that gives a result again, and whether a result is of a run's own model."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from robust_tf import compat, modules
from robust_tf.attacks import PGD, Attack, GradientAttack, ProjectedGradient
from robust_tf.attacks.threat import Linf
from robust_tf.attacks.union import AttackUnion
from robust_tf.evaluation.adaptive import OBLIVIOUS, undefended
from robust_tf.evaluation.attack_parser import dotted, parse_attack
from robust_tf.evaluation.results import Evaluation
from robust_tf.evaluation.sources import SourceModel

UNSAID = "no command says it again; it has an attack or a defence that text cannot name"


def draw_of(settings: dict[str, Any]) -> str:
    """Which examples an evaluation has taken, as `--draw` names it."""
    return "balanced" if settings.get("draw") else "first"


def command(
    run_dir: str,
    evaluation: Evaluation,
    data: dict[str, Any],
    inference: dict[str, Any] | None = None,
    *,
    dataset: str | None = None,
    output: str | None = None,
    imports: Sequence[Mapping[str, Any]] = (),
) -> str | None:
    """The call of `bin/evaluate` that gives a result again, for a shell.

    Args:
      run_dir: folder of the run.
      evaluation: the result.
      data: what its file says of the data, {} for nothing.
      inference: what its file says of a defence at inference.
      dataset: the run's own, which needs no option.
      output: a file for the new result.
      imports: what its file says of modules that the run does not record.

    Returns:
      The command; None where no text can name its attacks, or its defence.
    """
    settings = evaluation.settings
    parts = ["bin/evaluate", f"--run_dir={shlex.quote(run_dir)}"]
    parts += [f"--import={shlex.quote(modules.as_option(one))}" for one in imports]
    try:
        configs = settings["attacks"]
        if inference:
            parts += _defence(inference)
            own = [name for name in configs if name.startswith(OBLIVIOUS)]
            configs = {name: undefended(name, configs[name]) for name in own}
        texts = [text_of(compat.deserialize(config)) for config in configs.values()]
    except Exception:  # Keras raises of every kind for what is not known here
        return None
    if not texts:
        return None
    parts.append(f"--attacks={_quoted('; '.join(dict.fromkeys(texts)))}")
    if data.get("name") not in (None, dataset) or data.get("dataset"):
        parts.append(f"--dataset={shlex.quote(str(data.get('dataset') or data['name']))}")
    if data.get("split", "test") != "test":
        parts.append(f"--split={data['split']}")
    parts.append(f"--max_examples={settings.get('total_examples', len(evaluation))}")
    parts.append(f"--draw={draw_of(settings)}")
    if settings.get("shard"):
        parts.append(f"--shard={'/'.join(map(str, settings['shard']))}")
    for name in ("seed", "batch_size", "search_dtype"):
        if settings.get(name):
            parts.append(f"--{name}={settings[name]}")
    if settings.get("eight_bits"):
        parts.append("--eight_bits")
    if settings.get("checks") is False:
        parts.append("--no_checks")
    if output:
        parts.append(f"--output={shlex.quote(output)}")
    return " ".join(parts)


def _defence(inference: dict[str, Any]) -> list[str]:
    """Options for it; KeyError where the file does not say them."""
    options = [f"--inference={inference['kind']}", f"--delta={_number(inference['delta'])}"]
    if inference.get("gate"):
        options.append(f"--gate={','.join(map(_number, inference['gate']))}")
    return [*options, f"--adaptive={inference.get('adaptive') or 'full'}"]


def text_of(attack: Attack) -> str:
    """The attack as `parse_attack` takes it, without what is as by default; short for a usual PGD.

    Raises:
      ValueError: no text gives this attack: it holds a model, or is of somebody's own making.
    """
    text = _text(attack)
    if _parts(parse_attack(text)) != _parts(attack):
        raise ValueError(f"{attack!r} cannot be said in a command.")
    return text


def _parts(attack: Attack) -> Attack:
    """The attack, a gradient attack in it as a free composition: version 0.1 wrote those."""
    if isinstance(attack, GradientAttack):
        return attack.composition()
    if isinstance(attack, AttackUnion):
        return dataclasses.replace(attack, attacks=tuple(map(_parts, attack.members)))  # type: ignore
    inner = getattr(attack, "attack", None)
    wraps = isinstance(inner, Attack)
    return dataclasses.replace(attack, attack=_parts(inner)) if wraps else attack  # type: ignore


def _text(value: Any) -> str:
    """A part of an attack."""
    if isinstance(value, ProjectedGradient) and isinstance(value.threat, Linf):
        short = PGD(value.eps, value.step_size, value.steps)  # as files of version 0.1 hold it
        if value == short.composition():
            return _text(short)
    if dataclasses.is_dataclass(value):
        said: list[str] = []
        for field in dataclasses.fields(value):
            own = getattr(value, field.name)
            if isinstance(own, SourceModel):
                said.append(f"run={own.path!r}")
            elif own != field.default:
                alone = isinstance(own, (Attack, tuple)) and not said
                said.append(_text(own) if alone else f"{field.name}={_text(own)}")
        module, name = type(value).__module__, type(value).__name__
        if module == "__main__":
            raise ValueError(f"{name} is of a script, which no command can import.")
        name = dotted(type(value)) if modules.own(module) else name
        return f"{name}({', '.join(said)})"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float):
        return _number(value)
    if value is None or isinstance(value, (int, str)):
        return repr(value)
    raise ValueError(f"{value!r} cannot be said in a command.")


def _number(value: float) -> str:
    """'0.3', or '8/255' where it is exactly that and shorter."""
    pixels = round(255 * value) if math.isfinite(value) else 0
    exact = 0 < pixels < 255 and pixels / 255 == value
    return f"{pixels}/255" if exact and len(repr(value)) > 6 else repr(value)


def _quoted(text: str) -> str:
    """In double quotes where that is enough, since attacks hold single ones."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def foreign(result: dict[str, Any], fingerprint: str | None) -> str:
    """Why a result is not one of a run's own model; '' where nothing says so.

    Args:
      result: content of a file of `bin/evaluate --output`.
      fingerprint: of the run's weights, as `settings['model']` of an evaluation has it; None where
        it is not known. Results behind a defence have one of their own, which is not compared.
    """
    if result.get("model"):
        return f"it is of the model {result['model']}; give --run_dir for the run's own"
    evaluation = result.get("evaluation")
    found = evaluation.get("model") if isinstance(evaluation, dict) else None
    if fingerprint and found and found != fingerprint and not result.get("inference"):
        return f"it is of other weights (fingerprint {found}, the run's {fingerprint})"
    return ""
