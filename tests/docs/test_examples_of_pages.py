"""Every example of README.md, CONTRIBUTING.md and docs/ runs as it stands, on a small scale.

A page's blocks run in their order in a folder that begins with a link `gin` to the recipes and a
few pictures. A block that begins with `# NAME.py` or `# NAME.gin` is that file. A block after
`<!-- not run: REASON -->`, and a command that `commands.why_only_checked` tells of, is checked: its
options, and the recipes, modules, attacks and files of the clone that it names.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import keras
import pytest

from robust_tf import modules, recipes
from robust_tf.figures import kinds
from tests.docs import commands, small
from tests.docs.blocks import Block, Command, blocks
from tests.docs.pages import CLONE

# Pages of single attacks and methods have a test of their own.
OWN = ("attacks", "methods")
FILES = [CLONE / "README.md", CLONE / "CONTRIBUTING.md", *sorted((CLONE / "docs").rglob("*.md"))]
PAGES = {
    str(path.relative_to(CLONE)): path
    for path in FILES
    if path.parent.name not in OWN and {one.language for one in blocks(path)} & {"python", "sh"}
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The current folder of a page's examples."""
    (tmp_path / "gin").symlink_to(CLONE / "gin")
    small.write_photos(tmp_path)
    small.put(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@contextlib.contextmanager
def strange_modules(names: set[str]) -> Iterator[None]:
    """Modules of these names are unknown before, and forgotten after, to gin and Keras as well."""
    loaded = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    known, custom = dict(sys.modules), dict(keras.saving.get_custom_objects())
    registry = gin.selector_map.SelectorMap()
    for selector, entry in gin.config._REGISTRY.items():
        if selector.partition(".")[0] not in names:
            registry[selector] = entry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gin.config, "_REGISTRY", registry)
        patch.setattr(gin.config, "_INVERSE_REGISTRY", dict(gin.config._INVERSE_REGISTRY))
        patch.setattr(kinds, "REGISTERED", dict(kinds.REGISTERED))
        try:
            yield
        finally:
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(loaded)
            assert set(names) & set(sys.modules) <= set(loaded) | set(known)
            keras.saving.get_custom_objects().clear()
            keras.saving.get_custom_objects().update(custom)


class Page:
    """Runs the blocks of a page, one after the other.

    Attributes:
      checked: commands that were not run, and why.
    """

    def __init__(self, name: str, own: list[Block]):
        self.name, self.blocks = name, own
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.checked: dict[str, str] = {}

    def run(self, capsys: pytest.CaptureFixture[str]) -> None:
        for number, block in enumerate(self.blocks, 1):
            where = f"{self.name}, line {block.line}, block {number} ({block.language})"
            try:
                getattr(self, f"_{block.language}")(block, where)
            except (Exception, SystemExit) as error:
                said = "\n".join(capsys.readouterr().err.splitlines()[-5:])
                pytest.fail(f"{where}: {type(error).__name__}: {error}\n{said}", pytrace=False)

    def _python(self, block: Block, where: str) -> None:
        code = compile("\n" * (block.line - 1) + block.text, self.name, "exec")
        if block.not_run:
            self.checked[where] = block.not_run
        elif block.file:
            Path(block.file).write_text(block.text)
            modules.load(block.file.removesuffix(".py"))
        else:
            exec(code, self.names)

    def _gin(self, block: Block, where: str) -> None:
        path = Path(block.file or "unnamed.gin")
        path.write_text(block.text)
        if "Study." not in block.text:
            recipes.parse([str(path)])

    def _sh(self, block: Block, where: str) -> None:
        for command in block.commands():
            try:
                self._command(command, block)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"line {command.line}: {command}: {error}") from error

    def _command(self, command: Command, block: Block) -> None:
        why = block.not_run
        if not why and not command.words[0].startswith("bin/"):
            raise AssertionError("say why it is not run, by <!-- not run: REASON --> above")
        for words in command.programs():
            if not why:
                for training in commands.made_first(words):
                    assert commands.run(training) == 0, training
                why = commands.why_only_checked(words)
            if not why:
                status = commands.run(words, dry=self._is_dry(words, block))
                assert status == 0, f"exit status {status}"
                return
            commands.check(words)
        commands.check_others(command.words)
        self.checked[str(command)] = why

    def _is_dry(self, words: list[str], block: Block) -> bool:
        """Whether this is a training of which no other example makes use."""
        if words[0] != "bin/train":
            return False
        options = commands.parsed(words)
        name = Path((options.gin_file or ["adr_digits.gin"])[0]).stem
        run_dir = options.run_dir or f"runs/{name}"
        others = [one.text for one in self.blocks if one.language in ("python", "sh")]
        uses = sum(text.count(run_dir) for text in others)
        return not options.dry_run and uses <= (1 if options.run_dir else 0)


@pytest.mark.parametrize("name", PAGES)
def test_examples_run(name, place, capsys):
    own = [one for one in blocks(PAGES[name]) if one.language in ("python", "sh", "gin")]
    files = {one.file.removesuffix(".py") for one in own if one.file.endswith(".py")}
    page = Page(name, own)
    with strange_modules(files), warnings.catch_warnings():
        page.run(capsys)
    for what, why in page.checked.items():
        print(f"only checked, {why}: {what}")
