"""`tfmeta verify`: checks an exported SavedModel in a second process."""

import argparse
import dataclasses
import json
import sys

HELP = "Check an exported SavedModel in a process that cannot import tfmeta"

_EPILOG = """\
Loads the model with the TensorFlow-2 loader and under a TensorFlow-1 session, as TensorFlow Serving does, replays
the golden requests recorded at export, also from 8 threads, and checks shapes and operations. Exit code 1 if a
check fails.

examples:
  tfmeta verify models/movies/1
  tfmeta verify models/movies/1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("model", metavar="MODEL_BASE/N", help="a version directory or a flat export")


def run(args: argparse.Namespace) -> int:
    from export.verify import format_table, verify

    checks = verify(args.model)
    failed = [c for c in checks if not c.passed]
    if getattr(args, "json", False):
        print(json.dumps({"path": args.model, "passed": not failed,
                          "checks": [dataclasses.asdict(c) for c in checks]}))
    else:
        print(format_table(checks))
    if failed:
        print(f"tfmeta: '{args.model}' failed the check '{failed[0].name}': {failed[0].detail}", file=sys.stderr)
    return 1 if failed else 0
