"""The repository itself: no research data, every module documented, every entry point importable."""

import ast
import importlib
import re
import subprocess

import pytest

from tfmeta import cli

PACKAGES = ("tfmeta", "trainer", "export")


@pytest.fixture(scope="module")
def tracked(repository):
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (repository / name).exists()]


def test_no_research_data_and_nothing_large(tracked, repository):
    data = re.compile(r"(ratings|users|movies)\.(dat|csv|parquet)$|u\.data$|\.inter$|\.kg$|(^|/)ml-(1m|100k)/", re.I)
    assert [name for name in tracked if data.search(name)] == []
    assert [name for name in tracked if (repository / name).stat().st_size > 1 << 20] == []


def test_every_module_has_a_docstring(repository):
    bare = []
    for package in PACKAGES:
        for path in sorted((repository / package).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            if tree.body and path.name != "__main__.py" and not ast.get_docstring(tree):
                bare.append(str(path.relative_to(repository)))
    assert bare == []


def test_entry_points_are_commands():
    assert cli.commands()
    for name, point in cli.commands().items():
        module = importlib.import_module(point.value)
        assert isinstance(module.HELP, str) and callable(module.add_arguments) and callable(module.run), name


def test_no_machine_paths_or_package_registries(tracked, repository):
    words = re.compile("/" + r"(work|home|root)/\w|py" + r"pi\.org|files\.python" + "hosted", re.I)
    found = []
    for name in tracked:
        try:
            text = (repository / name).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match.group()}" for match in words.finditer(text)]
    assert found == []


def test_makefile_offers_what_the_readme_says(repository):
    targets = set(re.findall(r"^([a-z0-9-]+):", (repository / "Makefile").read_text("utf-8"), re.M))
    used = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", (repository / "README.md").read_text("utf-8"), re.M))
    assert {"demo", "test"} <= used
    assert used <= targets
    assert (repository / ".ci" / "run").stat().st_mode & 0o111
