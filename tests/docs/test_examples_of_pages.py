"""Every example of README.md, CONTRIBUTING.md and docs/ runs as it stands, on a small scale.

A page's blocks run in their order in a folder that begins with a link `gin` to the recipes and a
few pictures. A block that begins with `# NAME.py` or `# NAME.gin` is that file. A block after
`<!-- not run: REASON -->`, and a command that `commands.why_only_checked` tells of, is checked: its
options, and the recipes, modules, attacks and files of the clone that it names. What was checked
alone, and why, is printed (`pytest -rP`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robust_tf import modules, recipes
from tests.docs import commands, example_folder, small
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


class Page:
    """Runs the blocks of a page, one after the other.

    Attributes:
      checked: commands that were not run, and why.
    """

    def __init__(self, name: str, path: Path):
        self.name = name
        self.blocks = [one for one in blocks(path) if one.language in self._kinds()]
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.checked: dict[str, str] = {}

    def _kinds(self) -> dict[str, Any]:
        return {"python": self._python, "gin": self._gin, "sh": self._sh}

    def modules(self) -> set[str]:
        """The names of the modules that blocks of the page are."""
        files = {block.file for block in self.blocks}
        return {file.removesuffix(".py") for file in files if file.endswith(".py")}

    def run(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Fails with page, line and block, and the last lines that a command wrote."""
        for number, block in enumerate(self.blocks, 1):
            where = f"{self.name}, line {block.line}, block {number} ({block.language})"
            try:
                self._kinds()[block.language](block, where)
            except (Exception, SystemExit) as error:
                said = "\n".join(capsys.readouterr().err.splitlines()[-5:])
                pytest.fail(f"{where}: {type(error).__name__}: {error}\n{said}", pytrace=False)

    def _python(self, block: Block, where: str) -> None:
        text = "\n" * (block.line - 1) + small.narrow(block.text)
        code = compile(text, self.name, "exec")
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
                words = [small.narrow(word) for word in words]
                commands.provide(words)
                why = commands.why_only_checked(words)
            if why:
                commands.check(words)
            else:
                status = commands.run(words, dry=self._is_dry(words))
                assert status == 0, f"exit status {status}"
        if why:
            commands.check_others(command.words)
            self.checked[str(command)] = why

    def _is_dry(self, words: list[str]) -> bool:
        """Whether this is a training of which no other example makes use."""
        if words[0] != "bin/train":
            return False
        options = commands.parsed(words)
        recipe = Path((options.gin_file or ["adr_digits.gin"])[0]).stem
        run_dir = options.run_dir or f"runs/{recipe}"
        uses = sum(block.text.count(run_dir) for block in self.blocks)
        return not options.dry_run and uses <= (1 if options.run_dir else 0)


@pytest.mark.parametrize("name", PAGES)
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    page = Page(name, PAGES[name])
    example_folder.prepare(tmp_path, monkeypatch)
    with example_folder.own_modules(page.modules()):
        page.run(capsys)
    for what, why in page.checked.items():
        print(f"only checked, {why}: {what}")


LOOP = """Text.

<!-- not run: hours -->
```sh
for cut in 2conv 3conv; do
    bin/train --gin_file=gin/adr_mnist.gin --gin_param="CNN.cut='$cut'" \\
        --run_dir=runs/$cut   # a comment
done
bin/train --wrong
```
"""


def test_commands_are_taken_apart_and_a_failure_says_where(tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_text(LOOP)
    page = Page("page.md", path)
    (block,) = page.blocks
    first, second, last = block.commands()
    assert first.words[2:] == ["--gin_param=CNN.cut='2conv'", "--run_dir=runs/2conv"]
    assert second.words[3:] == ["--run_dir=runs/3conv"] and (second.line, last.line) == (6, 9)
    with pytest.raises(pytest.fail.Exception, match="page.md, line 5, block 1 .sh.: .* --wrong"):
        page.run(capsys)
    assert [why for why in page.checked.values()] == ["hours", "hours"]
