"""Claims of a paper, each with the rule by which it holds, does not, or stays open.

A rule is part of the study's file, so it stands before the study is run.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Protocol

from robust_tf import registration
from robust_tf.studies.statistics import Paired

HOLDS, FAILS, OPEN = "holds", "does not", "open"


class Findings(Protocol):
    """What a rule may ask; None, or an empty dict, of what was not run."""

    def accuracy(self, row: str, column: str) -> dict[int, float]:
        """By seed, in [0, 1]."""

    def difference(self, row: str, than: str, column: str) -> dict[int, Paired]:
        """By seed that both rows have."""

    def metrics(self, row: str, name: str) -> dict[int, list[float]]:
        """By seed, a value of each epoch."""

    def seeds(self, row: str) -> list[int]:
        """Those that the study asks of a row: a rule speaks of all of them."""


@dataclasses.dataclass(frozen=True)
class Ruling:
    """What a rule says, 'holds', 'does not' or 'open', and the figures by which it says so."""

    verdict: str
    figures: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of a paper, or of ours; a subclass is a rule."""

    text: str

    @property
    def rows(self) -> list[str]:
        """The rows that it speaks of."""
        raise NotImplementedError

    @property
    def columns(self) -> list[str]:
        """The columns that it speaks of; none of a rule on what training logged."""
        return []

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """What it compares: a row, the other, and a column."""
        return []

    @property
    def rule(self) -> str:
        """The rule in words."""
        raise NotImplementedError

    def judge(self, found: Findings) -> Ruling:
        """What the rule says of these findings."""
        raise NotImplementedError


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Above(Claim):
    """A row is above another in a column, on the same images.

    Args:
      text: the claim.
      row, than: names of rows.
      column: name of a column.
      standard_errors: of the paired difference, by which it must be above `by` in each seed, >= 0.
      by: in points (percent of images); below 0 for 'no more than so much below'.

    It holds if the difference less `by` is above that many standard errors in each seed, and does
    not if it is at or below 0 in every seed.
    """

    row: str
    than: str
    column: str
    standard_errors: float = 2.0
    by: float = 0.0

    @property
    def rows(self) -> list[str]:
        return [self.row, self.than]

    @property
    def columns(self) -> list[str]:
        return [self.column]

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        return [(self.row, self.than, self.column)]

    @property
    def rule(self) -> str:
        return (
            f"{self.row} less {self.than} in {self.column}, on the same images, is more than "
            f"{self.standard_errors:g} standard errors above {self.by:g} points in each seed; it "
            f"does not if it is at or below {self.by:g} points in every seed"
        )

    def judge(self, found: Findings) -> Ruling:
        pairs = found.difference(self.row, self.than, self.column)
        asked = sorted({*found.seeds(self.row)} & {*found.seeds(self.than)})
        figures = "; ".join(
            f"seed {seed}: {100 * one.difference:+.2f} ± {100 * one.standard_error:.2f}"
            for seed, one in sorted(pairs.items())
        )
        excess = {seed: one.difference - self.by / 100 for seed, one in pairs.items()}
        above = [
            excess[seed] > self.standard_errors * one.standard_error for seed, one in pairs.items()
        ]
        return _ruling(above, [value <= 0 for value in excess.values()], pairs, asked, figures)


@registration.configurable
@dataclasses.dataclass(frozen=True)
class AtLeast(Claim):
    """A row has an accuracy of at least so much.

    Args:
      text: the claim.
      row: name of a row.
      column: name of a column.
      value: percent.

    It holds if that is so in each seed, and does not if it is so in none.
    """

    row: str
    column: str
    value: float

    @property
    def rows(self) -> list[str]:
        return [self.row]

    @property
    def columns(self) -> list[str]:
        return [self.column]

    @property
    def rule(self) -> str:
        return (
            f"{self.row} has {self.value:g} % or more in {self.column} in each seed; it does not "
            "if it has less in every seed"
        )

    def judge(self, found: Findings) -> Ruling:
        values = found.accuracy(self.row, self.column)
        figures = "; ".join(f"seed {s}: {100 * v:.2f} %" for s, v in sorted(values.items()))
        enough = [100 * value >= self.value for value in values.values()]
        return _ruling(enough, [not one for one in enough], values, found.seeds(self.row), figures)


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Metric(Claim):
    """What training logged stayed below a value: whether a run is valid at all.

    Args:
      text: the claim.
      row: name of a row.
      metric: name in `metrics.jsonl`.
      below: the value.
      epochs: 'last' or 'every'.

    It holds if that is so in each seed, and does not if it is so in none.
    """

    row: str
    metric: str
    below: float
    epochs: str = "last"

    def __post_init__(self) -> None:
        if self.epochs not in ("last", "every"):
            raise ValueError(f"Metric(epochs={self.epochs!r}): must be 'last' or 'every'.")

    @property
    def rows(self) -> list[str]:
        return [self.row]

    @property
    def rule(self) -> str:
        when = "in the last epoch" if self.epochs == "last" else "in every epoch"
        return f"{self.metric} of {self.row} is below {self.below:g} {when} of each seed"

    def judge(self, found: Findings) -> Ruling:
        values = {seed: v for seed, v in found.metrics(self.row, self.metric).items() if v}
        worst = {s: v[-1] if self.epochs == "last" else max(v) for s, v in values.items()}
        figures = "; ".join(f"seed {seed}: {value:.4g}" for seed, value in sorted(worst.items()))
        below = [value < self.below for value in worst.values()]
        return _ruling(below, [not one for one in below], worst, found.seeds(self.row), figures)


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Faster(Claim):
    """An epoch of a row takes so many times less time than one of another, on the same images.

    Args:
      text: the claim.
      row, than: names of rows.
      times: ratio of the seconds of an epoch, > 0.

    The seconds are those per training image of `metrics.jsonl`, the median of the epochs but the
    first, in which graphs are made; validation is not counted. A batch that is used several times
    counts once. It holds if the ratio is that or more in each seed, and does not if it is less in
    every seed.
    """

    row: str
    than: str
    times: float

    @property
    def rows(self) -> list[str]:
        return [self.row, self.than]

    @property
    def rule(self) -> str:
        return (
            f"the seconds of an epoch of {self.than} are {self.times:g} times those of {self.row} "
            "or more, by the median epoch, in each seed; it does not if they are less in every seed"
        )

    def judge(self, found: Findings) -> Ruling:
        fast, slow = (_speeds(found, row) for row in (self.row, self.than))
        ratios = {seed: fast[seed] / slow[seed] for seed in sorted({*fast} & {*slow})}
        asked = sorted({*found.seeds(self.row)} & {*found.seeds(self.than)})
        figures = "; ".join(f"seed {seed}: {ratio:.2f} times" for seed, ratio in ratios.items())
        enough = [ratio >= self.times for ratio in ratios.values()]
        return _ruling(enough, [not one for one in enough], ratios, asked, figures)


@registration.configurable
@dataclasses.dataclass(frozen=True)
class All(Claim):
    """Several claims together.

    Args:
      text: the claim.
      claims: it holds if all of these hold.
      refuted_by: it does not if one of these does not; (): one of `claims`.
      given: unless all of these hold, it is open: what makes a comparison valid.
    """

    claims: Sequence[Claim]
    refuted_by: Sequence[Claim] = ()
    given: Sequence[Claim] = ()

    @property
    def rows(self) -> list[str]:
        return [row for claim in self._parts for row in claim.rows]

    @property
    def columns(self) -> list[str]:
        return [column for claim in self._parts for column in claim.columns]

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        return [pair for claim in self._parts for pair in claim.pairs]

    @property
    def _parts(self) -> list[Claim]:
        return [*self.claims, *self.refuted_by, *self.given]

    @property
    def rule(self) -> str:
        text = "all of these hold: " + "; ".join(claim.text for claim in self.claims)
        refuting = [claim.text for claim in self.refuted_by or self.claims]
        text += ". It does not if one of these does not: " + "; ".join(refuting)
        given = "; ".join(claim.text for claim in self.given)
        return text + (f". It is open unless: {given}" if given else "")

    def judge(self, found: Findings) -> Ruling:
        verdicts = {claim.text: claim.judge(found).verdict for claim in self._parts}
        figures = "; ".join(f"{text}: {verdict}" for text, verdict in verdicts.items())
        refuting = self.refuted_by or self.claims
        if any(verdicts[claim.text] != HOLDS for claim in self.given):
            return Ruling(OPEN, figures)
        if any(verdicts[claim.text] == FAILS for claim in refuting):
            return Ruling(FAILS, figures)
        holds = all(verdicts[claim.text] == HOLDS for claim in self.claims)
        return Ruling(HOLDS if holds else OPEN, figures)


def _speeds(found: Findings, row: str) -> dict[int, float]:
    """Images per second of the median epoch but the first, by seed."""
    epochs = found.metrics(row, "images_per_second")
    return {seed: statistics.median(v[1:] or v) for seed, v in epochs.items() if v}


def _ruling(
    held: Sequence[bool],
    failed: Sequence[bool],
    seen: dict[int, object] | dict[int, float] | dict[int, Paired],
    asked: Sequence[int],
    figures: str,
) -> Ruling:
    """Open while a seed is missing; else by what is so in every seed."""
    missing = [str(seed) for seed in asked if seed not in seen]
    if missing or not seen:
        lack = f"not run: seed {', '.join(missing)}" if missing else "not run"
        return Ruling(OPEN, "; ".join(filter(None, (figures, lack))))
    return Ruling(HOLDS if all(held) else FAILS if all(failed) else OPEN, figures)
