"""`tfmeta benchmark`: every learner and reference with one tuning budget."""

import argparse

HELP = "Tune, train and compare every learner and reference on a suite"

_SUITES = ("ml1m", "ml100k", "yelp", "gift-cards", "synthetic")
_STAGES = ("all", "tune", "run", "report")
_EPILOG = """\
examples:
  tfmeta benchmark --suite synthetic --out runs/synthetic
  tfmeta benchmark --suite ml1m --source data/ml-1m --out runs/ml1m
  tfmeta benchmark --suite ml1m --source data/ml-1m --out runs/ml1m --learners maml,ridge --references als_fold_in
  tfmeta benchmark --suite ml1m --source data/ml-1m --out runs/ml1m --stage tune --learners tanp    a share of the work
  tfmeta benchmark --suite ml1m --source data/ml-1m --out runs/ml1m --config mine=my.yaml           a system of your own

Every system gets the same number of trials, fitted on the same training users and scored on the same validation tasks;
the learner that is best there is the selected one. Each is then fitted with its best settings on all training data and
evaluated on the test tasks: three seeds for the selected learner, its family and the references, one for the others.
Every finished trial and cell is a file in OUT, so a run that was cut off continues, and processes with different
systems may share OUT. Writes OUT/results.json, OUT/report.md and OUT/report.html."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta benchmark`."""
    parser.epilog = _EPILOG
    parser.add_argument("--suite", required=True, metavar="NAME", help=", ".join(_SUITES))
    parser.add_argument("--source", metavar="DIR", help="directory of the suite's data; none for synthetic")
    parser.add_argument("--tasks", metavar="FILE", help="fixed test tasks; default those of the suite, else drawn")
    parser.add_argument("--validation", metavar="FILE", help="pseudo-cold users and items; likewise")
    parser.add_argument("--learners", metavar="LIST", help="comma-separated, each NAME or NAME@SCOPE, or none; default "
                        "all that fit")
    parser.add_argument("--references", metavar="LIST", help="comma-separated names, or none; default all")
    parser.add_argument("--config", metavar="NAME=FILE", action="append", default=[],
                        help="a further learner: a training configuration that is not tuned; repeatable")
    parser.add_argument("--history", metavar="LIST", help="comma-separated learners that are also compared with warm "
                        "users' own training interactions as further support of cold items")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="fix one training setting of every learner; repeatable")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="training seeds (default: %(default)s)")
    parser.add_argument("--budget", type=int, default=8, metavar="N", help="trials a system (default: %(default)s)")
    parser.add_argument("--time-limit", type=float, default=20.0, metavar="MIN",
                        help="minutes of trials after which a system gets no further one (default: %(default)s)")
    parser.add_argument("--tuning-users", type=int, metavar="N", help="training users of a trial; default the suite's")
    parser.add_argument("--k", metavar="LIST", help="comma-separated numbers of support rows; default the suite's")
    parser.add_argument("--selected", metavar="NAME", help="the selected learner; default the best on validation")
    parser.add_argument("--stage", choices=_STAGES, default="all", help="what to do (default: %(default)s)")
    parser.add_argument("--results", metavar="DIR", help="also copy results and report to DIR/learners_<suite>.*")
    parser.add_argument("--out", metavar="DIR", required=True, help="directory of trials, cells and results")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark, and prints a table per state."""
    import json
    import sys

    from tqdm import tqdm

    from tfmeta.config import require
    from tfmeta.errors import ConfigError
    from trainer.benchmarking.benchmark import Benchmark, check_systems
    from trainer.benchmarking.suite_data import SuiteData, check_source
    from trainer.benchmarking.suites import get_suite
    from trainer.benchmarking.systems import build_systems
    from trainer.benchmarking.tuner import require_optuna
    from trainer.benchmarking.workspace import Workspace
    from trainer.commands.evaluate import parse_ks, parse_names
    from trainer.evaluation.table import format_table

    suite = get_suite(args.suite, tuning_users=args.tuning_users,
                      ks=None if args.k is None else tuple(parse_ks(args.k)))
    for name in ("seeds", "budget", "time_limit"):
        require(getattr(args, name) > 0, f"--{name.replace('_', '-')}", "a positive number", getattr(args, name))
    check_source(suite, args.source)
    require_optuna()
    configs = {}
    for text in args.config:
        name, sign, path = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"'--config' requires NAME=FILE, received '{text}'.")
        configs[name] = path
    asked = {side: None if getattr(args, side) is None else
             [] if getattr(args, side) == "none" else parse_names(getattr(args, side))
             for side in ("learners", "references")}
    systems = build_systems(suite.name, **asked, configs=configs, overrides=args.overrides,
                            history=parse_names(args.history) if args.history else (), unit=suite.unit,
                            budget=args.budget)
    if args.selected is not None and args.selected not in {s.name for s in systems if s.role == "learner"}:
        raise ConfigError(f"'--selected' requires one of the learners compared, received '{args.selected}'.")
    workspace = Workspace(args.out)
    data = SuiteData.open(suite, source=args.source, folder=workspace.file("data"), tasks=args.tasks,
                          validation=args.validation)
    required = [*(n.replace("@", "_") for n in asked["learners"] or ()), *(asked["references"] or ()), *configs]
    reasons = {}
    if args.stage != "report":
        systems, reasons = check_systems(systems, data, required=required)
    for reason in reasons.values():
        print(f"tfmeta: note: left out. {reason}", file=sys.stderr)
    benchmark = Benchmark(suite, data, systems=systems, workspace=workspace, seeds=args.seeds, budget=args.budget,
                          time_limit=60.0 * args.time_limit, selected=args.selected)
    tune, cells = args.stage in ("all", "tune"), args.stage in ("all", "run")
    with tqdm(total=benchmark.count(tune=tune, run=cells), initial=0, unit="cell", file=sys.stderr, dynamic_ncols=True,
              desc=suite.name, disable=not (tune or cells)) as bar:
        def progress(text: str, number: int) -> None:
            bar.set_postfix_str(text, refresh=not number)
            bar.update(number)

        if tune:
            bar.update(benchmark.done(tune=True))
            benchmark.tune(progress)
        if cells:
            # How many seeds a learner gets depends on which is selected, so on all trials.
            bar.total = bar.n + benchmark.count(tune=False, run=True)
            benchmark.run(progress)
    for name, reason in benchmark.failures.items():
        print(f"tfmeta: note: '{name}' failed and has no further cells (TFMETA_DEBUG=1 shows where). {reason}",
              file=sys.stderr)
    if args.stage == "tune":
        _print_trials(benchmark, as_json=bool(args.json))
        return 0
    from trainer.benchmarking.report import copy_results, write_benchmark_report

    outcome = write_benchmark_report(benchmark, left_out={**reasons, **benchmark.failures})
    files = [*outcome.files, *(copy_results(benchmark, folder=args.results) if args.results else ())]
    if args.json:
        print(json.dumps({"environment": outcome.environment, "rows": outcome.rows, "selected": benchmark.selected,
                          "files": files}))
        return 0
    if suite.dataset == "synthetic":
        print("Synthetic data.\n")
    print(format_table(outcome.rows, metrics=suite.metrics))
    print(f"\nSelected {benchmark.selected_how}: {benchmark.selected}")
    print("\n".join(files))
    return 0


def _print_trials(benchmark, *, as_json: bool) -> None:
    import json

    lines = []
    for system in benchmark.systems:
        best, trials = benchmark.tuner.best(system), benchmark.tuner.trials(system)
        lines.append({"system": system.name, "role": system.role, "trials": len(trials),
                      "seconds": round(sum(t["seconds"] for t in trials), 1),
                      "criterion": best and best["criterion"], "value": best and best["value"],
                      "params": best and best["params"]})
    if as_json:
        print(json.dumps({"trials": lines, "selected": benchmark.selected}))
        return
    width = max(len(line["system"]) for line in lines)
    for line in lines:
        value = "failed" if line["value"] is None else f"{line['criterion']} {line['value']:.4f}"
        print(f"{line['system']:<{width}}  {value}  {line['trials']} trials, {line['seconds']:.0f} s  {line['params']}")
    print(f"Selected {benchmark.selected_how}: {benchmark.selected}")
