"""The `tfmeta` command: finds a command in the entry-point group `tfmeta.commands` and runs it.

A command is a module with `HELP` (one line), `add_arguments(parser)` and `run(args) -> int`, registered under
its name in that group, so other packages can add commands. Only the module of the chosen command is imported.

Exit codes: 0 fine, 2 the caller's mistake (one line on standard error), 130 interrupted, anything else a bug.
`TFMETA_DEBUG=1` shows the traceback behind a one-line message.
"""

import argparse
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from tfmeta import __version__
from tfmeta.errors import TfmetaError, suggest
from tfmeta.quiet import quiet_tensorflow

GROUP = "tfmeta.commands"

DESCRIPTION = """\
Meta-learned recommendation: meta-train a model over many users, then adapt it to a new user from a handful of
interactions, inside one serving request."""

EPILOG = """\
examples:
  tfmeta demo                      the whole way on synthetic data, a few minutes
  tfmeta data prepare --help       what the options of one step are
  tfmeta train --help

'tfmeta COMMAND --help' explains a command. TFMETA_DEBUG=1 shows the traceback behind an error."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose help keeps its line breaks and which takes no abbreviated options.

    An abbreviation that works today would change its meaning when an option is added.
    """

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)


def commands() -> dict[str, importlib.metadata.EntryPoint]:
    """Returns the registered commands by name; nothing is imported."""
    found = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    return dict(sorted(found.items()))


def build_parser(name: str, module) -> CommandParser:
    """Returns the parser of one command.

    `--json` is added to it, and to each of its sub-commands, unless the command defines it itself.

    Args:
      name: the command's name.
      module: its module, with `HELP` and `add_arguments`.
    """
    parser = CommandParser(prog=f"tfmeta {name}", description=module.HELP)
    module.add_arguments(parser)
    if "--json" not in parser._option_string_actions:
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    for child in _children(parser):
        if "--json" not in child._option_string_actions:
            # Suppressed: a default here would overwrite what was given before the sub-command.
            child.add_argument("--json", action="store_true", default=argparse.SUPPRESS,
                               help="print the result as one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; those of the process by default.

    Returns:
      The exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    quiet_tensorflow()
    try:
        return _dispatch(argv)
    except SystemExit as stop:  # argparse ends `--help` and bad usage this way.
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except TfmetaError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("\ntfmeta: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; keep the interpreter from complaining again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        return _fail(f"'{error.filename}': {error.strerror}.")


def _dispatch(argv: list[str]) -> int:
    if not argv:
        _print_help(sys.stderr)
        return 2
    name, rest = argv[0], argv[1:]
    if name in ("-h", "--help", "help"):
        if name == "help" and rest:
            return _dispatch([rest[0], "--help"])
        _print_help(sys.stdout)
        return 0
    if name == "--version":
        print(f"tfmeta {__version__}")
        return 0
    known = commands()
    if name not in known:
        kind = "option" if name.startswith("-") else "command"
        names = [*known, "--help", "--version"] if kind == "option" else known
        return _fail(f"Unknown {kind} '{name}'.{suggest(name, names)}")
    module = known[name].load()
    parser = build_parser(name, module)
    args, unknown = parser.parse_known_args(rest)
    if unknown:
        parser.error(_unknown_argument(parser, unknown[0]))
    return int(module.run(args) or 0)


def _print_help(file: TextIO) -> None:
    lines = ["usage: tfmeta [--help] [--version] COMMAND ...", "", DESCRIPTION, "", "commands:"]
    known = commands()
    width = max(map(len, known), default=0)
    for name, point in known.items():
        try:
            text = point.load().HELP
        except Exception as error:  # One broken command, perhaps of another package, must not hide the rest.
            text = f"(cannot be loaded: {error})"
        lines.append(f"  {name:<{width}}  {text}")
    if not known:
        lines.append("  none: the package is not installed; run 'pip install -e .' in the source directory")
    print("\n".join([*lines, "", EPILOG]), file=file)


def _children(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Returns the parsers of all sub-commands, at any depth."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                found += [child, *_children(child)]
    return found


def _unknown_argument(parser: argparse.ArgumentParser, word: str) -> str:
    if not word.startswith("-"):
        return f"unexpected argument '{word}'"
    known = {option for p in (parser, *_children(parser)) for option in p._option_string_actions}
    option = word.partition("=")[0]
    return f"unknown option '{option}'.{suggest(option, known)}"


def _fail(message: str) -> int:
    if os.environ.get("TFMETA_DEBUG", "0") not in ("", "0"):
        traceback.print_exc()
    print(f"tfmeta: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
