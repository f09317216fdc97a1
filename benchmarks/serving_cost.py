"""What adapting costs at serving time: `adapt_and_score` against `score` of the same exported SavedModel.

    python -m benchmarks.serving_cost [--out FILE]

The model is W1's (5 inner steps, support 20), and the two-tower model with default settings on the same features beside
it, both exported with the item catalogue in the graph. The signatures are called in this process with 64 users and 100
candidates each, in turn, and the median counts. The first figure to look at is `adapt_over_score`.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from benchmarks.live_system import thread_environment
from benchmarks.peers.worker import bind

RESULTS = pathlib.Path(__file__).parent / "results" / "serving_cost.json"
NUM_ITEMS = 4_000


def catalogue():
    """Returns a raw catalogue with W1's item features."""
    import numpy as np
    import pandas as pd

    from benchmarks import w1

    rng = np.random.default_rng(4)
    return pd.DataFrame({"item_id": np.arange(NUM_ITEMS), **{f"item_{i}": rng.integers(0, size, NUM_ITEMS)
                                                             for i, size in enumerate(w1.ITEM_SIZES)}})


def recommenders() -> dict:
    """Returns model name -> recommender."""
    from benchmarks import w1
    from tfmeta.models.recommender import build_recommender

    return {"embedding": w1.build(w1.W1()),
            "two_tower": build_recommender(w1.feature_spec(), learner={"name": "maml", "inner_steps": 5})}


def requests(*, users: int, support: int, query: int, item_features: bool = False) -> dict[str, dict]:
    """Returns signature -> inputs as tensors; items by id alone or with their features."""
    import numpy as np
    import tensorflow as tf

    from benchmarks import w1

    def items(rows):
        features = {f"item_{i}": size for i, size in enumerate(w1.ITEM_SIZES)} if item_features else {}
        return {name: tf.constant(rng.integers(0, size, (users, rows)), tf.int64)
                for name, size in {"item_id": NUM_ITEMS, **features}.items()}

    rng = np.random.default_rng(5)
    score = {f"user_user_{i}": tf.constant(rng.integers(0, size, users), tf.int64)
             for i, size in enumerate(w1.USER_SIZES)}
    score |= {f"query_{name}": value for name, value in items(query).items()}
    return {"score": score, "adapt_and_score": {
        **score, **{f"support_{name}": value for name, value in items(support).items()},
        "support_label": tf.constant(rng.integers(1, 6, (users, support)), tf.float32),
        "support_length": tf.fill([users], support)}}


def measure(model: str, inputs: dict[str, dict], *, calls: int, bar) -> dict[str, float]:
    """Returns the median seconds per call of each signature of an exported model."""
    import tensorflow as tf

    signatures = tf.saved_model.load(model).signatures
    seconds = {name: [] for name in inputs}
    for call in range(calls + 5):
        for name, values in inputs.items():
            begin = time.perf_counter()
            signatures[name](**values)["scores"].numpy()
            if call >= 5:
                seconds[name].append(time.perf_counter() - begin)
        bar.update(1)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--users", type=int, default=64, help="users of a request")
    parser.add_argument("--support", type=int, default=20)
    parser.add_argument("--query", type=int, default=100)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    bind(args.threads)
    # Read by TensorFlow when it starts.
    os.environ.update(thread_environment(args.threads))
    from tqdm import tqdm

    from export.exporter import export_model
    from trainer.evaluation.environment import environment
    from trainer.evaluation.results_file import write_json

    inputs = requests(users=args.users, support=args.support, query=args.query)
    rows, shown = [], {}
    models = recommenders()
    with (tqdm(total=len(models) * (args.calls + 5), unit="call", file=sys.stderr, dynamic_ncols=True) as bar,
          tempfile.TemporaryDirectory() as folder):
        for name, recommender in models.items():
            bar.set_description(f"{name}: export")
            path = export_model(recommender, items=catalogue(), model_base=os.path.join(folder, name),
                                support_bound=max(100, args.support), check=False)
            bar.set_description(name)
            seconds = measure(path, inputs, calls=args.calls, bar=bar)
            where = {"model": name, "users": args.users, "support": args.support, "query": args.query,
                     "inner_steps": 5, "threads": args.threads}
            ratio = seconds["adapt_and_score"] / seconds["score"]
            values = {**{f"{signature}_p50_ms": 1e3 * value for signature, value in seconds.items()},
                      "adapt_over_score": ratio}
            rows += [{"workload": "serving", "system": "tfmeta", "setting": where, "metric": metric,
                      "value": round(value, 4), "ratio_to_ours": 1.0} for metric, value in values.items()]
            shown[name] = round(ratio, 2)
    write_json(args.out, environment={**environment(), "threads": args.threads}, rows=rows)
    print(json.dumps({"results": args.out, "adapt_over_score": shown}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
