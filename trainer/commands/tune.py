"""`tfmeta tune`: the settings of a training configuration, chosen on the validation tasks."""

import argparse
import json
import sys

HELP = "Choose a training configuration's settings on the validation tasks"

_EPILOG = """\
examples:
  tfmeta tune --data prepared --out tuning
  tfmeta tune --data prepared --out tuning --config my.yaml --space space.yaml --budget 30 --time-limit 120
  tfmeta tune --data prepared --out tuning --users 1000                 fit trials on some of the training users
  tfmeta train --config tuning/best.yaml --data prepared --out run
  tfmeta tune --space space.yaml --print-vertex-study                   the same space for Vertex AI, as JSON

The space is a YAML mapping from dotted settings to a list of choices, or to {low, high} with log: true and integer:
true; without one the learning rate, the dropout of item ids and the embeddings' width are searched. The first trial has
the configuration as it is, where that lies in the space, the others come from optuna's TPE. Every finished trial is a
file in OUT/trials, so a search that was cut off goes on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta tune`."""
    parser.epilog = _EPILOG
    parser.add_argument("--data", metavar="DIR", help="prepared directory with validation tasks")
    parser.add_argument("--out", metavar="DIR", help="directory of the trials and of best.yaml")
    parser.add_argument("--config", metavar="FILE", help="YAML file, or a packaged configuration (demo, quick)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="override one setting of it; repeatable")
    parser.add_argument("--space", metavar="FILE", help="YAML file with what is searched")
    parser.add_argument("--metric", choices=("mae", "auc", "ndcg@20", "recall@20"),
                        help="default mae for ratings, ndcg@20 over the whole catalogue where there are positives "
                             "only, else auc")
    parser.add_argument("--budget", type=int, default=16, metavar="N", help="trials (default: %(default)s)")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="MIN",
                        help="minutes after which no further trial begins (default: %(default)s)")
    parser.add_argument("--users", type=int, metavar="N", help="training users of a trial; default all")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of draws and fits (default: 0)")
    parser.add_argument("--print-vertex-study", action="store_true",
                        help="print the space as Vertex AI's StudySpec and stop; --data is needed for the default "
                             "metric alone, which is mae without it")


def run(args: argparse.Namespace) -> int:
    """Does the trials that are missing, and writes the best configuration."""
    from tfmeta import config as configs
    from tfmeta.config import require
    from tfmeta.errors import ConfigError
    from trainer.config import load_config
    from trainer.tuning_space import tuning_space, vertex_study

    for name in ("budget", "time_limit", "users"):
        value = getattr(args, name)
        require(value is None or value > 0, f"--{name.replace('_', '-')}", "a positive number", value)
    require(0 <= args.seed < 2**31, "--seed", "a whole number from 0 to 2147483647", args.seed)
    base = load_config(args.config, overrides=args.overrides)
    search = configs.load_yaml(args.space) if args.space else None
    if args.print_vertex_study:
        metric = args.metric or ("mae" if args.data is None else _default_metric(args.data))
        print(json.dumps(vertex_study(tuning_space(base, search=search), metric=f"val_{metric}"),
                         indent=None if args.json else 2))
        return 0
    for name in ("data", "out"):
        if getattr(args, name) is None:
            raise ConfigError(f"'tfmeta tune' requires --{name}. See 'tfmeta tune --help'.")
    from trainer.benchmarking.tuner import require_optuna
    from trainer.tune import tune

    require_optuna()
    outcome = tune(base, data=args.data, out=args.out, search=search, metric=args.metric, budget=args.budget,
                   time_limit=60.0 * args.time_limit, users=args.users, seed=args.seed,
                   progress=lambda text: None if args.json else print(text, file=sys.stderr, flush=True))
    if args.json:
        print(json.dumps(outcome))
        return 0
    for trial in outcome["trials"]:
        value = "failed" if trial["value"] is None else f"{trial['criterion']} {trial['value']:.4f}"
        print(f"{trial['number']:>3}  {value}  {trial['seconds']:.0f} s  {trial['params']}")
    print(f"Best: {outcome['criterion']} {outcome['value']:.4f} in trial {outcome['number']}: {outcome['config']}")
    return 0


def _default_metric(data: str) -> str:
    from tfmeta.data.prepared_data import PreparedData
    from trainer.evaluation.positives_only import default_metric

    prepared = PreparedData(data)
    return default_metric(prepared.tasks("validation"), prepared.feature_spec.label)
