"""`tfmeta demo`: the whole way on synthetic data."""

import argparse

HELP = "Train, evaluate, export and serve on synthetic data, in a few minutes"

_EPILOG = """\
examples:
  tfmeta demo
  tfmeta demo --out runs/mine --seed 1
  tfmeta demo --quick                a smaller one, under a minute
  tfmeta demo --json > demo.json

What an earlier demo left in --out is replaced. Everything it shows is synthetic data, drawn by the library's own
generator, which also knows how well anybody could do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta demo`."""
    parser.epilog = _EPILOG
    parser.add_argument("--out", metavar="DIR", default="runs/demo",
                        help="directory for data, run, report and model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of data and training (default: 0)")
    parser.add_argument("--quick", action="store_true", help="fewer users, epochs and baselines")


def run(args: argparse.Namespace) -> int:
    """Runs the demo."""
    import functools
    import json

    from tfmeta.config import require

    require(0 <= args.seed < 2**31, "--seed", "a whole number from 0 to 2147483647", args.seed)
    from trainer.demo import FULL, QUICK, run_demo

    say = (lambda text: None) if args.json else functools.partial(print, flush=True)
    outcome = run_demo(out=args.out, seed=args.seed, size=QUICK if args.quick else FULL, say=say)
    if args.json:
        print(json.dumps(outcome))
    return 0
