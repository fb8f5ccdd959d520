"""What a study is: rows to train, attacks on all of them, and claims with their rules."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from robust_tf import registration
from robust_tf.evaluation.attack_parser import parse_attacks
from robust_tf.studies.claims import Claim
from robust_tf.validation import check_whole

NATURAL, WORST = "natural", "worst case"  # columns that every study has
PAPER = "paper"  # the budget that changes nothing
# The folder of another row's run of the same seed, in a binding or an attack.
RUN = re.compile(r"RUN\[([^\]]*)\]")
_ADAPTIVE = re.compile(r"adaptive (full|quick)")


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a study's table: a recipe with changed bindings.

    Args:
      recipe: name or path of a gin file, or several, later ones over earlier ones.
      bindings: over them, as `--gin_param`. `RUN[NAME]` is the folder of the run that the row NAME
        has with the same seed.
      on_budget: by name of a budget, bindings that this row needs on top of it.
      of: name of another row whose runs this row shows, behind `inference`.
      inference: 'imt' or 'imt+', the defense in front of the network of `of`.
      seeds: the only ones that this row is trained with; (): all that are asked for.
      paper: the paper's numbers in percent, by column.
      name: of its folder and in claims; '': its gin scope.
      title: to show; '': the name.

    Raises:
      ValueError: a value outside its range.
    """

    recipe: str | Sequence[str] = ()
    bindings: Sequence[str] = ()
    on_budget: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    of: str = ""
    inference: str = ""
    seeds: Sequence[int] = ()
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    name: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "name", self.name or gin.current_scope_str().rpartition("/")[2])
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise ValueError(
                f"Row(name={self.name!r}): must be letters, digits, _ . + -; it names a folder. "
                "Without a name, a row takes its gin scope's: @adv/Row()."
            )
        put(self, "title", self.title or self.name)
        files = (self.recipe,) if isinstance(self.recipe, str) else tuple(self.recipe)
        put(self, "recipe", files)
        if isinstance(self.bindings, str):
            raise ValueError(f"the row {self.name} has bindings={self.bindings!r}: must be a list.")
        for seed in self.seeds:
            check_whole(f"Row {self.name}", "seeds", seed, 0)
        if self.inference not in ("", "imt", "imt+"):
            raise ValueError(
                f"the row {self.name} has inference={self.inference!r}: must be 'imt' or 'imt+'."
            )
        if bool(self.of) != bool(self.inference) or bool(self.of) == bool(files):
            raise ValueError(
                f"the row {self.name} must have either a recipe, or both of= (another row) and "
                "inference=."
            )

    @property
    def needs(self) -> list[str]:
        """The rows that must be trained before this one."""
        texts = [*self.bindings, *(text for own in self.on_budget.values() for text in own)]
        return [*([self.of] if self.of else []), *RUN.findall("\n".join(texts))]


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Study:
    """A table of a paper, or a question of ours: what is trained, attacked, and claimed.

    Args:
      rows: in the order of the table.
      attacks: by the name of their column, as `bin/evaluate --attacks` takes them; several in one
        are a worst case. `RUN[NAME]` is the folder of a row's run, the source of a `Transfer`.
        'adaptive full' and 'adaptive quick' are the attacks that know the defense, for rows with
        an inference.
      claims: with the rules by which they hold or do not, fixed before anything is run.
      budgets: by name, what is put on top of each row: gin files and bindings. 'paper' is there
        without being named and changes nothing.
      examples: test images of each evaluation; None: all; by budget where they differ.
      few_examples: by budget, of single columns, for attacks that take long; 0: the column is not
        in this budget.
      baseline: the row from which all others are subtracted; '': the first.
      title: of the table.
      source: the paper and its table.
      notes: what differs from the paper, and what its numbers are.
      name: of its folder, that of its file.

    Raises:
      ValueError: a row, column or budget that is not there, or a value outside its range.
    """

    rows: Sequence[Row] = ()
    attacks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    claims: Sequence[Claim] = ()
    budgets: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    examples: int | Mapping[str, int] | None = None
    few_examples: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    baseline: str = ""
    title: str = ""
    source: str = ""
    notes: str = ""
    name: str = "study"

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("Study.rows is empty: bind a list such as [@adv/Row(), @adr/Row()].")
        names = [row.name for row in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rows of the study are named {name!r}; names must differ.")
        object.__setattr__(self, "budgets", {PAPER: (), **self.budgets})
        object.__setattr__(self, "baseline", self.baseline or names[0])
        self.row(self.baseline)
        for budget, examples in self._by_budget().items():
            if examples is not None:
                check_whole("Study", "examples", examples, 1)
            self._check_budget(budget)
        for budget, few in self.few_examples.items():
            self._check_budget(budget)
            for column, examples in few.items():
                check_whole("Study", "few_examples", examples, 0)
                self._check_column(column, "few_examples")
        for row in self.rows:
            for budget in row.on_budget:
                self._check_budget(budget)
            for column in row.paper:
                self._check_column(column, f"the row {row.name}")
            for other in row.needs:
                self.row(other)
            if row.of and self.row(row.of).of:
                raise ValueError(f"the row {row.name} is of {row.of}, which is not trained itself.")
        for column, text in self.attacks.items():
            self._check_attack(column, text)
        for claim in self.claims:
            for other in claim.rows:
                self.row(other, f"the claim {claim.text!r}")
            for column in claim.columns:
                self._check_column(column, f"the claim {claim.text!r}")
        self.in_order()

    @property
    def columns(self) -> list[str]:
        """Natural accuracy, each attack, and the worst case where there are several."""
        return [NATURAL, *self.attacks, *([WORST] if len(self.attacks) > 1 else [])]

    def row(self, name: str, by: str = "") -> Row:
        """The row of this name.

        Raises:
          ValueError: there is none; says who named it, and the rows that there are.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        what = f"{by} names the row {name!r}" if by else f"there is no row {name!r}"
        raise ValueError(f"{what}, the study has {known}.")

    def budget(self, name: str) -> tuple[list[str], list[str]]:
        """The gin files and the bindings of a budget.

        Raises:
          ValueError: there is no such budget; names those that there are.
        """
        self._check_budget(name)
        parts = self.budgets[name]
        return ([p for p in parts if p.endswith(".gin")], [p for p in parts if "=" in p])

    def at(self, budget: str) -> Study:
        """The study without the columns that a budget leaves out, and what speaks of them."""
        left = {c for c, examples in self.few_examples.get(budget, {}).items() if examples == 0}
        if not left:
            return self
        rows = [
            dataclasses.replace(row, paper={c: v for c, v in row.paper.items() if c not in left})
            for row in self.rows
        ]
        few = {
            name: {c: v for c, v in own.items() if c not in left}
            for name, own in self.few_examples.items()
        }
        return dataclasses.replace(
            self,
            rows=rows,
            attacks={c: text for c, text in self.attacks.items() if c not in left},
            claims=[claim for claim in self.claims if not left & set(claim.columns)],
            few_examples=few,
        )

    def examples_of(self, column: str, budget: str) -> int | None:
        """Test images that a column's attacks see; None: all."""
        whole = self._by_budget().get(budget)
        few = self.few_examples.get(budget, {}).get(column)
        return min(filter(None, (whole, few)), default=None)

    def in_order(self, names: Sequence[str] | None = None) -> list[Row]:
        """Rows, and those that they need, each after what it needs.

        Raises:
          ValueError: rows that need one another, or an unknown name.
        """
        made: list[Row] = []

        def add(row: Row, above: tuple[str, ...]) -> None:
            if row.name in above:
                raise ValueError(f"the rows {', '.join(above)} need one another.")
            for other in row.needs:
                add(self.row(other), (*above, row.name))
            if row not in made:
                made.append(row)

        for row in [self.row(name) for name in names] if names else self.rows:
            add(row, ())
        return made

    def _by_budget(self) -> dict[str, int | None]:
        own: Any = self.examples
        return dict(own) if isinstance(own, Mapping) else dict.fromkeys(self.budgets, own)

    def _check_budget(self, name: str) -> None:
        if name not in self.budgets:
            raise ValueError(
                f"there is no budget {name!r}, the study has {', '.join(self.budgets)}."
            )

    def _check_column(self, name: str, by: str) -> None:
        if name not in self.columns:
            raise ValueError(
                f"{by} names the column {name!r}, the study has {', '.join(self.columns)}."
            )

    def _check_attack(self, column: str, text: str) -> None:
        """Raises ValueError for a column of ours, an unknown row, or a text that is no attack."""
        if column in (NATURAL, WORST):
            raise ValueError(f"Study.attacks names the column {column!r}, which is there anyway.")
        for other in RUN.findall(text):
            if self.row(other, f"the attack {column!r}").of:
                raise ValueError(f"the attack {column!r} names {other}, which has no run.")
        if not RUN.search(text) and not is_adaptive(text):
            try:
                parse_attacks(text)
            except ValueError as error:
                raise ValueError(f"the column {column!r}: {error}") from error


def is_adaptive(text: str) -> str:
    """'full' or 'quick' where a column is of the adaptive attacks of that effort, else ''."""
    found = _ADAPTIVE.fullmatch(text.strip())
    return found[1] if found else ""
