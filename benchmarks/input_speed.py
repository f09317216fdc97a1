"""The task pipeline against the training step it feeds, and data preparation.

    python -m benchmarks.input_speed [--source DIR] [--out FILE]

Interactions are written to a temporary `train.parquet`, far more than the streaming sampler may hold. In turn, A B A B,
one process lets each sampler deliver meta-batches of W1's shape (support 20, query 10) and trains W1 on meta-batches
that are there already; all have the same threads, and the median of the rounds counts. `pipeline_over_training` is the
sampler's tasks a second over the step's, with one inner step, where the step is fastest; `fed_over_training` is the
step fed by the streaming sampler over the step alone. Further processes run epoch after epoch and record the resident
memory at the end of each. With `--source`, a directory with MovieLens-1M's raw files, `tfmeta data prepare` is timed
as a whole process, start included; the default is `$SOURCE`, or where `$TFMETA_SHARED` has it.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks import w1
from benchmarks.live_system import ROOT, thread_environment
from benchmarks.peers.worker import bind
from tfmeta.data.prepared_tables import ROWS_PER_GROUP
from trainer.evaluation.environment import environment
from trainer.evaluation.results_file import write_json

RESULTS = pathlib.Path(__file__).parent / "results" / "input_speed.json"
SYSTEMS = {"streaming": "tfmeta_streaming", "memory": "tfmeta_in_memory"}
# Interactions of a user: log-normal, 165 on average and up to thousands, as in MovieLens-1M.
_LENGTH = {"mean": 4.4, "sigma": 1.1}
_SHORTEST, _LONGEST = w1.W1.support + w1.W1.query, 3_000


def write_interactions(path: str, *, rows: int, seed: int = 0) -> int:
    """Writes about `rows` random interactions, a row group at a time; returns their number."""
    schema = pa.schema([("user_row", pa.int32()), ("item_row", pa.int32()), ("label", pa.float32()),
                        ("time", pa.int64())])
    rng, written, user = np.random.default_rng([seed, 1]), 0, 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while written < rows:
            length = np.exp(rng.normal(_LENGTH["mean"], _LENGTH["sigma"], 2_000)).astype(int)
            length = np.clip(length, _SHORTEST, _LONGEST)
            length = length[:max(1, int(np.searchsorted(np.cumsum(length), ROWS_PER_GROUP)))]
            number = int(length.sum())
            writer.write_table(pa.table(
                {"user_row": np.repeat(np.arange(user, user + len(length), dtype=np.int32), length),
                 "item_row": rng.integers(0, w1.NUM_ITEMS, number).astype(np.int32),
                 "label": rng.integers(1, 6, number).astype(np.float32),
                 "time": np.arange(number, dtype=np.int64)}, schema=schema), row_group_size=number)
            written, user = written + number, user + len(length)
    return written


def sampler_of(kind: str, path: str, *, tasks: int, max_rows: int):
    """Returns the sampler `streaming` or `memory` of a `train.parquet`, drawing tasks of W1's shape."""
    from tfmeta.data.streaming_task_sampler import StreamingTaskSampler
    from tfmeta.data.task_sampler import TaskSampler
    from tfmeta.data.task_sampler_config import TaskSamplerConfig
    from tfmeta.data.training_rows import TrainingRows

    config = TaskSamplerConfig(query_size=w1.W1.query, support_size=(w1.W1.support, w1.W1.support),
                               min_interactions=_SHORTEST, max_interactions=None, meta_batch_size=tasks,
                               max_rows_in_memory=max_rows)
    cls = StreamingTaskSampler if kind == "streaming" else TaskSampler
    return cls(TrainingRows(path), config=config, label=w1.feature_spec().label)


def measure_speed(path: str, *, max_rows: int, tasks: list[int], inner_steps: list[int], rounds: int,
                  block_seconds: float, note) -> dict[tuple, float]:
    """Returns tasks a second, medians of blocks in turn.

    Keys are `(what, tasks, inner steps)`: what is `streaming` or `memory` for a sampler alone (inner steps None),
    `step` for the training step on meta-batches that are there already, and `fed` for the step fed by the streaming
    sampler.
    """
    blocks = {}
    samplers = {(kind, size): sampler_of(kind, path, tasks=size, max_rows=max_rows) for size in tasks
                for kind in SYSTEMS}
    for (kind, size), sampler in samplers.items():
        blocks[kind, size, None] = functools.partial(_deliver, sampler.batches, lambda batch: None)
    for steps in inner_steps:
        outer = w1.outer_step(w1.W1(inner_steps=steps), w1.build(w1.W1(inner_steps=steps)))  # for any number of tasks
        for size in tasks:
            ready = itertools.cycle(w1.batches(w1.W1(inner_steps=steps, tasks=size)))
            outer(next(ready))
            blocks["step", size, steps] = functools.partial(_train, outer, ready)
            # W1 has fewer users than the interactions.
            blocks["fed", size, steps] = functools.partial(
                _deliver, samplers["streaming", size].batches,
                lambda batch, outer=outer: outer(batch._replace(user_row=batch.user_row % w1.NUM_USERS)))
    found = {key: [] for key in blocks}
    for turn in range(rounds):
        note(f"speed, round {turn + 1} of {rounds}")
        for key, block in blocks.items():
            found[key].append(block(block_seconds) * key[1])
    return {key: statistics.median(values) for key, values in found.items()}


def _deliver(start, use, seconds: float) -> float:
    """Returns batches a second that a new pipeline, made by `start`, gives to `use`; its beginning is left out."""
    batches = start()
    begin, number = time.perf_counter(), 0
    while time.perf_counter() - begin < 0.4:
        use(next(batches))
    begin = time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        use(next(batches))
        number += 1
    batches.close()  # its threads end here, not in the next block
    return number / passed


def _train(outer, batches, seconds: float) -> float:
    """Returns outer steps a second."""
    outer(next(batches))
    begin, number = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        outer(next(batches))
        number += 1
    return number / passed


def epochs_memory(kind: str, path: str, *, max_rows: int, epochs: int, tasks: int) -> dict:
    """Runs a sampler's pipeline; returns the process's resident memory in MiB at its `start` and after each epoch,
    and its `peak`."""
    import tensorflow as tf

    tf.constant(0) + 1  # starts TensorFlow
    start = _status("VmRSS")
    sampler = sampler_of(kind, path, tasks=tasks, max_rows=max_rows)
    steps, found = sampler.steps_per_epoch, []
    batches = sampler.batches(stop_step=epochs * steps)
    for _ in range(epochs):
        for _ in range(steps):
            next(batches)
        found.append(_status("VmRSS"))
    return {"start": start, "epochs": found, "peak": _status("VmHWM")}


def _status(name: str) -> float:
    for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def prepare_seconds(source: str, folder: str, *, repeats: int = 3) -> float:
    """Returns the median seconds of `tfmeta data prepare` on MovieLens-1M, as whole processes."""
    found = []
    for repeat in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tfmeta", "data", "prepare", "--dataset", "ml-1m", "--source", source,
                        "--out", os.path.join(folder, f"ml-1m-{repeat}")], cwd=ROOT, check=True, capture_output=True)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def speed_rows(speed: dict[tuple, float], *, where: dict) -> list[dict]:
    """Returns the result rows of `measure_speed`; ratios to ours are to the training step."""
    rows = []
    fastest = {size: max(v for k, v in speed.items() if k[0] == "step" and k[1] == size) for _, size, _ in speed}
    for (what, size, steps), value in speed.items():
        setting = {"tasks": size, **({} if steps is None else {"inner_steps": steps}), **where}
        step = fastest[size] if steps is None else speed["step", size, steps]
        system = {"step": "tfmeta_training_step", "fed": "tfmeta_training_step_fed", **SYSTEMS}[what]
        rows.append(_row(system, setting, "tasks_per_s", round(value, 1), round(value / step, 4)))
        if what != "step":
            metric = "fed_over_training" if what == "fed" else "pipeline_over_training"
            rows.append(_row(system, setting, metric, round(value / step, 4)))
    return rows


def memory_rows(kind: str, memory: dict, *, where: dict) -> list[dict]:
    """Returns the result rows of `epochs_memory`; growth is the last epoch's memory over the second's, minus 1."""
    rows = [_row(SYSTEMS[kind], {"epoch": epoch, **where}, "rss_mib", round(value, 1))
            for epoch, value in enumerate([memory["start"], *memory["epochs"]])]
    return [*rows, _row(SYSTEMS[kind], where, "peak_rss_mib", round(memory["peak"], 1)),
            _row(SYSTEMS[kind], {"epochs": len(memory["epochs"]), **where}, "rss_growth",
                 round(memory["epochs"][-1] / memory["epochs"][1] - 1, 4))]


def _row(system: str, setting: dict, metric: str, value: float, ratio: float | None = None) -> dict:
    return {"workload": "input", "system": system, "setting": setting, "metric": metric, "value": value,
            "ratio_to_ours": ratio}


def _default_source() -> str | None:
    shared = os.environ.get("TFMETA_SHARED", str(ROOT.parent / "shared"))
    given = os.environ.get("SOURCE") or os.path.join(shared, "data", "ml-1m")
    return given if os.path.isdir(given) else None


def _child(arguments: argparse.Namespace, part: str, path: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.input_speed", "--part", part, "--path", path]
    for name in ("max_rows", "rounds", "epochs", "threads", "block_seconds"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, **thread_environment(arguments.threads), "PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise SystemExit(f"input_speed: error: part '{part}' ended with exit code {done.returncode}.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _run_part(args: argparse.Namespace, note) -> None:
    """A child's work: prints one line of JSON."""
    if args.part == "speed":
        speed = measure_speed(args.path, max_rows=args.max_rows, tasks=[32, 256], inner_steps=[1, 5],
                              rounds=args.rounds, block_seconds=args.block_seconds, note=note)
        print(json.dumps([[*key, value] for key, value in speed.items()]))
    else:
        print(json.dumps(epochs_memory(args.part, args.path, max_rows=args.max_rows, epochs=args.epochs, tasks=256)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--source", default=_default_source(), help="raw files of MovieLens-1M")
    parser.add_argument("--rows", type=int, default=20_000_000, help="interactions (default 20 million)")
    parser.add_argument("--max-rows", type=int, default=2_000_000,
                        help="interactions the streaming sampler may hold (default 2 million)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block-seconds", type=float, default=0.6)
    parser.add_argument("--epochs", type=int, default=5, help="epochs whose memory is recorded")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("speed", *SYSTEMS), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tqdm(unit="s", file=sys.stderr, bar_format="{desc} [{elapsed}]") as bar:
        if args.part:
            bind(args.threads)
            _run_part(args, bar.set_description_str)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            rows = _measure(args, folder, bar.set_description_str)
    write_json(args.out, environment={**environment(), "threads": args.threads}, rows=rows)
    print(json.dumps({"results": args.out, **_goals(rows)}))
    return 0


def _measure(args: argparse.Namespace, folder: str, note) -> list[dict]:
    path, rows = os.path.join(folder, "train.parquet"), []
    note("write interactions")
    written = write_interactions(path, rows=args.rows)
    where = {"interactions": written, "max_rows_in_memory": args.max_rows, "threads": args.threads}
    note("speed")
    speed = {(what, size, steps): value for what, size, steps, value in _child(args, "speed", path)}
    rows += speed_rows(speed, where=where)
    for kind in SYSTEMS:
        note(f"memory, {kind}")
        rows += memory_rows(kind, _child(args, kind, path), where=where)
    if args.source:
        note("prepare MovieLens-1M")
        rows.append(_row("tfmeta", {"dataset": "ml-1m"}, "prepare_s", round(prepare_seconds(args.source, folder), 2)))
    else:
        print("Without --source, preparing MovieLens-1M is not timed.", file=sys.stderr)
    return rows


def _goals(rows: list[dict]) -> dict[str, str]:
    """Returns the figures beside their goals, in words."""
    def of(metric: str) -> list[float]:
        return [r["value"] for r in rows if r["metric"] == metric]

    found = {"pipeline over training step, least": f"{min(of('pipeline_over_training')):.2f} (goal 3 or more)",
             "memory growth over epochs, most": f"{max(of('rss_growth')):.1%} (goal 5% or less)"}
    if of("prepare_s"):
        found["prepare MovieLens-1M"] = f"{of('prepare_s')[0]:.1f} s (goal below 10 s)"
    return found


if __name__ == "__main__":
    raise SystemExit(main())
