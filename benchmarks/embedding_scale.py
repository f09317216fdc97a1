"""Time of an outer step by the number of embedding rows: lazy Adam against Keras's dense Adam.

    python -m benchmarks.embedding_scale [--rows 10000 1000000 10000000] [--out FILE]

Meta-training as it is (gather, adapt, second-order gradient, clip, update), 32 tasks of 20 support and 10 query items,
on a model whose items have one categorical feature of that many values. Items are drawn uniformly and anew for every
step; the catalogue has as many items as the largest table has rows in all settings, so that these differ in nothing but
the table. All settings run in turn, round by round (A B A B); a figure is the median of its rounds, a ratio the median
of the ratios within a round.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.label import Label
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.io import filesystem
from tfmeta.models.recommender import build_recommender
from trainer.config import OptimizerConfig
from trainer.evaluation.environment import environment
from trainer.optimizer import LearningRate, build_optimizer
from trainer.outer_step import OuterStep

TASKS, SUPPORT, QUERY, DIM, INNER_STEPS = 32, 20, 10, 16, 1
WORKLOAD = "embedding_scale"
GOAL = 1.2
# A dense step at 10 million rows moves 4 GB and says nothing new.
DENSE_UP_TO = 1_000_000


@dataclasses.dataclass
class Case:
    """One setting: its step, and the seconds a step took in each round."""

    rows: int
    optimizer: str
    step: OuterStep
    seconds: list[float] = dataclasses.field(default_factory=list)

    def run(self, batches: list[IndexedTaskBatch]) -> None:
        """Times one round."""
        began = time.perf_counter()
        for batch in batches:
            self.step(batch)
        finished = int(self.step.step)  # waits for the device
        self.seconds.append((time.perf_counter() - began) / len(batches))
        if int(self.step.failed_step) >= 0:
            raise SystemExit(f"Step {finished} of {self.optimizer} at {self.rows} rows was not finite.")


def make_case(rows: int, optimizer: str, *, catalogue: int) -> Case:
    """Builds a recommender, its optimizer and its step; item i of the catalogue has the feature's value i mod rows."""
    # Only the number of values enters the model, so a range stands for a vocabulary of that length.
    wide = Feature("wide", "categorical", "int64", vocabulary=range(rows - 2))
    small = [Feature(f"small_{size}", "categorical", "int64", vocabulary=range(size)) for size in (7, 21)]
    item_id = Feature("item_id", "categorical", "int64", vocabulary=(0,))
    spec = FeatureSpec(label=Label("rating", mean=3.5, std=1.0), user_id=Feature(
        "user_id", "categorical", "int64", vocabulary=(0,)), item_id=item_id, user_features=(small[0],),
        item_features=(wide, small[1]))
    recommender = build_recommender(
        spec, model={"name": "embedding", "embedding_dim": DIM, "units": [64, 64]},
        learner={"name": "maml", "scope": "head", "inner_steps": INNER_STEPS, "inner_learning_rate": 0.01})
    rng = np.random.default_rng(0)
    users = {small[0].name: tf.constant(rng.integers(0, 9, 1000).astype(np.int32))}
    number = np.arange(catalogue + 1, dtype=np.int32)
    items = {"item_id": tf.zeros([catalogue + 1], tf.int32), wide.name: tf.constant(number % rows),
             small[1].name: tf.constant(number % 23)}
    tables = FeatureTables(users=users, items=items, num_users=1000, num_items=catalogue)
    config = OptimizerConfig()
    schedule, variables = LearningRate(config, total_steps=1), recommender.trainable_variables
    if optimizer == "lazy_adam":
        built = build_optimizer(config, schedule=schedule, variables=variables, exempt=[])
    else:
        built = keras.optimizers.Adam(schedule)
        built.build(variables)
    return Case(rows, optimizer, OuterStep(recommender, optimizer=built, tables=tables, clip_norm=config.clip_norm,
                                           dropout=0.0, seed=0))


def draw(rng: np.random.Generator, *, catalogue: int, count: int) -> list[IndexedTaskBatch]:
    """Draws meta-batches whose items, and with them the rows of the table, are uniform."""
    def labels(width):
        return tf.constant(rng.integers(1, 6, (TASKS, width)).astype(np.float32))

    def items(width):
        return tf.constant(rng.integers(0, catalogue, (TASKS, width)).astype(np.int32))

    return [IndexedTaskBatch(
        user_row=tf.constant(rng.integers(0, 1000, TASKS).astype(np.int32)), support_row=items(SUPPORT),
        support_label=labels(SUPPORT), support_length=tf.fill([TASKS], SUPPORT), query_row=items(QUERY),
        query_label=labels(QUERY), query_length=tf.fill([TASKS], QUERY)) for _ in range(count)]


def measure(all_rows: list[int], *, rounds: int, steps: int, progress: bool = True) -> list[dict]:
    """Returns one record per setting: `ms_per_step` and its ratio to lazy Adam at the fewest rows.

    Args:
      all_rows: numbers of rows, ascending.
      rounds: of each setting.
      steps: in a round.
      progress: show a bar on standard error.
    """
    settings = [(rows, "lazy_adam") for rows in all_rows] + [
        (rows, "keras_adam_dense") for rows in all_rows if rows <= DENSE_UP_TO]
    rng, catalogue = np.random.default_rng(1), max(all_rows)
    with tqdm(total=len(settings) * (rounds + 1), unit="round", file=sys.stderr, disable=not progress,
              dynamic_ncols=True) as bar:
        cases = []
        for rows, optimizer in settings:
            bar.set_postfix_str(f"building {rows} rows, {optimizer}")
            case = make_case(rows, optimizer, catalogue=catalogue)
            case.run(draw(rng, catalogue=catalogue, count=2))  # traces, and touches the memory
            case.seconds.clear()
            cases.append(case)
            bar.update(1)
        for _, case in itertools.product(range(rounds), cases):
            bar.set_postfix_str(f"{case.rows} rows, {case.optimizer}")
            # A dense step of a large table takes long and varies little.
            count = steps if case.optimizer == "lazy_adam" or case.rows <= all_rows[0] else max(2, steps // 8)
            case.run(draw(rng, catalogue=catalogue, count=count))
            bar.update(1)
    records = []
    for case in cases:
        # Within a round, because what else the machine does changes from round to round.
        ratios = [own / least for own, least in zip(case.seconds, cases[0].seconds, strict=True)]
        records.append({"rows": case.rows, "optimizer": case.optimizer,
                        "ms_per_step": statistics.median(case.seconds) * 1e3, "ratio": statistics.median(ratios),
                        "ratio_low": float(np.quantile(ratios, 0.25)), "ratio_high": float(np.quantile(ratios, 0.75))})
    return records


def to_rows(records: list[dict]) -> list[dict]:
    """Returns rows of a results file; `ratio_to_ours` is to lazy Adam at the same number of table rows."""
    ours = {r["rows"]: r["ms_per_step"] for r in records if r["optimizer"] == "lazy_adam"}
    result, threads = [], environment("")["threads"]
    for record in records:
        system = {"lazy_adam": "tfmeta", "keras_adam_dense": "keras_adam"}[record["optimizer"]]
        setting = {"embedding_rows": record["rows"], "embedding_dim": DIM, "optimizer": record["optimizer"],
                   "tasks": TASKS, "support": SUPPORT, "query": QUERY, "inner_steps": INNER_STEPS, "order": 2,
                   "threads": threads}
        result.append({"workload": WORKLOAD, "system": system, "setting": setting, "metric": "ms_per_step",
                       "value": round(record["ms_per_step"], 4),
                       "ratio_to_ours": round(record["ms_per_step"] / ours[record["rows"]], 4)})
        result.append({"workload": WORKLOAD, "system": system, "setting": setting,
                       "metric": "ratio_to_fewest_rows", "value": round(record["ratio"], 4), "ratio_to_ours": None})
    return result


def format_table(records: list[dict]) -> str:
    """Returns what the figures say, a line per setting."""
    lines = [f"{'rows':>11}  {'optimizer':<17} {'ms/step':>9}  {'x fewest rows':>13}  (middle half of rounds)"]
    lines += [f"{r['rows']:>11,}  {r['optimizer']:<17} {r['ms_per_step']:>9.3f}  {r['ratio']:>13.2f}  "
              f"({r['ratio_low']:.2f} to {r['ratio_high']:.2f})" for r in records]
    most = max((r for r in records if r["optimizer"] == "lazy_adam"), key=lambda r: r["rows"])
    reached = "reached" if most["ratio"] <= GOAL else "missed"
    return "\n".join([*lines, f"Goal: at most {GOAL} at {most['rows']:,} rows; {reached}."])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000],
                        help="table rows (default 10000 1000000 10000000)")
    parser.add_argument("--rounds", type=int, default=41, help="rounds of each setting (default 41)")
    parser.add_argument("--steps", type=int, default=10, help="outer steps of a round (default 10)")
    parser.add_argument("--out", default="benchmarks/results/embedding_scale.json", help="results file")
    args = parser.parse_args()
    if min(args.rows) < 100 or args.rounds < 1 or args.steps < 1:
        parser.error("--rows requires numbers of at least 100, --rounds and --steps at least 1")

    began = time.monotonic()
    records = measure(sorted(args.rows), rounds=args.rounds, steps=args.steps)
    print(format_table(records))
    filesystem.write_text(args.out, json.dumps({"environment": environment(), "rows": to_rows(records)}, indent=2))
    print(json.dumps({"results": args.out, "seconds": round(time.monotonic() - began)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
