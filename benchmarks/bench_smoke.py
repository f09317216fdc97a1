"""The learners' benchmark in miniature, for continuous integration: each learner learns, and adaptation helps.

    python -m benchmarks.bench_smoke [--learners maml,ridge] [--workers 2] [--json]

Synthetic data, whose generator is held by a hash. Every learner of the registry is trained for a few epochs by the
code of `tfmeta benchmark`: its training loss has to fall and, unless it never adapts, its error with the whole support
has to be below the one without. Ridge and first-order MAML have to be significantly better adapted than unadapted,
over users. Exit code 1 names what failed.
"""

import argparse
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time

import numpy as np

from tfmeta.data.synthetic.synthetic_config import SyntheticConfig

CONFIG = SyntheticConfig(users=500, items=150, ratings_per_user=40.0, rounded=True, user_feature_information=0.3,
                         seed=11)
# SHA-256 of the generator's interactions under CONFIG.
FROZEN = "c8fd5a3be138d3f3879270e211eb0a06e1e7c721c6d9dd161b7c5eb232d6009f"
SIGNIFICANT = ("ridge", "first_order_maml")
P_VALUE = 0.01
# Learners that do not read the support.
NEVER_ADAPT = ("joint",)
_SETTINGS = ("epochs=10", "optimizer.learning_rate=0.01", "optimizer.weight_decay=0.01", "item_id_dropout=0.1",
             "checkpoint.every_epochs=1000", "tensorboard.enabled=false")


def generator_hash() -> str:
    """Returns the hash of what the generator draws under CONFIG."""
    from tfmeta.data.synthetic.generate import generate

    raw, _ = generate(CONFIG)
    digest = hashlib.sha256()
    for column, kind in (("user_row", "<i4"), ("item_row", "<i4"), ("label", "<f4")):
        digest.update(np.ascontiguousarray(getattr(raw.interactions, column).astype(kind)).tobytes())
    return digest.hexdigest()


def check_learner(name: str, data: str, folder: str) -> dict:
    """Trains one learner and returns its figures and, under `failed`, what it lacks.

    Args:
      name: of the learner.
      data: prepared directory.
      folder: for the run.
    """
    import tensorflow as tf

    from tfmeta.data.prepared_data import PreparedData
    from tfmeta.metrics import rating
    from tfmeta.metrics.significance import wilcoxon
    from tfmeta.quiet import quiet_tensorflow
    from trainer.benchmarking.learner_system import LearnerSystem
    from trainer.benchmarking.systems import build_systems

    quiet_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    begun = time.monotonic()
    system = build_systems("synthetic", learners=[name], references=[], overrides=_SETTINGS, budget=1)[0]
    # Item-side learners too are held to what users as tasks can show, with and without a support.
    system = LearnerSystem(name, space=system.space, family=system.family, role=system.role)
    prepared = PreparedData(data)
    system.check(prepared)
    fitted = system.fit(system.space.fixed, prepared=prepared, seed=0, folder=os.path.join(folder, name))
    tasks = prepared.tasks("test").in_state("user_cold")
    tasks = tasks.select(tasks.split == 0)
    label = prepared.feature_spec.label
    error = [rating.mae(scores, tasks.query_label, tasks.query_length, minimum=label.minimum, maximum=label.maximum)
             for scores in fitted.scorer.score_both(tasks)]
    adapted, base = (float(e.mean()) for e in error)
    p_value = wilcoxon(error[0], error[1])
    failed = []
    if not fitted.loss[1] < fitted.loss[0]:
        failed.append(f"its loss rose from {fitted.loss[0]:.4f} to {fitted.loss[1]:.4f}")
    if name not in NEVER_ADAPT and not adapted < base:
        failed.append(f"adapted MAE {adapted:.4f} is not below unadapted {base:.4f}")
    if name in SIGNIFICANT and not p_value < P_VALUE:
        failed.append(f"the gain's p-value {p_value:.3g} is not below {P_VALUE}")
    return {"learner": name, "first_loss": fitted.loss[0], "last_loss": fitted.loss[1], "unadapted_mae": base,
            "adapted_mae": adapted, "p_value": p_value, "users": len(tasks), "failed": failed,
            "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", help="comma-separated; default all of the registry")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    from tfmeta.data.prepare_dataset import default_split, prepare_dataset
    from trainer.benchmarking.systems import learner_names

    begun = time.monotonic()
    found = generator_hash()
    if found != FROZEN:
        print(f"bench-smoke: the synthetic generator has changed: required {FROZEN}, received {found}. Figures on "
              "synthetic data are not comparable any more; if that is meant, freeze the new hash.", file=sys.stderr)
        return 1
    names = args.learners.split(",") if args.learners else learner_names("synthetic")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        # Nothing is chosen on validation tasks here, and scoring them would take one more graph of each learner.
        prepare_dataset(dataset="synthetic", synthetic=CONFIG, out=data,
                        split=default_split("synthetic").without_validation())
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(args.workers, mp_context=context) as pool:
            waiting = {pool.submit(check_learner, name, data, folder): name for name in names}
            for future in concurrent.futures.as_completed(waiting):
                results.append(_outcome(future, waiting[future]))
                if not args.json:
                    print(_line(results[-1]), flush=True)
    results.sort(key=lambda r: names.index(r["learner"]))
    failures = {r["learner"]: r["failed"] for r in results if r["failed"]}
    if args.json:
        print(json.dumps({"rows": results, "failures": failures, "seconds": round(time.monotonic() - begun, 1)}))
    for name, reasons in failures.items():
        print(f"bench-smoke: {name}: {'; '.join(reasons)}", file=sys.stderr)
    if not args.json:
        print(f"{len(results) - len(failures)} of {len(results)} learners pass, {time.monotonic() - begun:.0f} s")
    return 1 if failures else 0


def _outcome(future: concurrent.futures.Future, name: str) -> dict:
    error = future.exception()
    if error is None:
        return future.result()
    return {"learner": name, "failed": [f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"]}


def _line(result: dict) -> str:
    if "seconds" not in result:
        return f"{result['learner']:<18} failed"
    return (f"{result['learner']:<18} loss {result['first_loss']:.3f} -> {result['last_loss']:.3f}   MAE "
            f"{result['unadapted_mae']:.3f} -> {result['adapted_mae']:.3f} (p {result['p_value']:.1g})   "
            f"{result['seconds']:.0f} s{'   FAILED' if result['failed'] else ''}")


if __name__ == "__main__":
    raise SystemExit(main())
