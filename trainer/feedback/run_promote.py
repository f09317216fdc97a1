"""`tfmeta promote`: canary, stable, and the way back."""

import argparse
import dataclasses
import json

HELP = "Give a version the label canary or stable in models.config, or take that back"

_EPILOG = """\
Edits the file that TensorFlow Serving and `tfmeta serve` poll (--model_config_file), atomically. The version must exist
and pass `tfmeta verify`. A version becomes stable after it has been the canary; the stable version before stays loaded
under the label 'previous', where --roll-back finds it.

Servers move a label only to a version that they have loaded. A version that the file does not list yet is therefore
listed first; promote again when it is AVAILABLE, or name the server and let the command wait for it.

examples:
  tfmeta promote --config models.config --model movies --version 4 --label canary
  tfmeta promote --config models.config --model movies --version 4 --label canary --server 127.0.0.1:8500
  tfmeta promote --config models.config --model movies --version 4 --label stable
  tfmeta promote --config models.config --model movies --roll-back
  tfmeta promote --config models.config --model movies --roll-back --label canary
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta promote`."""
    parser.epilog = _EPILOG
    parser.add_argument("--config", required=True, metavar="FILE", help="models.config, a ModelServerConfig as text")
    parser.add_argument("--model", required=True, metavar="NAME", help="name of the model in it")
    parser.add_argument("--version", type=int, metavar="N", help="version to promote, or to go back to")
    parser.add_argument("--label", choices=("canary", "stable"),
                        help="label to give; with --roll-back the one to take back (default stable)")
    parser.add_argument("--roll-back", action="store_true", help="give the label back to the version before")
    parser.add_argument("--model-base", metavar="DIR",
                        help="where the versions lie for this command, if not at the file's base_path")
    parser.add_argument("--server", metavar="HOST:PORT",
                        help="gRPC address of a server that polls the file: wait until it has loaded the version")
    parser.add_argument("--wait", type=float, default=300.0, metavar="S", help="with --server: longest wait (300 s)")
    parser.add_argument("--skip-canary", action="store_true", help="allow a version to become stable at once")


def run(args: argparse.Namespace) -> int:
    """Promotes or rolls back, and says what the labels are."""
    from tfmeta.errors import ConfigError
    from trainer.feedback.promotion import STABLE, promote, roll_back

    if args.roll_back:
        for option in ("server", "model_base"):
            if getattr(args, option) is not None:
                raise ConfigError(f"--{option.replace('_', '-')} goes with a promotion, not with --roll-back.")
        done = roll_back(args.config, model=args.model, label=args.label or STABLE, version=args.version)
    else:
        if args.version is None or args.label is None:
            raise ConfigError("'tfmeta promote' requires --version and --label, or --roll-back.")
        options = {"model": args.model, "version": args.version, "label": args.label, "model_base": args.model_base,
                   "skip_canary": args.skip_canary}
        done = promote(args.config, **options)
        if done.action == "listed" and args.server is not None:
            from trainer.feedback.promotion_wait import wait_until_available

            wait_until_available(args.server, model=args.model, version=args.version, seconds=args.wait)
            done = promote(args.config, **options, check=False)
    print(json.dumps(dataclasses.asdict(done)) if args.json else done.describe())
    return 0
