"""The dispatcher: exit codes, messages, help."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
import time
import types

import pytest

from tfmeta import __version__, cli
from tfmeta.errors import DataError


def command(run, add_arguments=lambda parser: None):
    return types.SimpleNamespace(HELP="Does a thing.", add_arguments=add_arguments, run=run)


@pytest.fixture
def register(monkeypatch):
    """Makes the given modules the only commands."""

    def register(**modules):
        points = {name: types.SimpleNamespace(name=name, load=lambda m=m: m) for name, m in modules.items()}
        monkeypatch.setattr(cli, "commands", lambda: points)

    return register


def fail(error):
    def run(args):
        raise error

    return command(run)


def test_runs_the_command_and_returns_its_code(register, capsys):
    def add_arguments(parser):
        parser.add_argument("--count", type=int)

    seen = []
    register(thing=command(lambda args: seen.append((args.count, args.json)) or 7, add_arguments))
    assert cli.main(["thing", "--count", "3", "--json"]) == 7
    assert cli.main(["thing"]) == 7
    assert seen == [(3, True), (None, False)]


def test_none_means_success(register):
    register(thing=command(lambda args: None))
    assert cli.main(["thing"]) == 0


def test_user_error_is_one_line_and_code_2(register, capsys, monkeypatch):
    monkeypatch.delenv("TFMETA_DEBUG", raising=False)
    register(thing=fail(DataError("File 'x.csv' does not exist.\n  Check the path.")))
    assert cli.main(["thing"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "tfmeta: error: File 'x.csv' does not exist. Check the path.\n"
    assert captured.out == ""


def test_debug_shows_the_traceback(register, capsys, monkeypatch):
    monkeypatch.setenv("TFMETA_DEBUG", "1")
    register(thing=fail(DataError("bad")))
    assert cli.main(["thing"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.endswith("tfmeta: error: bad\n")


def test_unwritable_place_is_the_users_to_mend(register, capsys):
    register(thing=fail(PermissionError(13, "Permission denied", "/nowhere/x")))
    assert cli.main(["thing"]) == 2
    assert capsys.readouterr().err == "tfmeta: error: '/nowhere/x': Permission denied.\n"


def test_a_bug_is_not_hidden(register):
    register(thing=fail(ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["thing"])


def test_interrupt_is_130(register):
    register(thing=fail(KeyboardInterrupt()))
    assert cli.main(["thing"]) == 130


def test_unknown_command_suggests_the_nearest(capsys):
    assert cli.main(["evalaute"]) == 2
    assert "Did you mean 'evaluate'?" in capsys.readouterr().err


def test_unknown_option_suggests_the_nearest(register, capsys):
    def add_arguments(parser):
        children = parser.add_subparsers(dest="action", required=True)
        children.add_parser("make").add_argument("--epochs", type=int)

    register(thing=command(lambda args: 0, add_arguments))
    assert cli.main(["thing", "make", "--epoch", "3"]) == 2
    assert "unknown option '--epoch'. Did you mean '--epochs'?" in capsys.readouterr().err
    assert cli.main(["thing"]) == 2


@pytest.mark.parametrize("argv", [["thing", "--json", "make"], ["thing", "make", "--json"]])
def test_json_is_taken_before_and_after_a_subcommand(register, argv):
    def add_arguments(parser):
        parser.add_subparsers(dest="action", required=True).add_parser("make")

    seen = []
    register(thing=command(lambda args: seen.append(args.json), add_arguments))
    assert cli.main(argv) == 0
    assert cli.main(["thing", "make"]) == 0
    assert seen == [True, False]


def test_version_and_no_command(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfmeta {__version__}\n"
    assert importlib.metadata.version("tfmeta") == __version__
    assert cli.main([]) == 2
    assert "usage: tfmeta" in capsys.readouterr().err


def test_help_survives_a_broken_command(register, monkeypatch, capsys):
    def load():
        raise ImportError("no module named x")

    points = {"good": types.SimpleNamespace(load=lambda: command(None)), "broken": types.SimpleNamespace(load=load)}
    monkeypatch.setattr(cli, "commands", lambda: points)
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "good    Does a thing." in out and "broken  (cannot be loaded: no module named x)" in out


@pytest.mark.serial
def test_help_lists_every_command_and_is_quick():
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "tfmeta", "--help"], capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - start)
    for name in cli.commands():
        assert f"\n  {name} " in done.stdout
    assert "cannot be loaded" not in done.stdout
    assert best < 2.0  # Under half a second on an idle machine; importing TensorFlow would take several.


@pytest.mark.parametrize("name", sorted(cli.commands()))
def test_every_command_has_help_with_an_example(name, capsys):
    module = cli.commands()[name].load()
    assert module.HELP and "\n" not in module.HELP
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"tfmeta {name}" in out.split("options:")[-1], "an epilog with an example is required"
    assert "--json" in out


def example_lines(text: str) -> list[list[str]]:
    """Command lines of an indented or fenced example; what follows two spaces is a remark, and a backslash goes on."""
    lines = [re.split(r"\s{2,}|\s>|\s#", line.strip())[0] for line in re.sub(r"\\\n\s*", "", text).splitlines()
             if re.match(r"\s*(\.venv/bin/)?tfmeta [a-z]", line)]
    return [shlex.split(line)[1:] for line in lines]


def parses(argv: list[str]) -> bool:
    parser = cli.build_parser(argv[0], cli.commands()[argv[0]].load())
    return parser.parse_args(argv[1:]) is not None


@pytest.mark.parametrize("name", sorted(cli.commands()))
def test_examples_in_the_help_parse(name, capsys):
    parser = cli.build_parser(name, cli.commands()[name].load())
    epilogs = [parser.epilog, *(child.epilog for child in cli._children(parser))]
    examples = [argv for text in epilogs if text and "examples" in text for argv in example_lines(text)]
    assert examples
    assert all(parses(argv) for argv in examples)


def test_examples_in_the_readme_parse(repository):
    blocks = re.findall(r"```console\n(.*?)```", (repository / "README.md").read_text("utf-8"), re.S)
    examples = example_lines("\n".join(blocks))
    assert {argv[0] for argv in examples} >= {"data", "train", "evaluate", "export", "serve"}
    assert all(parses(argv) for argv in examples)


def test_schema_in_the_readme_is_one(repository):
    import yaml

    from tfmeta import config
    from tfmeta.data.schema import Schema

    text = re.search(r"```yaml\n(.*?)```", (repository / "README.md").read_text("utf-8"), re.S)[1]
    schema = config.parse(Schema, yaml.safe_load(text))
    assert schema.item_id == "product" and len(schema.item_features) == 3
