"""How W1's time per task grows with the meta-batch, the support set and the number of inner steps.

    python -m benchmarks.scaling [--out FILE] [--plot FILE]

All settings of a sweep are live in one process and do short blocks in turn; the median over the blocks counts. Beside
each time stands that of the plain algorithm's matrix products at the rate of a large product, the physical limit of
doing it that way.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

from benchmarks.live_system import LiveSystem, ours, thread_environment
from benchmarks.peers.worker import bind

RESULTS = pathlib.Path(__file__).parent / "results" / "scaling.json"
PLOT = pathlib.Path(__file__).parents[1] / "docs" / "scaling.svg"
SWEEPS = {"tasks": (8, 16, 32, 64, 128, 256, 512), "support": (5, 10, 20, 40, 80), "inner_steps": (1, 2, 3, 5, 10)}
_TITLES = {"tasks": "tasks in a meta-batch", "support": "support rows", "inner_steps": "inner steps"}


def slope(points: dict[int, float], *, beyond: int = 0) -> float:
    """Returns d log(time) / d log(size) by least squares: 0 is flat, 1 is proportional.

    Args:
      points: size -> time.
      beyond: sizes up to it are left out.
    """
    import numpy as np

    kept = {size: value for size, value in points.items() if size > beyond}
    return float(np.polyfit(np.log(list(kept)), np.log(list(kept.values())), 1)[0])


def affine_error(points: dict[int, float]) -> float:
    """Returns the largest relative distance of the times from the best line a + b size, relative errors weighed alike:
    0 is linear.
    """
    import numpy as np

    size, value = np.array(list(points), float), np.array(list(points.values()))
    design = np.stack([1 / value, size / value], axis=1)
    fitted = design @ np.linalg.lstsq(design, np.ones_like(value), rcond=None)[0]
    return float(np.max(np.abs(fitted - 1)))


def measure(sweep: str, values: tuple[int, ...], *, rounds: int, block_seconds: float, bar) -> dict[int, float]:
    """Returns the median seconds per task for each value of one dimension of the workload."""
    from benchmarks import w1

    live = {}
    for value in values:
        bar.set_description(f"{sweep} {value}: tracing")
        setting = w1.W1(**{sweep: value}, batches=4)
        outer, batches = w1.outer_step(setting, w1.build(setting)), w1.batches(setting)
        for batch in batches:
            outer(batch)
        live[value] = (setting, outer, batches, _block(outer, batches, len(batches)) / len(batches))
        bar.update(1)
    seconds = {value: [] for value in values}
    for turn in range(rounds):
        bar.set_description(f"{sweep}: round {turn + 1}/{rounds}")
        for value, (setting, outer, batches, once) in live.items():
            steps = max(2, round(block_seconds / once))
            _block(outer, batches, 1)
            seconds[value].append(_block(outer, batches, steps) / steps / setting.tasks)
        bar.update(1)
    return {value: statistics.median(found) for value, found in seconds.items()}


def _block(outer, batches, steps: int) -> float:
    begin = time.perf_counter()
    for k in range(steps):
        outer(batches[k % len(batches)])
    int(outer.step)
    return time.perf_counter() - begin


def plot(path: str, times: dict[str, dict[int, float]], limits: dict[str, dict[int, float]]) -> None:
    """Draws time per task against each dimension, logarithmic, the limit dashed; an SVG without a date."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "scaling"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(times), figsize=(11, 3.4), sharey=True, layout="constrained")
    for axis, (sweep, points) in zip(axes, times.items(), strict=True):
        axis.loglog(list(points), [1e6 * v for v in points.values()], "o-", color="#1f5fa8", label="tfmeta")
        axis.loglog(list(points), [1e6 * limits[sweep][v] for v in points], "--", color="#888888",
                    label="matrix products of the plain algorithm")
        axis.set_xticks(list(points), [str(v) for v in points])
        axis.minorticks_off()
        axis.set_xlabel(_TITLES[sweep])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("microseconds per task")
    axes[0].legend(fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--plot", default=str(PLOT), help="SVG file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block-seconds", type=float, default=0.3)
    args = parser.parse_args()
    bind(args.threads)
    import os

    # Read by TensorFlow and NumPy when they start.
    os.environ.update(thread_environment(args.threads))
    from tqdm import tqdm

    from benchmarks import w1
    from benchmarks.peers import matrix_products
    from trainer.evaluation.environment import environment
    from trainer.evaluation.results_file import write_json

    rows, times, limits = [], {}, {}
    stages = sum(map(len, SWEEPS.values())) + len(SWEEPS) * args.rounds
    with (LiveSystem("matrix_products", [ours(), "-m", "benchmarks.peers.matrix_products", "-"],
                     threads=args.threads) as products,
          tqdm(total=stages, unit="stage", file=sys.stderr, dynamic_ncols=True) as bar):
        products.ready().run(10)
        for sweep, values in SWEEPS.items():
            before = products.run(30)["seconds"]
            times[sweep] = measure(sweep, values, rounds=args.rounds, block_seconds=args.block_seconds, bar=bar)
            peak = 60 * matrix_products.FLOPS / (before + products.run(30)["seconds"])
            limits[sweep] = {v: w1.plain_flops(w1.W1(**{sweep: v})) / peak for v in values}
            for value, seconds in times[sweep].items():
                setting = w1.W1(**{sweep: value})
                where = {"sweep": sweep, "inner_steps": setting.inner_steps, "tasks": setting.tasks,
                         "support": setting.support, "query": setting.query, "order": 2, "threads": args.threads}
                rows += [{"workload": "W1", "system": system, "setting": where, "metric": "us_per_task",
                          "value": round(1e6 * found, 2), "ratio_to_ours": round(found / seconds, 4)}
                         for system, found in (("tfmeta", seconds), ("matrix_products", limits[sweep][value]))]
    summary = {"tasks_slope_beyond_32": slope(times["tasks"], beyond=31),
               "tasks_512_over_32": times["tasks"][512] / times["tasks"][32],
               "support_affine_error": affine_error(times["support"]), "support_slope": slope(times["support"]),
               "inner_steps_affine_error": affine_error(times["inner_steps"]),
               "inner_steps_slope": slope(times["inner_steps"])}
    rows += [{"workload": "W1", "system": "tfmeta", "setting": {"sweep": "all", "threads": args.threads},
              "metric": name, "value": round(value, 4), "ratio_to_ours": None} for name, value in summary.items()]
    plot(args.plot, times, limits)
    write_json(args.out, environment={**environment(), "threads": args.threads}, rows=rows)
    print(json.dumps({"results": args.out, **{k: round(v, 4) for k, v in summary.items()}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
