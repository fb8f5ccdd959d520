"""The documentation site: no warning, all that is public, no link that leads nowhere, notebooks."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import robust_tf
from tests.docs.pages import CLONE


def built(folder: Path) -> Path:
    """The site as `bin/docs` builds it, which executes the notebooks."""
    if importlib.util.find_spec("myst_nb") is None:
        pytest.skip("myst-nb is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-P", "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-c", "docs", "-d", str(folder / "doctrees"), ".", str(folder / "html")]
    done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # of a cell that failed: its notebook, code and error
    return folder / "html"


def public(package: str) -> set[str]:
    """The classes and functions of the library that a package offers."""
    module = importlib.import_module(f"robust_tf.{package}")
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    values = {name: getattr(module, name) for name in names}
    return {
        name
        for name, value in values.items()
        if inspect.isclass(value) or inspect.isfunction(value)
        if value.__module__.startswith("robust_tf.")
    }


def check_public(site: Path) -> None:
    """All that is public is documented."""
    entries = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    documented = {line.split()[0].rpartition(".")[2] for line in entries.splitlines()}
    packages = [name for name in robust_tf.__all__ if inspect.ismodule(getattr(robust_tf, name))]
    assert {path.stem for path in (CLONE / "docs/api").glob("*.md")} == {"index", *packages}
    for package in packages:
        assert public(package) <= documented, package


def check_links(site: Path) -> None:
    """No link leads nowhere."""
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    assert len(pages) > 60 and (site / "docs/index.html") in pages
    for path, text in pages.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text):
            target, anchor = map(unquote, urldefrag(link))
            if ":" in target.partition("/")[0]:
                continue  # of another site
            file = (path.parent / target).resolve() if target else path
            assert file.exists(), f"{path.relative_to(site)}: {link}"
            assert not anchor or anchor in ids.get(file, {anchor}), f"{path.name}: {link}"


def check_notebooks(site: Path) -> None:
    """Each notebook's page shows what its cells gave, a figure among it."""
    notebooks = sorted((CLONE / "notebooks").glob("*.md"))
    assert len(notebooks) >= 5
    for notebook in notebooks:
        page = (site / "notebooks" / f"{notebook.stem}.html").read_text()
        cells = notebook.read_text().count("```{code-cell}")
        assert page.count('class="cell docutils container"') == cells, notebook.name
        assert "../_images/" in page, f"{notebook.name}: no figure"
        assert "<p>|" not in page, f"{notebook.name}: a table is shown as text"


def test_site(tmp_path):
    """One test, so that the site is built and the notebooks are executed once."""
    site = built(tmp_path)
    check_public(site)
    check_links(site)
    check_notebooks(site)
