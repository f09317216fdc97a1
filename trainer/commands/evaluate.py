"""`tfmeta evaluate`: runs against floors, tuned baselines and ceilings."""

import argparse

HELP = "Evaluate runs beside tuned baselines, chance floor and ceiling"

_KS = "0,1,3,5,10,20,all"

_EPILOG = """\
examples:
  tfmeta evaluate --run runs/first
  tfmeta evaluate --run runs/first --json results.json
  tfmeta evaluate --run runs/seed0 runs/seed1 runs/seed2 --out results/quality     three training seeds, merged
  tfmeta evaluate --run runs/first --states user_cold --k 0,5,all --baselines item_mean,damped_bias
  tfmeta evaluate --run maml=runs/a fomaml=runs/b --selected maml

Writes RUN/evaluation.json (environment and rows), RUN/evaluation_rows.parquet (every row) and
RUN/evaluation.parquet (values per user) and RUN/report.html (one self-contained page). Baselines are tuned on the
validation tasks of the prepared data, or of --tuning-data where that has none; the choice is kept in
RUN/baselines.json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta evaluate`."""
    parser.epilog = _EPILOG
    parser.add_argument("--run", metavar="[NAME=]RUN", nargs="+", required=True,
                        help="run directories on the same data; those of one NAME are training seeds of one learner")
    parser.add_argument("--data", metavar="DIR", help="prepared directory, if it is not where the run was trained")
    parser.add_argument("--tuning-data", metavar="DIR", help="prepared directory whose validation tasks tune baselines")
    parser.add_argument("--states", metavar="LIST", help="comma-separated; default all that the test tasks have")
    parser.add_argument("--k", metavar="LIST", help="comma-separated numbers of support rows, none larger than every "
                        f"support (default: {_KS})")
    parser.add_argument("--baselines", metavar="LIST", help="comma-separated names, or none; default those "
                        "made for the label's unit, without two_tower_tfrs, which takes minutes")
    parser.add_argument("--selected", metavar="NAME", help="the learner chosen on validation; default the only one")
    parser.add_argument("--features", choices=("full", "genres_only"), default="full",
                        help="what the rows say about the features used (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N",
                        help="tasks adapted at once (default: %(default)s)")
    parser.add_argument("--catalogue", type=int, metavar="K", help="also recall@K and ndcg@K over the whole catalogue "
                        "at k = 0, 5 and all, on the first split")
    parser.add_argument("--history", action="store_true", help="also every model with a warm user's training "
                        "interactions as further support, in the item-cold state")
    parser.add_argument("--out", metavar="STEM", help="also write the joint result: STEM.json, .html, .parquet")
    parser.add_argument("--json", nargs="?", const=True, default=False, metavar="FILE",
                        help="print the result as one JSON object, or write environment and rows to FILE")


def run(args: argparse.Namespace) -> int:
    """Evaluates, and prints a table per state."""
    import json
    import sys

    from tqdm import tqdm

    from tfmeta.baselines import BASELINES
    from tfmeta.config import require
    from trainer.evaluation.evaluate_run import count_steps, evaluate_runs
    from trainer.evaluation.evaluation import committed_rows
    from trainer.evaluation.results_file import write_json
    from trainer.evaluation.table import format_table
    from trainer.report import write_report, write_run_report

    require(args.batch_size >= 1, "--batch-size", "at least 1", args.batch_size)
    ks = parse_ks(_KS if args.k is None else args.k)
    states = None if args.states is None else parse_names(args.states)
    if args.baselines is None:
        baselines = None
    else:
        baselines = [] if args.baselines == "none" else parse_names(args.baselines)
    total = count_steps(len(states) if states else 4, ks=len(ks), runs=len(args.run),
                        baselines=len(BASELINES if baselines is None else baselines))
    with tqdm(total=total, file=sys.stderr, unit="step", desc="evaluate", leave=False, dynamic_ncols=True) as bar:
        def progress(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(1)

        result = evaluate_runs(args.run, data=args.data, tuning_data=args.tuning_data, states=states, ks=ks,
                               baselines=baselines, selected=args.selected, out=args.out, features=args.features,
                               batch_size=args.batch_size, catalogue_cutoff=args.catalogue,
                               history=args.history, strict_ks=args.k is not None, progress=progress)
    if result.references is not None and not result.references.tuned:
        print("tfmeta: note: no validation tasks, so baselines have their default hyper-parameters; --tuning-data "
              "names a directory to tune them on.", file=sys.stderr)
    reports = [write_run_report(run.partition("=")[2] or run, synthetic=result.synthetic) for run in args.run]
    if args.out is not None:
        reports.append(write_report(f"{args.out}.html", rows=result.rows, synthetic=result.synthetic))
    if isinstance(args.json, str):
        write_json(args.json, environment=result.environment, rows=committed_rows(result.rows))
    elif args.json:
        print(json.dumps({"environment": result.environment, "rows": committed_rows(result.rows), "reports": reports}))
        return 0
    if result.synthetic:
        print("Synthetic data.\n")
    print(format_table(result.rows, task_side=result.task_side))
    print("\n" + "\n".join(f"Report: {path}" for path in reports))
    return 0


def parse_names(text: str) -> list[str]:
    """Returns the names of a comma-separated list."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def parse_ks(text: str) -> list[int | str]:
    """Returns the numbers of support rows of a comma-separated list; ConfigError on anything else than `all`."""
    from tfmeta.errors import ConfigError

    values = parse_names(text)
    if not values or not all(v == "all" or v.isdecimal() for v in values):
        raise ConfigError(f"'--k' requires comma-separated whole numbers or 'all', received '{text}'.")
    return [v if v == "all" else int(v) for v in values]
