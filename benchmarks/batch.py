"""Batch scoring: throughput, memory and cost of `tfmeta batch-score`, beside the bare signature called in a loop.

    python -m benchmarks.batch [--users 25000 50000 100000] [--work DIR] [--out FILE]

Synthetic users with W1's features, 1 to 39 interactions (20 on average) and 20 candidates each, as Parquet files; W1's
model (or with `--model two_tower` the cheapest there is) with 5 inner steps and the catalogue in the graph, exported;
`adapt_and_score`. For each number of users
the job runs as a process of its own on `--threads` processors. `share_of_bare` compares it with the same signature
called in a loop on as many threads, on tensors that are ready: those that the job makes of its first users, in the same
batches. What the job does besides (reading, cleaning, grouping, padding, writing) is the difference.

Rows with `users: line` come of a straight line through the sizes: `..._start` is what a job of no users takes (imports,
the model, Beam), `..._us_per_user` what each user adds, `..._off_line` how far the sizes are off the line. The shares
per further user compare only that, by the clock and by processor time, which other work on the machine does not change.

`peak_rss_gib` is the most memory the job's process had; `cost_per_million_users` its processor time at `--price` a core
and hour. Rows are written after each size and kept from earlier runs of other sizes; with `--work`, an interrupted job
goes on where it was (its figures then count only the rest, and say `resumed`).
"""

import argparse
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.live_system import ROOT, thread_environment
from benchmarks.peers.worker import bind

RESULTS = pathlib.Path(__file__).parent / "results" / "batch.json"
NUM_ITEMS = 4_000
CANDIDATES, MEAN_SUPPORT = 20, 20
FILE_USERS = 50_000
SAMPLE_USERS = 8_192


def write_input(folder: str, *, users: int) -> None:
    """Writes interactions, candidates and users; the first files do not depend on how many users there are."""
    import numpy as np
    import pandas as pd

    from benchmarks import w1

    for number, begin in enumerate(range(0, users, FILE_USERS)):
        count = min(FILE_USERS, users - begin)
        rng = np.random.default_rng([7, number])
        ids = np.arange(begin, begin + count)
        owner = np.repeat(ids, rng.integers(1, 2 * MEAN_SUPPORT, count))
        asked = np.repeat(ids, CANDIDATES)
        frames = {
            "interactions": pd.DataFrame({
                "user_id": owner, "item_id": rng.integers(0, NUM_ITEMS, len(owner)),
                "rating": rng.integers(1, 6, len(owner)).astype(np.float32),
                "timestamp": rng.integers(0, 1 << 30, len(owner))}).sample(frac=1, random_state=number),
            "candidates": pd.DataFrame({"user_id": asked, "item_id": rng.integers(0, NUM_ITEMS, len(asked))}),
            "users": pd.DataFrame({"user_id": ids, **{f"user_{i}": rng.integers(0, size, count)
                                                      for i, size in enumerate(w1.USER_SIZES)}})}
        for kind, frame in frames.items():
            path = os.path.join(folder, kind, f"{number:04d}.parquet")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            frame.to_parquet(path, index=False)


def export(base: str, *, model: str) -> str:
    """Exports a model of `benchmarks.serving_cost`, unless it is there; returns its directory."""
    from benchmarks.serving_cost import catalogue, recommenders
    from export.exporter import export_model

    if not os.path.isdir(os.path.join(base, "1")):
        export_model(recommenders()[model], items=catalogue(), model_base=base, check=False)
    return os.path.join(base, "1")


def bare_calls(model: str, folder: str, work: str) -> tuple[object, list, int]:
    """Returns (the signature, its inputs call by call, users) as the job makes them of the first users."""
    from tfmeta.batch import score_shard
    from tfmeta.batch.batch_config import BatchConfig
    from tfmeta.batch.batch_job import BatchJob
    from tfmeta.batch.shard_scorer import ShardScorer
    from tfmeta.serving.servable import Servable

    import pyarrow.compute as pc  # isort: skip
    import pyarrow.parquet as pq  # isort: skip

    small = os.path.join(work, "sample")
    for kind in ("interactions", "candidates", "users"):
        os.makedirs(os.path.join(small, kind), exist_ok=True)
        table = pq.read_table(os.path.join(folder, kind, "0000.parquet"))
        pq.write_table(table.filter(pc.less(table["user_id"], SAMPLE_USERS)),
                       os.path.join(small, kind, "0.parquet"))
    calls, real = [], ShardScorer._run

    def record(self, inputs, rows):
        calls.append(self._call.values(inputs))
        return real(self, inputs, rows)

    ShardScorer._run = record
    try:
        summary = BatchJob(job_config(model, small, os.path.join(work, "sample_out"), BatchConfig, shards=1),
                           workers=1).run()
    finally:
        ShardScorer._run = real
    assert summary["rows"] and score_shard
    return Servable("bare", 1, model).call("adapt_and_score"), calls, min(SAMPLE_USERS, summary["kept"]["users"])


def job_config(model: str, folder: str, out: str, make, **settings):
    inputs = {kind: (os.path.join(folder, kind),) for kind in ("interactions", "candidates", "users")}
    return make(model=model, out=out, overwrite=True, **inputs, **settings)


def bare_loop(call, calls: list, *, users: int, threads: int, seconds: float) -> tuple[float, float]:
    """Calls the signature in a loop on some threads for a while; (users a second, processor seconds a user)."""
    turn = itertools.cycle(calls)
    call.run(calls[0])

    def loop(_):
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            call.run(next(turn))
            count += 1
        return count, time.perf_counter() - begin

    used = time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(loop, range(threads)))
    each = users / len(calls)
    return sum(n / s for n, s in done) * each, (time.process_time() - used) / (sum(n for n, _ in done) * each)


def run_job(model: str, folder: str, out: str, *, threads: int) -> dict:
    """Runs the command and returns its summary with `rss_gib`, `cpu_seconds` and `wall_seconds`."""
    arguments = [f"--{kind}={os.path.join(folder, kind)}" for kind in ("interactions", "candidates", "users")]
    command = [sys.executable, "-m", "tfmeta", "batch-score", "--model", model, *arguments, "--out", out,
               "--workers", str(threads), "--json"]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen(command, cwd=ROOT, stdout=answer,
                                   env={**os.environ, **thread_environment(threads), "PYTHONPATH": str(ROOT)})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"The job ended with {process.returncode}.")
        answer.seek(0)
        summary = json.loads(answer.read().splitlines()[-1])
    # The job is one process: threads share the model, and its memory is all there is.
    return {**summary, "rss_gib": usage.ru_maxrss / 2**20, "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "wall_seconds": time.perf_counter() - begin}


def with_marginal(rows: list[dict], *, model: str, threads: int) -> list[dict]:
    """Adds what one user more costs, from a straight line through the sizes, and how far they are off it."""
    import numpy as np

    same = [r["setting"]["model"] == model and r["setting"]["threads"] == threads for r in rows]
    same, rows = zip(*[(s, r) for s, r in zip(same, rows, strict=True) if not (s and r["setting"]["users"] == "line")],
                     strict=True)
    rows = list(rows)
    found: dict[str, dict[int, float]] = {}
    for own, row in zip(same, rows, strict=True):
        if own and not row["setting"].get("resumed"):
            found.setdefault(row["metric"], {})[row["setting"]["users"]] = row["value"]
    sizes = sorted(found.get("cpu_seconds", {}))
    if len(sizes) < 2:
        return rows
    setting = {"model": model, "users": "line", "sizes": sizes, "threads": threads}
    values = {}
    for metric in ("seconds", "cpu_seconds"):
        slope, start = np.polyfit(sizes, [found[metric][s] for s in sizes], 1)
        off = max(abs(slope * s + start - found[metric][s]) / found[metric][s] for s in sizes)
        values |= {f"{metric}_start": start, f"{metric}_us_per_user": 1e6 * slope, f"{metric}_off_line": off}
    bare = float(np.mean(list(found["bare_cpu_us_per_user"].values())))
    speed = float(np.mean(list(found["bare_users_per_s"].values())))
    values["share_of_bare_cpu_per_further_user"] = bare / values["cpu_seconds_us_per_user"]
    values["share_of_bare_per_further_user"] = 1e6 / values["seconds_us_per_user"] / speed
    return rows + [{"workload": "batch", "system": "tfmeta", "setting": setting, "metric": metric,
                    "value": round(float(value), 4), "ratio_to_ours": 1.0} for metric, value in values.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    parser.add_argument("--model", choices=("embedding", "two_tower"), default="embedding",
                        help="embedding is W1's (default)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the two loops of bare calls")
    parser.add_argument("--price", type=float, default=0.05, help="of one core for one hour, in dollars")
    parser.add_argument("--work", help="directory for input and output, kept; by default a temporary one")
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    args = parser.parse_args()
    bind(args.threads)
    os.environ.update(thread_environment(args.threads))
    from trainer.evaluation.environment import environment
    from trainer.evaluation.results_file import read_json, write_json

    work = args.work or tempfile.mkdtemp()
    rows = read_json(args.out)["rows"] if os.path.exists(args.out) else []
    try:
        model = export(os.path.join(work, args.model), model=args.model)
        for users in sorted(args.users):
            folder, out = os.path.join(work, f"input-{users}"), os.path.join(work, f"out-{args.model}-{users}")
            if not os.path.exists(os.path.join(folder, "done")):
                write_input(folder, users=users)
                pathlib.Path(folder, "done").touch()
            call, calls, sample = bare_calls(model, folder, work)
            if os.path.exists(os.path.join(out, "_summary.json")):
                shutil.rmtree(out)  # Of an earlier measurement.
            resumed = os.path.exists(os.path.join(out, "_work"))
            # Before and after the job, so that what else the machine does counts for both.
            loops = [bare_loop(call, calls, users=sample, threads=args.threads, seconds=args.seconds)]
            summary = run_job(model, folder, out, threads=args.threads)
            loops.append(bare_loop(call, calls, users=sample, threads=args.threads, seconds=args.seconds))
            assert summary["rows"] == users * CANDIDATES, summary
            setting = {"model": args.model, "users": users, "interactions": MEAN_SUPPORT, "candidates": CANDIDATES,
                       "inner_steps": 5, "threads": args.threads, **({"resumed": True} if resumed else {})}
            bare, bare_cpu = (sum(values) / 2 for values in zip(*loops, strict=True))
            values = {"users_per_s": users / summary["seconds"], "bare_users_per_s": bare,
                      "share_of_bare": users / summary["seconds"] / bare, "seconds": summary["seconds"],
                      "wall_seconds": summary["wall_seconds"], "cpu_seconds": summary["cpu_seconds"],
                      "bare_cpu_us_per_user": 1e6 * bare_cpu,
                      "peak_rss_gib": summary["rss_gib"],
                      "core_hours_per_million_users": summary["cpu_seconds"] / 3600 * 1e6 / users,
                      "cost_per_million_users": summary["cpu_seconds"] / 3600 * 1e6 / users * args.price}
            rows = [r for r in rows if any(r["setting"][k] != setting[k] for k in ("model", "users", "threads"))]
            rows += [{"workload": "batch", "system": "tfmeta", "setting": setting, "metric": metric,
                      "value": round(value, 4), "ratio_to_ours": 1.0} for metric, value in values.items()]
            rows = with_marginal(rows, model=args.model, threads=args.threads)
            write_json(args.out, environment={**environment(), "threads": args.threads,
                                              "price_per_core_hour": args.price}, rows=rows)
            print(json.dumps({"users": users, **{k: round(v, 3) for k, v in values.items()}}), flush=True)
            if not args.work:
                shutil.rmtree(out)
                shutil.rmtree(folder)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
