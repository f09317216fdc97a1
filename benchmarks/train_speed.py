"""W1 in tfmeta and in its peers, measured in turn: tasks a second, ratios, agreement of the losses.

    python -m benchmarks.train_speed [--out FILE] [--inner-steps 1 5] [--tasks 32 256] [--orders 2 1]

All systems of a setting are live processes bound to the same processors. First each does 10 outer steps from the same
initial values on the same tasks, and the losses are compared; then they do short blocks in turn, A B C A B C, and the
median over the blocks counts. `tfmeta` is the product's outer step with its lazy Adam; `tfmeta_dense_adam` the same
step with Adam on whole tables, which is what the peers do, and whose losses must agree with theirs.
`matrix_products` is not a system but the limit of the plain algorithm: its matrix products (`w1.plain_flops`) at the
rate of a large product by NumPy, measured in the same turns; the best of the whole run counts, because it is a limit.

Peers run in an environment of their own (`make bench-peers-env`). PyTorch is optional: without it its rows are missing.
"""

import argparse
import functools
import json
import pathlib
import statistics
import sys
import tempfile
from contextlib import ExitStack

import numpy as np
from tqdm import tqdm

from benchmarks import w1
from benchmarks.live_system import LiveSystem, SystemFailed, has_module, ours, peer_python
from benchmarks.peers import matrix_products
from trainer.evaluation.environment import environment
from trainer.evaluation.results_file import write_json

RESULTS = pathlib.Path(__file__).parent / "results" / "train_speed.json"
# System -> (module, what it imports, the largest meta-batch it is measured at).
PEERS = {"jax": ("jax_vmap", "jax", 10_000), "torch_func": ("torch_func", "torch", 10_000),
         "torch_loop": ("torch_loop", "torch", 32)}
CHECKED_STEPS = 10
# Largest relative difference of a loss from tfmeta's with the same optimizer. PyTorch adds Adam's epsilon elsewhere.
TOLERANCE = {"jax": 1e-4, "torch_func": 1e-3, "torch_loop": 1e-3}


def commands(setting: w1.W1, *, arrays: str, threads: int,
             peers: tuple[str, ...] = tuple(PEERS)) -> dict[str, list[str]]:
    """Returns the command line of each system that can be run here."""
    options = ["--inner-steps", str(setting.inner_steps), "--order", str(setting.order), "--threads", str(threads)]
    shape = ["--tasks", str(setting.tasks), "--support", str(setting.support), "--query", str(setting.query),
             "--batches", str(setting.batches), "--seed", str(setting.seed)]
    found = {name: [ours(), "-m", "benchmarks.tfmeta_worker", *options, *shape, "--adam", adam]
             for name, adam in (("tfmeta", "lazy"), ("tfmeta_dense_adam", "dense"))}
    python = peer_python()
    for name, (module, needs, largest) in PEERS.items() if python else ():
        if name in peers and setting.tasks <= largest and has_module(python, needs):
            found[name] = [python, "-m", f"benchmarks.peers.{module}", arrays, *options]
    found["matrix_products"] = [ours(), "-m", "benchmarks.peers.matrix_products", arrays, "--threads", str(threads)]
    return found


def measure(setting: w1.W1, *, threads: int, rounds: int, block_seconds: float, note,
            peers: tuple[str, ...] = tuple(PEERS)) -> dict:
    """Measures all systems at one setting.

    Args:
      setting: of W1.
      threads: processors of each system.
      rounds: blocks of each system.
      block_seconds: length of a block.
      note: called with a text at every stage.
      peers: which of them to measure.

    Returns:
      `seconds` per step (median over blocks; the least for `matrix_products`), `best`, the least of each, `losses` of
      the first steps, and `versions`, each by system.

    Raises:
      SystemFailed: if one ends early or a peer's losses differ from tfmeta's.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        arrays = str(pathlib.Path(folder) / "w1.npz")
        np.savez(arrays, **setting.arrays())
        note("start")
        live = {name: stack.enter_context(LiveSystem(name, command, threads=threads))
                for name, command in commands(setting, arrays=arrays, threads=threads, peers=peers).items()}
        versions = {}
        for system in live.values():
            versions |= system.ready().about["versions"]
        note("check")
        losses, steps = {}, {}
        for name, system in live.items():
            losses[name] = system.run(CHECKED_STEPS)["losses"]
            once = system.run(2)["seconds"] / 2
            steps[name] = max(1, round(block_seconds / once))
        check_losses(losses)
        seconds = {name: [] for name in live}
        for turn in range(rounds):
            note(f"round {turn + 1}/{rounds}")
            for name, system in live.items():
                if steps[name] > 1:
                    system.run(1)
                seconds[name].append(system.run(steps[name])["seconds"] / steps[name])
    del losses["matrix_products"]
    best = {name: min(values) for name, values in seconds.items()}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": {**median, "matrix_products": best["matrix_products"]}, "best": best,
            "losses": losses, "versions": versions}


def check_losses(losses: dict[str, list[float]]) -> None:
    """Raises SystemFailed where a peer computes other losses than tfmeta does with the same optimizer."""
    for name, tolerance in TOLERANCE.items():
        if name in losses and (difference := loss_difference(losses, name)) > tolerance:
            raise SystemFailed(f"{name}'s losses differ from tfmeta's by {difference:.2g} (allowed {tolerance}): "
                               f"{losses[name]} against {losses['tfmeta_dense_adam']}")
    first = losses["tfmeta"][0], losses["tfmeta_dense_adam"][0]
    if abs(first[0] / first[1] - 1) > 1e-5:
        raise SystemFailed(f"tfmeta's first loss depends on the optimizer: {first}")


def loss_difference(losses: dict[str, list[float]], name: str) -> float:
    """Returns the largest relative difference of a system's losses from tfmeta's with the same optimizer."""
    reference = np.asarray(losses["tfmeta_dense_adam"])
    return float(np.max(np.abs(np.asarray(losses[name]) / reference - 1)))


def rows_of(setting: w1.W1, measured: dict, *, threads: int) -> list[dict]:
    """Returns the result rows of one setting; `with_limits` adds the bound."""
    where = {"inner_steps": setting.inner_steps, "tasks": setting.tasks, "order": setting.order, "threads": threads}
    speed = {name: setting.tasks / value for name, value in measured["seconds"].items() if name != "matrix_products"}
    peak = matrix_products.FLOPS / measured["seconds"]["matrix_products"]
    row = functools.partial(_row, where)
    rows = [row(name, "tasks_per_s", round(value, 1), round(value / speed["tfmeta"], 4))
            for name, value in speed.items()]
    rows += [row(name, "tasks_per_s_best_block", round(setting.tasks / value, 1), None)
             for name, value in measured["best"].items() if name != "matrix_products"]
    rows.append(row("matrix_products", "gflop_per_s", round(peak / 1e9, 1), None))
    rows += [row(name, "loss_difference_10_steps", loss_difference(measured["losses"], name), None)
             for name in PEERS if name in measured["losses"]]
    return rows


def with_limits(rows: list[dict]) -> list[dict]:
    """Adds the bound of each setting, at the best `gflop_per_s` of the run, and tfmeta's share of it."""
    peak = 1e9 * max(r["value"] for r in rows if r["metric"] == "gflop_per_s")
    added = []
    for row in rows:
        if row["system"] == "tfmeta" and row["metric"] == "tasks_per_s":
            where = row["setting"]
            bound = peak / w1.plain_flops(w1.W1(inner_steps=where["inner_steps"], order=where["order"]))
            added += [_row(where, "matrix_products", "tasks_per_s", round(bound, 1), round(bound / row["value"], 4)),
                      _row(where, "tfmeta", "share_of_matrix_product_bound", round(row["value"] / bound, 4), None)]
    return rows + added


def _row(where: dict, system: str, metric: str, value: float, ratio: float | None) -> dict:
    return {"workload": "W1", "system": system, "setting": where, "metric": metric, "value": value,
            "ratio_to_ours": ratio}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--inner-steps", type=int, nargs="+", default=[5, 1])
    parser.add_argument("--tasks", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--orders", type=int, nargs="+", default=[2, 1], choices=(1, 2))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), help="default all of them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each system (default 7)")
    parser.add_argument("--block-seconds", type=float, default=0.4)
    args = parser.parse_args()
    if peer_python() is None:
        print("The peers' environment is missing, so tfmeta alone is measured; 'make bench-peers-env' makes it.",
              file=sys.stderr)
    # Before anything runs: the commit is that of the code that was measured.
    head = environment()
    settings = [w1.W1(inner_steps=steps, tasks=tasks, order=order)
                for order in args.orders for tasks in args.tasks for steps in args.inner_steps]
    rows, versions = [], {}
    with tqdm(total=len(settings) * (args.rounds + 2), unit="stage", file=sys.stderr, dynamic_ncols=True) as bar:
        for setting in settings:
            def note(text: str, setting=setting) -> None:
                bar.set_description(f"order {setting.order}, {setting.tasks} tasks, "
                                    f"{setting.inner_steps} inner steps: {text}")
                bar.update(1)

            try:
                measured = measure(setting, threads=args.threads, rounds=args.rounds,
                                   block_seconds=args.block_seconds, note=note, peers=tuple(args.peers))
            except SystemFailed as error:
                print(f"\ntrain_speed: error: {error}", file=sys.stderr)
                return 1
            rows += rows_of(setting, measured, threads=args.threads)
            versions |= measured["versions"]
    head["versions"] |= versions
    write_json(args.out, environment={**head, "threads": args.threads}, rows=with_limits(rows))
    print(json.dumps({"results": args.out}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
