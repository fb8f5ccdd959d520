"""What a hosting service, an editor and a citation tool read: files that nothing here imports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from robust_tf.version import __version__

CLONE = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
YAML = [
    path.relative_to(CLONE).as_posix()
    for pattern in (".github/**/*.yml", ".*.yaml", "*.cff")
    for path in sorted(CLONE.glob(pattern))
]
# Markdown pages that a newcomer is sent to; links in them must lead somewhere.
PAGES = "CONTRIBUTING CODE_OF_CONDUCT SECURITY CHANGELOG docs/migration results/README".split()


def read(name):
    return yaml.safe_load((CLONE / name).read_text())


@pytest.mark.parametrize("name", YAML)
def test_yaml_parses(name):
    assert isinstance(read(name), dict)


def test_all_are_there():
    names = {".github/workflows/ci.yml", ".pre-commit-config.yaml", "CITATION.cff"}
    assert names <= set(YAML) and len(YAML) >= 6
    assert (CLONE / ".editorconfig").is_file() and (CLONE / "LICENSE").is_file()


def test_the_workflow_tests_every_python_and_both_stacks():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert jobs["default"]["strategy"]["matrix"]["python"] == versions
    runs = {
        name: "\n".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()
    }
    assert "bin/test --lint" in runs["lint"] and "bin/test --stack=addons" in runs["addons"]
    assert "pytest" in runs["default"] and "twine check --strict" in runs["build"]
    assert all("timeout-minutes" in job for job in jobs.values())
    assert all("uses" in step or "run" in step for job in jobs.values() for step in job["steps"])
    systems = jobs["wheel"]["strategy"]["matrix"]["os"]
    assert {name.partition("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}
    for command in re.findall(r"^robust-tf-\w+", runs["wheel"], re.M):
        assert command in PROJECT["scripts"]
    for recipe in re.findall(r"gin_file=(\S+)", runs["wheel"]):
        assert (CLONE / recipe).is_file()


def test_pre_commit_checks_what_the_lint_does():
    tools = re.findall(r'"([^"]+)"', re.search(r"for tool in (.*);", bin_test())[1])
    tools += re.findall(r"\b(mypy)\b", bin_test().partition("for tool in")[2].splitlines()[0])
    [local] = read(".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"] for hook in local["hooks"]]
    assert len(tools) == len(entries) == 3
    for tool, entry in zip(tools, entries, strict=True):
        assert entry.startswith(f".venv/bin/python -P -m {tool}")


def bin_test():
    return (CLONE / "bin/test").read_text()


def test_the_version_is_the_same_everywhere():
    assert read("CITATION.cff")["version"] == __version__
    first = re.search(r"^## (\S+)", (CLONE / "CHANGELOG.md").read_text(), re.M)
    assert first[1] == __version__
    assert f"to {__version__.rpartition('.')[0]}\n" in (CLONE / "docs/migration.md").read_text()


def test_templates_ask_for_something():
    for name in ("bug", "idea"):
        form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
        assert form["name"] and form["description"] and form["body"]
        names = [part["id"] for part in form["body"]]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", PAGES)
def test_links_of_pages_lead_somewhere(name):
    page = CLONE / f"{name}.md"
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_result_file_is_described():
    said = (CLONE / "results/README.md").read_text()
    for path in (CLONE / "results").glob("*.json"):
        assert f"| `{path.name}` |" in said
        assert f"--output=results/{path.name}" in said
        assert "/tmp/" not in path.read_text() and "/home/" not in path.read_text()
