"""The documentation site: no warning, all that is public, no link that leads nowhere."""

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


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `bin/docs` builds it."""
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-P", "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-c", "docs", "-d", str(folder / "doctrees"), ".", str(folder / "html")]
    done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
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


def test_all_that_is_public_is_documented(site):
    entries = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    documented = {line.split()[0].rpartition(".")[2] for line in entries.splitlines()}
    packages = [name for name in robust_tf.__all__ if inspect.ismodule(getattr(robust_tf, name))]
    assert {path.stem for path in (CLONE / "docs/api").glob("*.md")} == {"index", *packages}
    for package in packages:
        assert public(package) <= documented, package


def test_no_link_leads_nowhere(site):
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
