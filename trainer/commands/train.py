"""`tfmeta train`: meta-training into a run directory."""

import argparse
import dataclasses
import json
import os

HELP = "Meta-train a model on prepared data"

_EPILOG = """\
examples:
  tfmeta train --data prepared --out runs/first
  tfmeta train --config my.yaml --data prepared --out runs/second --set epochs=10
  tfmeta train --config my.yaml --data prepared --out runs/second --resume     after an interruption
  TF_CONFIG='{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}' \\
    tfmeta train --data prepared --out runs/third       on each host, with its own index
  tfmeta train --print-config                                                  all settings and their defaults

A configuration that names no learner gets ordinal_ridge for ratings on levels, ridge for other labels, and maml
where the model has no linear head; the run's config.yaml says which. '--set learner.name=NAME' takes another.
Several GPUs or workers share each meta-batch ('distribution', docs/scale.md): the same run up to rounding.
Without validation tasks in the data, training lasts exactly `epochs` epochs; otherwise the best epoch is kept.
Paths may be anything TensorFlow opens, such as gs://bucket/run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta train`."""
    parser.epilog = _EPILOG
    parser.add_argument("--config", metavar="FILE",
                        help="YAML file, or a packaged configuration (demo, quick); default: built-in defaults")
    parser.add_argument("--data", metavar="DIR", help="prepared directory, from 'tfmeta data prepare'")
    parser.add_argument("--out", metavar="RUN", help="run directory to create")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out where there is one")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="override one setting, such as optimizer.learning_rate=0.01; repeatable")
    parser.add_argument("--print-config", action="store_true", help="print the whole configuration and stop")


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the outcome."""
    from tfmeta import config as configs
    from tfmeta.errors import ConfigError
    from trainer.config import load_config

    config = load_config(args.config, overrides=args.overrides)
    if args.print_config:
        import yaml

        values = configs.to_dict(config)
        print(json.dumps(values) if args.json else yaml.safe_dump(values, sort_keys=False), end="")
        return 0
    for name in ("data", "out"):
        if getattr(args, name) is None:
            raise ConfigError(f"'tfmeta train' requires --{name}. See 'tfmeta train --help'.")
    from trainer.distribution.cluster import Cluster
    from trainer.loop import train

    result = train(config=config, data=args.data, run=args.out, resume=args.resume)
    if not Cluster.read(os.environ).is_chief:
        return 0
    if args.json:
        print(json.dumps(dataclasses.asdict(result)))
        return 0
    from trainer.run_directory import RunDirectory

    learner = RunDirectory.open(result.run).config.learner["name"]
    print(f"Run {result.run}: learner {learner}, {result.epochs} epochs, {result.steps} steps, {result.seconds:.0f} s"
          + (", stopped early" if result.stopped_early else ""))
    if result.metric is not None:
        print(f"  weights of epoch {result.best_epoch}: {result.metric} {result.best:.4f}")
    else:
        print(f"  weights of the last epoch: training loss {result.history[-1]['train_loss']:.4f}")
    print(f"  hash {result.hash}")
    print(f"Next: tfmeta evaluate --run {result.run}")
    return 0
