"""What adapting in one pass costs: beside NumPy and LAPACK on the same systems, and beside scoring in a SavedModel.

    python -m benchmarks.closed_form [--out FILE]

First, the weights of users from their encoded support sets: `Ridge.adapt` and `Bayesian.adapt` in a graph against the
same systems solved by hand in NumPy and LAPACK: ridge by `gesv` in a batch or `posv` in a loop, mean and covariance by
`numpy.linalg.inv` in a batch or `potrf` and `trtri` in a loop, whichever is faster here. The `adapt` of amortised
learners stands beside the same arithmetic in NumPy (`numpy_same`, see `benchmarks.numpy_learners`), and beside the
ridge solve of the same support sets, to which they have another answer. What should agree must do so before anything is
timed. Then `adapt_and_score` against `score` of an exported two-tower model on W1's features with 64 users and 100
candidates, items by id from the catalogue in the graph or with their features in the request.

Everything is called in this process, in turn, on one thread, as the embedded server runs a request. `*_best_ms` is the
fastest tenth, which other work on the machine disturbs less, and `*_cpu_ms` the least processor time.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from benchmarks.live_system import thread_environment
from benchmarks.peers.worker import bind

RESULTS = pathlib.Path(__file__).parent / "results" / "closed_form.json"
# (users, support rows): the dual form, more users of it, and the primal form of 33 weights.
SETTINGS = ((64, 20), (256, 20), (64, 60))
LEARNERS = ("ridge", "bayesian")
# The default learner of ratings has a solve of its own kind, without a peer.
SERVED = (*LEARNERS, "ordinal_ridge")
AMORTISED = ("lwa", "tanp", "set_encoder")
# Of the graph that adapts.
INPUTS = ("user", "item", "target", "length")


def build(learner: str):
    """Returns a recommender with a head of 33 weights."""
    from benchmarks import w1
    from tfmeta.models.recommender import build_recommender

    return build_recommender(w1.feature_spec(), learner={"name": learner})


def support_sets(*, users: int, support: int, width: int):
    """Returns encoded users `[B, P]`, items `[B, S, P]`, targets `[B, S]` and lengths `[B]`, arrays."""
    import numpy as np

    rng = np.random.default_rng(8)
    return (rng.normal(size=(users, width)).astype(np.float32) / 4,
            rng.normal(size=(users, support, width)).astype(np.float32) / 4,
            rng.normal(size=(users, support)).astype(np.float32),
            rng.integers(support // 2, support + 1, users).astype(np.int32))


def by_numpy(user, item, target, length, *, solver: str, covariance: bool):
    """Returns `weights [B, P]` or, for `covariance`, `mean [B, P]` and a factor of the posterior covariance.

    All precisions are one. With solver `inv` the covariance itself stands in the factor's place.
    """
    import numpy as np

    mask = np.arange(target.shape[1]) < length[:, None]
    features = item.copy()
    features[..., -1] = 1
    residual = np.where(mask, target - np.matmul(features, user[..., None])[..., 0] - item[..., -1], 0)
    features *= mask[..., None]
    rows, width = features.shape[1:]
    if covariance or width <= rows:
        gram = features.transpose(0, 2, 1) @ features + np.eye(width, dtype=np.float32)
        right = (features.transpose(0, 2, 1) @ residual[..., None])[..., 0]
        if covariance and solver == "inv":
            inverse = np.linalg.inv(gram)
            return {"mean": user + (inverse @ right[..., None])[..., 0], "covariance": inverse}
        if covariance:
            factor = _inverse_factor(gram)
            return {"mean": user + ((factor @ right[..., None]).transpose(0, 2, 1) @ factor)[:, 0], "factor": factor}
        return {"weights": user + _solve(gram, right, solver)}
    gram = features @ features.transpose(0, 2, 1) + np.eye(rows, dtype=np.float32)
    return {"weights": user + (features.transpose(0, 2, 1) @ _solve(gram, residual, solver)[..., None])[..., 0]}


def _solve(matrices, right, solver):
    import numpy as np
    from scipy.linalg import lapack

    if solver == "gesv":
        return np.linalg.solve(matrices, right[..., None])[..., 0]
    found = np.empty_like(right)
    for index in range(len(right)):
        found[index] = lapack.sposv(matrices[index], right[index], lower=1, overwrite_a=1)[1]
    return found


def _inverse_factor(matrices):
    """Returns R `[B, P, P]`, lower triangular, with R^T R the inverse of each matrix."""
    import numpy as np
    from scipy.linalg import lapack

    found = np.empty_like(matrices)
    for index in range(len(matrices)):
        upper = lapack.spotrf(matrices[index].T, lower=0, clean=1, overwrite_a=1)[0]
        found[index] = lapack.strtri(upper, lower=0, overwrite_c=1)[0].T
    return found


def by_tensorflow(learner, *, width: int):
    """Returns a graph: encoded support sets -> the learner's fast weights, for any number of users and rows.

    Args:
      learner: that adapts.
      width: of encoded users and items.
    """
    import tensorflow as tf

    from tfmeta.learners.task_tensors import Support

    def adapt(user, item, target, length):
        return learner.adapt(learner.init(user), Support(user=user, item=item, target=target, length=length))

    return tf.function(adapt, input_signature=[
        tf.TensorSpec([None, width]), tf.TensorSpec([None, None, width]), tf.TensorSpec([None, None]),
        tf.TensorSpec([None], tf.int32)])


def served(learner, *, width: int, folder: str):
    """Returns a function of a learner's support sets, arrays: its fast weights as the embedded server computes them.

    Args:
      learner: that adapts.
      width: of encoded users and items.
      folder: for the model, new.
    """
    import tensorflow as tf

    from tfmeta.serving.servable import Servable

    graph, module = by_tensorflow(learner, width=width).get_concrete_function(), tf.Module()
    # A tf.Module only finds variables that are attributes.
    module.slow_weights = list(graph.graph.variables)
    tf.saved_model.save(module, folder, signatures=graph)
    servable = Servable("adapt", 1, folder)
    return lambda *arrays: servable.run("serving_default", dict(zip(INPUTS, arrays, strict=True)))


def _with_covariance(values: dict) -> dict:
    """Returns arrays, the covariance `[B, P, P]` R^T R in the place of its factor R."""
    import numpy as np

    values = {key: np.asarray(value) for key, value in values.items()}
    if (factor := values.pop("factor", None)) is not None:
        values["covariance"] = factor.transpose(0, 2, 1) @ factor
    return values


def check(name: str, ours: dict, peer: dict) -> None:
    """Raises ValueError unless a learner's fast weights are those of a peer.

    Args:
      name: of the learner.
      ours: name -> tensor or array; a `factor` is one of the covariance.
      peer: the same.
    """
    import numpy as np

    found, peer = map(_with_covariance, (ours, peer))
    if found.keys() != peer.keys():
        raise ValueError(f"{name}: found {sorted(found)}, the peer {sorted(peer)}.")
    for key, value in found.items():
        error = np.abs(value - peer[key]).max()
        if not error < 1e-4:
            raise ValueError(f"{name}: the two solutions differ by {error} in '{key}'.")


Times = list[tuple[float, float]]  # seconds by the clock and of processor time, a pair a call


def alternate(calls: dict, *, repeats: int, bar) -> dict[str, Times]:
    """Calls functions in turn; returns the times of each."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 5):
        for name, call in calls.items():
            # Not counted: meanwhile the threads of the library called before go to sleep.
            call()
            processor, begin = time.process_time(), time.perf_counter()
            call()
            clock, processor = time.perf_counter() - begin, time.process_time() - processor
            if turn >= 5:
                times[name].append((clock, processor))
        bar.update(1)
    return times


def median(times: Times) -> float:
    return statistics.median(clock for clock, _ in times)


def best(times: Times) -> float:
    """Returns the fastest tenth's slowest call."""
    return sorted(clock for clock, _ in times)[len(times) // 10]


def processor(times: Times) -> float:
    return min(used for _, used in times)


STATISTICS = {"p50": median, "best": best, "cpu": processor}


def adaptation_rows(name: str, *, users: int, support: int, repeats: int, folder: str, bar) -> list[dict]:
    """Measures one learner at one size."""
    from benchmarks.numpy_learners import by_hand
    from tfmeta.learners.linear_head import head_width

    recommender = build(name)
    width = head_width(recommender.model)
    arrays = support_sets(users=users, support=support, width=width)
    graph = functools.partial(served(recommender.learner, width=width,
                                     folder=os.path.join(folder, f"adapt_{name}_{users}_{support}")), *arrays)
    covariance = name == "bayesian"
    peers = {solver: functools.partial(by_numpy, *arrays, solver=solver, covariance=covariance)
             for solver in (("inv", "potrf") if covariance else ("gesv", "posv"))}
    same = {"same": functools.partial(by_hand(recommender.learner), *arrays)} if name in AMORTISED else {}
    for peer in (same or peers).values():
        check(name, graph(), peer())
    seconds = alternate({"tfmeta": graph, **peers, **same}, repeats=repeats, bar=bar)
    solver = min(peers, key=lambda s: median(seconds[s]))
    where = {"learner": name, "users": users, "support": support, "weights": width, "threads": 1}
    rows = []
    for system, peer in (("tfmeta", "tfmeta"), (f"numpy_{solver}", solver), *((f"numpy_{s}", s) for s in same)):
        for kind, statistic in STATISTICS.items():
            rows.append({"workload": "closed_form", "system": system, "setting": where, "metric": f"adapt_{kind}_ms",
                         "value": round(1e3 * statistic(seconds[peer]), 4),
                         "ratio_to_ours": round(statistic(seconds[peer]) / statistic(seconds["tfmeta"]), 4)})
    return rows


def serving_rows(name: str, *, item_features: str, users: int, support: int, query: int, repeats: int, folder: str,
                 bar) -> list[dict]:
    """Measures the signatures of one exported learner.

    Args:
      name: of the learner.
      item_features: `catalogue`, items come by id and were encoded at export, or `request`, with their features.
      users, support, query: sizes of a request.
      repeats: calls of each signature.
      folder: for the model.
      bar: progress.
    """
    from benchmarks.serving_cost import catalogue, requests
    from export.exporter import export_model
    from tfmeta.serving.servable import Servable

    servable = Servable(name, 1, export_model(
        build(name), items=catalogue(), item_features=item_features, support_bound=100, check=False,
        model_base=os.path.join(folder, f"{name}_{item_features}")))
    calls = {signature: functools.partial(servable.run, signature, {k: v.numpy() for k, v in values.items()})
             for signature, values in requests(users=users, support=support, query=query,
                                               item_features=item_features == "request").items()}
    seconds = alternate(calls, repeats=repeats, bar=bar)
    where = {"learner": name, "item_features": item_features, "users": users, "support": support, "query": query,
             "threads": 1}
    values = {}
    for kind, statistic in STATISTICS.items():
        found = {signature: statistic(s) for signature, s in seconds.items()}
        values |= {f"{signature}_{kind}_ms": 1e3 * value for signature, value in found.items()}
        values["adapt_over_score" + ("" if kind == "p50" else f"_{kind}")] = (
            found["adapt_and_score"] / found["score"])
    return [{"workload": "serving", "system": "tfmeta", "setting": where, "metric": metric, "value": round(value, 4),
             "ratio_to_ours": 1.0} for metric, value in values.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--repeats", type=int, default=200, help="calls of each function")
    args = parser.parse_args()
    bind(1)
    # Read by TensorFlow and the BLAS when they start.
    os.environ.update(thread_environment(1))
    from tqdm import tqdm

    from export.signatures import ITEM_FEATURES
    from trainer.evaluation.environment import environment
    from trainer.evaluation.results_file import write_json

    rows = []
    total = (len(LEARNERS + AMORTISED) * len(SETTINGS) + len(SERVED) * len(ITEM_FEATURES)) * (args.repeats + 5)
    with (tqdm(total=total, unit="turn", file=sys.stderr, dynamic_ncols=True) as bar,
          tempfile.TemporaryDirectory() as folder):
        for name in LEARNERS + AMORTISED:
            for users, support in SETTINGS:
                bar.set_description(f"{name}: {users} users, {support} rows")
                rows += adaptation_rows(name, users=users, support=support, repeats=args.repeats, folder=folder,
                                        bar=bar)
        for name, mode in itertools.product(SERVED, ITEM_FEATURES):
            bar.set_description(f"{name}: serving, {mode}")
            rows += serving_rows(name, item_features=mode, users=64, support=20, query=100, repeats=args.repeats,
                                 folder=folder, bar=bar)
    write_json(args.out, environment={**environment(), "threads": 1}, rows=rows)
    print(json.dumps({"results": args.out, "adapt_over_score": {
        f"{r['setting']['learner']} {r['setting']['item_features']}": r["value"] for r in rows
        if r["metric"] == "adapt_over_score"},
        "over_ours": {f"{r['setting']['learner']} {r['setting']['users']}x{r['setting']['support']} {r['system']}":
                      r["ratio_to_ours"] for r in rows
                      if r["metric"] == "adapt_p50_ms" and r["system"] != "tfmeta"}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
