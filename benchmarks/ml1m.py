"""MovieLens-1M end to end: prepare, meta-train with several seeds, evaluate in all states, export, verify, report.

    python -m benchmarks.ml1m --source DIR [--tasks FILE] [--validation FILE] [--features genres_only]

Hyper-parameters come from `benchmarks/configs/ml1m.yaml`, which `make ml1m-tune` chose on validation users and items;
training is on all warm data, for the number of epochs given there. Baselines are tuned on the same validation users
and items. Everything that is finished is kept in RUNS, so a run that was cut off continues.
"""

import argparse
import json
import sys
import time

from tqdm import tqdm

from benchmarks.ml1m_data import ml1m_data, public_view
from export.run_export import export_run
from tfmeta import config
from tfmeta.baselines import baselines_for
from tfmeta.io import filesystem
from trainer.config import TrainConfig
from trainer.evaluation.evaluate import DEFAULT_KS
from trainer.evaluation.evaluate_run import count_steps, evaluate_runs
from trainer.evaluation.table import format_table
from trainer.loop import train
from trainer.report import write_run_report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="directory with MovieLens-1M")
    parser.add_argument("--tasks", help="fixed test tasks; default drawn")
    parser.add_argument("--validation", help="pseudo-cold users and items; default drawn")
    parser.add_argument("--features", choices=("full", "genres_only"), default="full",
                        help="genres_only leaves out what GroupLens does not publish: plot, people, certificate")
    parser.add_argument("--runs", default="runs/ml1m", help="where data and runs lie")
    parser.add_argument("--config", default="benchmarks/configs/ml1m.yaml", help="training configuration")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds (default 3)")
    parser.add_argument("--out", default="benchmarks/results/ml1m_main.json", help="results file")
    args = parser.parse_args()

    begun = time.monotonic()
    if args.features == "genres_only":
        args.source = public_view(args.source, folder=args.runs)
    data = {part: ml1m_data(args.source, folder=args.runs, part=part, tasks=args.tasks or None,
                            validation=args.validation or None) for part in ("tuning", "refit")}
    values = config.load_yaml(args.config)
    name = values["learner"]["name"]
    runs = []
    for seed in range(args.seeds):
        run = filesystem.join(args.runs, f"{name}-seed{seed}")
        print(f"Training seed {seed} in {run}", flush=True)
        # A directory of another configuration or of other data is refused, not silently reused.
        train(config=config.parse(TrainConfig, {**values, "seed": seed}), data=data["refit"], run=run,
              resume=filesystem.exists(run))
        runs.append(run)
    features = data["refit"].summary["features"]
    total = count_steps(4, ks=len(DEFAULT_KS), runs=len(runs), baselines=len(baselines_for("rating")))
    with tqdm(total=total, unit="step", file=sys.stderr, dynamic_ncols=True) as bar:
        def step(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(1)

        # Rows of every k and values per user stay with the runs; the results file is small enough to be committed.
        stem = filesystem.join(args.runs, "evaluation")
        outcome = evaluate_runs([f"{name}={run}" for run in runs], tuning_data=data["tuning"].path, selected=name,
                                out=stem, features=features, progress=step)
    filesystem.write_bytes(args.out, filesystem.read_bytes(f"{stem}.json"))
    print(format_table(outcome.rows))
    filesystem.remove_tree(filesystem.join(args.runs, "model"))
    model = export_run(runs[0], model_base=filesystem.join(args.runs, "model"))
    report = write_run_report(runs[0], title="MovieLens-1M", facts={"Features": features, "Seeds": args.seeds})
    print(json.dumps({"results": args.out, "model": model, "report": report, "runs": runs,
                      "seconds": round(time.monotonic() - begun)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
