"""A study at one budget in its folder: recipes, run folders and commands of its rows."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import shlex
from collections.abc import Sequence

import tensorflow as tf

from robust_tf import files, recipes
from robust_tf.recipes import LoadedRecipe
from robust_tf.studies.study import PAPER, RUN, Row, Study

FOLDER = "runs/studies"


def names() -> list[str]:
    """The studies of the package, without `.gin`."""
    entries = sorted(tf.io.gfile.listdir(os.path.join(recipes.recipes_folder(), "studies")))
    return [name.removesuffix(".gin") for name in entries if name.endswith(".gin")]


def load(name: str, params: Sequence[str] = ()) -> Study:
    """Reads a study.

    Args:
      name: of a study of the library (`names()`), or the path of a gin file.
      params: bindings over it, such as `Study.examples=100`.

    Raises:
      ConfigurationError, ValueError: what is wrong, where, and the nearest right name.
    """
    path = _find(name)
    bindings = recipes.parse([path], params)
    if not re.search(r"^Study\.", bindings.text(), re.M):
        raise recipes.ConfigurationError(
            f"{path} is no study: it binds nothing of Study; a study has "
            "Study.rows = [@adv/Row(), ...] and Study.attacks = {...}."
        )
    with bindings.in_force(), recipes.readable():
        study = Study()
    return dataclasses.replace(study, name=os.path.splitext(os.path.basename(path))[0])


def _find(name: str) -> str:
    """The path of a study's file."""
    short = name.removeprefix("gin/").removeprefix("studies/").removesuffix(".gin")
    if not files.exists(name) and short not in names():
        near = difflib.get_close_matches(short, names(), 1)
        hint = (
            f"did you mean gin/studies/{near[0]}.gin?" if near else f"known: {', '.join(names())}."
        )
        raise recipes.ConfigurationError(f"there is no study {name}; {hint}")
    return name if files.exists(name) else recipes.find(f"gin/studies/{short}.gin")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study at one budget.

    Attributes:
      study: what is asked, of it what the budget has.
      budget: name of the budget.
      study_dir: folder of all studies.
      data_dir: of prepared tfds datasets; None: TFDS_DATA_DIR.
      imports: modules of the user's that the recipes need and do not import.

    Raises:
      ValueError: the study has no such budget.
    """

    study: Study
    budget: str = PAPER
    study_dir: str = FOLDER
    data_dir: str | None = None
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.study.budget(self.budget)
        object.__setattr__(self, "study", self.study.at(self.budget))

    @property
    def folder(self) -> str:
        """STUDY_DIR/NAME/BUDGET."""
        return os.path.join(self.study_dir, self.study.name, self.budget)

    def run_dir(self, row: Row, seed: int) -> str:
        """The folder of a row's run: that of another row, where it shows that one's."""
        return os.path.join(self.folder, row.of or row.name, f"seed-{seed}")

    def runs_of(self, text: str, seed: int) -> str:
        """`text` with the folders of runs in place of `RUN[NAME]`."""
        return RUN.sub(lambda found: self.run_dir(self.study.row(found[1]), seed), text)

    def seeds(self, row: Row, seeds: Sequence[int]) -> list[int]:
        """Those of `seeds` that a row is run with."""
        only = row.seeds or (self.study.row(row.of).seeds if row.of else ())
        return [seed for seed in seeds if not only or seed in only]

    def seeds_there(self) -> list[int]:
        """All seeds of which the folder holds a run of some row."""
        found = tf.io.gfile.glob(os.path.join(self.folder, "*", "seed-*"))
        names = [os.path.basename(path.rstrip("/")).removeprefix("seed-") for path in found]
        return sorted({int(name) for name in names if name.isdecimal()})

    def gin_files(self, row: Row) -> list[str]:
        """The gin files of a row, the budget's last."""
        return [*row.recipe, *self.study.budget(self.budget)[0]]

    def params(self, row: Row, seed: int) -> list[str]:
        """The bindings of a row, without that of the seed."""
        own = [*row.bindings, *self.study.budget(self.budget)[1]]
        own += row.on_budget.get(self.budget, ())
        return [self.runs_of(text, seed) for text in own]

    def recipe(self, row: Row, seed: int) -> LoadedRecipe:
        """What `bin/train` with the same files and parameters would train, to the letter.

        `train.seed` is bound, unless a run is there already whose recipe has this seed by default.

        Raises:
          ConfigurationError, ValueError: what is wrong with the recipe; names the row.
        """
        row = self.study.row(row.of) if row.of else row
        gin_files, params = self.gin_files(row), self.params(row, seed)
        try:
            plain = recipes.load(gin_files, params, self.imports)
            if plain.settings.seed == seed and self.identity(row, seed)[1] == plain.text:
                return plain
            return recipes.load(gin_files, [*params, f"train.seed={seed}"], self.imports)
        except ValueError as error:
            raise type(error)(f"row {row.name}: {error}") from error

    def command(self, row: Row, seed: int) -> str:
        """The call of `bin/train` that makes the same run."""
        row = self.study.row(row.of) if row.of else row
        parts = [f"--gin_file={_shown(path)}" for path in self.gin_files(row)]
        parts += [f"--gin_param={one}" for one in self.params(row, seed)]
        parts += [f"--import={name}" for name in self.imports]
        parts += [f"--gin_param=train.seed={seed}", f"--run_dir={self.run_dir(row, seed)}"]
        return shlex.join(["bin/train", *parts])

    def shown(self) -> Plan:
        """The plan for readers elsewhere: a folder outside the current one is not named."""
        if "://" in self.study_dir:
            return self
        inside = os.path.relpath(os.path.abspath(self.study_dir))
        return dataclasses.replace(self, study_dir=FOLDER if inside.startswith("..") else inside)

    def identity(self, row: Row, seed: int) -> tuple[str, str]:
        """Of the run that is there: the line that tells its data, and its configuration."""
        path = os.path.join(self.run_dir(row, seed), "identity.json")
        content = files.read_json(path) if files.exists(path) else None
        text = content.get("identity") if isinstance(content, dict) else ""
        line, _, configuration = str(text).partition("\n")
        return line, configuration


def _shown(path: str) -> str:
    """A recipe by its short name where it is the package's."""
    folder = recipes.recipes_folder() + os.sep
    return f"gin/{path.removeprefix(folder)}" if path.startswith(folder) else path
