"""Chooses the meta-learner's hyper-parameters on MovieLens-1M's validation users and items.

    python -m benchmarks.ml1m_tune --source DIR [--tasks FILE] [--validation FILE] [--trials 12]

As many trials as every baseline gets settings. The criterion is theirs, too: MAE with the whole support, averaged over
the validation states. Trials are kept in `RUNS/tuning.sqlite3`; a run that was cut off continues. Writes the training
configuration of the best trial, epochs included, to `benchmarks/configs/ml1m.yaml`.
"""

import argparse
import copy
import json
import sys

import optuna
import yaml
from tqdm import tqdm

from benchmarks.ml1m_data import ml1m_data
from tfmeta import config
from tfmeta.baselines.tuning import BUDGET
from tfmeta.io import filesystem
from trainer.config import TrainConfig
from trainer.evaluation.environment import environment
from trainer.loop import train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="directory with MovieLens-1M")
    parser.add_argument("--tasks", help="fixed test tasks, whose warm query ratings are withheld here too")
    parser.add_argument("--validation", help="pseudo-cold users and items")
    parser.add_argument("--runs", default="runs/ml1m", help="where data and trials lie")
    parser.add_argument("--space", default="benchmarks/configs/ml1m_space.yaml", help="what to vary")
    parser.add_argument("--trials", type=int, default=BUDGET, help=f"settings to try (default {BUDGET})")
    parser.add_argument("--out", default="benchmarks/configs/ml1m.yaml", help="configuration to write")
    args = parser.parse_args()

    space = config.load_yaml(args.space)
    data = ml1m_data(args.source, folder=args.runs, part="tuning", tasks=args.tasks or None,
                     validation=args.validation or None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=data.training_fingerprint()[:16], direction="minimize", load_if_exists=True,
        storage=f"sqlite:///{filesystem.join(args.runs, 'tuning.sqlite3')}",
        # The seed moves on with the trials that are there, so that a continued study does not repeat its draws.
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=6))
    if not study.trials:
        study.enqueue_trial(_defaults(space))
    done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    with tqdm(total=args.trials, initial=min(done, args.trials), unit="trial", file=sys.stderr) as bar:
        def objective(trial: optuna.Trial) -> float:
            values = _suggest(trial, space)
            run = filesystem.join(args.runs, "trials", f"{trial.number:03d}")
            filesystem.remove_tree(run)
            result = train(config=config.parse(TrainConfig, values), data=data, run=run, progress=False)
            record = result.history[-1]
            trial.set_user_attr("history", record)
            bar.update(1)
            bar.set_postfix(mae=f"{record['val_mae']:.4f}")
            return record["val_mae"]

        study.optimize(objective, n_trials=max(0, args.trials - done))
    best = study.best_trial
    values = _apply(space, best.params)
    values["tensorboard"] = {"enabled": True}
    values["checkpoint"] = {"every_epochs": 1}
    about = {"criterion": "mean validation MAE over states, whole support", "value": best.value,
             "trials": len(study.trials), **environment()}
    header = "".join(f"# {line}\n" for line in [
        "Chosen on validation users and items by `make ml1m-tune`; do not edit by hand.", json.dumps(about)])
    filesystem.write_text(args.out, header + yaml.safe_dump(values, sort_keys=False))
    print(json.dumps({"value": best.value, "params": best.params, "config": args.out}))
    return 0


def _defaults(space: dict) -> dict:
    """Returns the fixed configuration's values of the searched keys: the first trial."""
    found = {}
    for path in space["search"]:
        node = space["fixed"]
        for part in path.split("."):
            node = node[part]
        found[path] = node
    return found


def _suggest(trial: optuna.Trial, space: dict) -> dict:
    chosen = {}
    for path, domain in space["search"].items():
        if isinstance(domain, list):
            chosen[path] = trial.suggest_categorical(path, domain)
        else:
            chosen[path] = trial.suggest_float(path, domain["low"], domain["high"], log=domain.get("log", False))
    return _apply(space, chosen)


def _apply(space: dict, chosen: dict) -> dict:
    values = copy.deepcopy(space["fixed"])
    for path, value in chosen.items():
        *parents, last = path.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[last] = value
    return values


if __name__ == "__main__":
    raise SystemExit(main())
