"""What serving costs: the embedded server against the same signature called in one process.

    python -m benchmarks.serving [--out FILE] [--rounds 3] [--seconds 0.6]
    python -m benchmarks.serving --sweep [--out FILE]       parameters of request batching, 32 clients

The model is W1's (MLP 256-64-64-1, one and five inner steps) exported with a catalogue of 4,000 items, and a two-tower
model with a ridge head for the lists. A request is one user with 20 support rows and 100 candidates, as far as the
signature reads them (`embed_items`: one item). Server, client
and in-process caller are processes of their own on the same processors, and take turns in short blocks: what else the
machine does hits all of them alike, and the client's cost is in the server's figures. A row's `ratio_to_ours` is the
median over rounds of its value over that of the in-process calls of the same round: one thread beside one client, four
threads beside several. What a lone `adapt_and_score` waits for the server is a difference of one millisecond between
times that wander by as much within seconds, so it is taken from many short pairs. `cpu_ms` is the processor time of a
request in the process that runs the model, which what else the machine does hardly changes.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile

import numpy as np

from benchmarks.live_system import RESULTS_FOLDER, LiveSystem, ours, thread_environment
from benchmarks.peers.worker import bind
from benchmarks.serving_requests import CANDIDATES, NUM_ITEMS, SUPPORT, arrays

RESULTS = RESULTS_FOLDER / "serving.json"
# (model, signature); those of LONG in blocks of the full length.
LONG = (("w1_5", "score"), ("w1_1", "adapt_and_score"), ("w1_5", "adapt_and_score"), ("list", "recommend"))
WORKLOADS = (*LONG, ("list", "adapt_and_recommend"), *(("w1_5", signature) for signature in (
    "adapt", "score_with_state", "explain", "embed_items", "score_examples", "adapt_and_score_examples")))
# Compared in SHORT_PAIRS blocks of SHORT_SECONDS a round where there is one client.
LONE, SHORT_PAIRS, SHORT_SECONDS = ("w1_5", "adapt_and_score"), 8, 0.2
STEPS = {"w1_1": 1, "w1_5": 5, "list": None}
CONCURRENCY = (1, 8, 32)
IN_PROCESS_THREADS = 4
# What the sweep varies: rows of a batch, microseconds, batches at the same time.
SWEEP = tuple(itertools.product((16, 32), (0, 500, 2000), (1, 2, 4)))
_METRICS = ("p50_ms", "p99_ms", "per_s", "cpu_ms")


def parameters(*, size: int, timeout: int, threads: int) -> str:
    """Returns BatchingParameters in text format."""
    sizes = [s for s in (1, 2, 4, 8, 16, 32, 64) if s <= size]
    return (f"max_batch_size {{ value: {size} }}\nbatch_timeout_micros {{ value: {timeout} }}\n"
            f"max_enqueued_batches {{ value: 100 }}\nnum_batch_threads {{ value: {threads} }}\n"
            + "".join(f"allowed_batch_sizes: {s}\n" for s in sizes) + "pad_variable_length_inputs: true\n")


def export_models(folder: str, names) -> dict[str, str]:
    """Exports what is measured; returns model name -> base path."""
    from benchmarks import w1
    from benchmarks.serving_cost import catalogue
    from export.exporter import export_model
    from tfmeta.models.recommender import build_recommender

    if len(catalogue()) != NUM_ITEMS:
        raise ValueError(f"The catalogue requires {NUM_ITEMS} items.")
    bases = {}
    for name in names:
        recommender = (build_recommender(w1.feature_spec(), learner={"name": "ridge"}) if name == "list"
                       else w1.build(w1.W1(inner_steps=STEPS[name])))
        bases[name] = os.path.join(folder, name)
        if not os.path.exists(bases[name]):
            export_model(recommender, items=catalogue(), model_base=bases[name], check=False)
    return bases


def write_states(base: str, path: str) -> None:
    """Adapts to the benchmark's supports with a model, for requests of `score_with_state`."""
    from tfmeta.serving.servable import Servable

    servable = Servable("states", 1, os.path.join(base, "1"))
    found = [servable.run("adapt", inputs) for inputs in arrays("adapt")]
    servable.close()
    np.savez(path, user_state=np.concatenate([f["user_state"] for f in found]),
             state_model=np.concatenate([f["state_model"] for f in found]).astype("S"))


@contextlib.contextmanager
def serving(bases: dict[str, str], *, threads: int, options=()):
    """Yields a running `tfmeta serve`; `about` has its addresses."""
    command = [ours(), "-m", "tfmeta", "serve", "--json", "--grpc-port", "0", "--rest-port", "0", "--no-warm-up",
               *options, *(part for name, base in bases.items() for part in ("--model-base", f"{name}={base}"))]
    with LiveSystem("tfmeta serve", command, threads=threads) as system:
        try:
            yield system.ready()
        finally:
            system.terminate()


def ask_client(client: LiveSystem, server: LiveSystem, *, protocol: str, **block) -> dict[str, float]:
    """Measures a block of requests to a server, with the server's processor time."""
    before = server.cpu_seconds()
    answer = client.ask(json.dumps({**block, "protocol": protocol, "address": server.about[f"{protocol}_address"]}))
    return {**answer, "cpu_ms": 1e3 * (server.cpu_seconds() - before) / answer["requests"]}


def ask_in_process(limit: LiveSystem, **block) -> dict[str, float]:
    """Measures a block of calls in the model's own process."""
    answer = limit.ask(json.dumps(block))
    return {**answer, "cpu_ms": 1e3 * answer["cpu_s"] / answer["requests"]}


def rows_of(pairs: list[tuple[dict, dict]], *, system: str, setting: dict) -> list[dict]:
    """Returns rows of a results file from (block of the system, in-process block) of each round."""
    rows = []
    for metric in _METRICS:
        values = [mine[metric] for mine, _ in pairs]
        ratios = [mine[metric] / limit[metric] for mine, limit in pairs]
        rows.append({"workload": "serving", "system": system, "setting": setting, "metric": metric,
                     "value": round(statistics.median(values), 4),
                     "ratio_to_ours": round(statistics.median(ratios), 4)})
    if system != "in_process" and setting["concurrency"] == 1:
        above = statistics.median(mine["p50_ms"] - limit["p50_ms"] for mine, limit in pairs)
        rows.append({"workload": "serving", "system": system, "setting": setting, "metric": "p50_above_in_process_ms",
                     "value": round(above, 4), "ratio_to_ours": None})
    return rows


def compare(folder: str, *, threads: int, rounds: int, seconds: float, batching: str, bar) -> list[dict]:
    """Measures in-process calls and servers without and with batching in turns; returns rows."""
    bases, states = export_models(folder, STEPS), os.path.join(folder, "states.npz")
    write_states(bases["w1_5"], states)
    found: dict[tuple, list[tuple[dict, dict]]] = {}
    in_process = [ours(), "-m", "benchmarks.serving_worker", "in_process",
                  json.dumps({name: os.path.join(base, "1") for name, base in bases.items()})]
    with (LiveSystem("in-process", in_process, threads=threads) as limit,
          LiveSystem("client", [ours(), "-m", "benchmarks.serving_worker", "client"], threads=threads) as client,
          serving(bases, threads=threads) as plain,
          serving(bases, threads=threads, options=("--batching-parameters-file", batching)) as batched):
        limit.ready(), client.ready()
        # The first call to a signature builds its graph, in each process.
        for model, signature in WORKLOADS:
            block = {"model": model, "signature": signature, "states": states, "seconds": 0.2, "concurrency": 1}
            ask_in_process(limit, **block)
            for server, protocol in itertools.product((plain, batched), ("grpc", "rest")):
                ask_client(client, server, **block, protocol=protocol)
        for _ in range(rounds):
            for (model, signature), concurrency in itertools.product(WORKLOADS, CONCURRENCY):
                block = {"model": model, "signature": signature, "states": states,
                         "seconds": seconds if (model, signature) in LONG else seconds / 2}
                pairs = 1
                if (model, signature) == LONE and concurrency == 1:
                    pairs, block["seconds"] = SHORT_PAIRS, SHORT_SECONDS
                bar.set_description(f"{signature}, {concurrency} clients")
                for _ in range(pairs):
                    base = ask_in_process(limit, **block, concurrency=1 if concurrency == 1 else IN_PROCESS_THREADS)
                    found.setdefault(("in_process", model, signature, concurrency, None), []).append((base, base))
                    ways = [("grpc", plain, False), ("grpc", batched, True), ("rest", plain, False),
                            ("rest", batched, True)]
                    for protocol, server, merged in ways if (model, signature) in LONG else ways[:3]:
                        answer = ask_client(client, server, **block, concurrency=concurrency, protocol=protocol)
                        found.setdefault((f"embedded_{protocol}", model, signature, concurrency, merged), []).append(
                            (answer, base))
                bar.update(1)
    rows = []
    for (system, model, signature, concurrency, merged), pairs in found.items():
        setting = {"model": model, "signature": signature, "inner_steps": STEPS[model], "concurrency": concurrency,
                   "support": SUPPORT, "candidates": CANDIDATES, "threads": threads}
        if system == "in_process":
            # Concurrency beyond four is the servers' own: in process four threads stand for both.
            if concurrency == CONCURRENCY[-1]:
                continue
            setting["concurrency"] = 1 if concurrency == 1 else IN_PROCESS_THREADS
        else:
            setting["batching"] = merged
        rows += rows_of(pairs, system=system, setting=setting)
    return rows


def sweep(folder: str, *, threads: int, rounds: int, seconds: float, bar) -> list[dict]:
    """Measures parameters of batching side by side in one server, a model name each; returns rows."""
    base = export_models(folder, ["w1_5"])["w1_5"]
    names = {}
    for size, timeout, slots in SWEEP:
        name = f"b{size}_t{timeout}_n{slots}"
        names[name] = {"max_batch_size": size, "batch_timeout_micros": timeout, "num_batch_threads": slots}
        path = os.path.join(folder, name, "1")
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(os.path.join(base, "1"), path)
        with open(os.path.join(path, "batching_params.pbtxt"), "w", encoding="utf-8") as file:
            file.write(parameters(size=size, timeout=timeout, threads=slots))
    bases = {name: os.path.join(folder, name) for name in names}
    found: dict[tuple, list[tuple[dict, dict]]] = {}
    with (LiveSystem("client", [ours(), "-m", "benchmarks.serving_worker", "client"], threads=threads) as client,
          serving({**bases, "w1_5": base}, threads=threads,
                  options=("--per-model-batching", "--threads", "64")) as server):
        client.ready()
        for name in ("w1_5", *names):
            ask_client(client, server, model=name, signature="adapt_and_score", seconds=0.2, concurrency=1,
                       protocol="grpc")
        for _ in range(rounds):
            for concurrency in (8, 32):
                block = {"signature": "adapt_and_score", "concurrency": concurrency, "protocol": "grpc",
                         "seconds": seconds}
                bar.set_description(f"{concurrency} clients")
                alone = ask_client(client, server, **block, model="w1_5")
                for name in names:
                    answer = ask_client(client, server, **block, model=name)
                    found.setdefault((name, concurrency), []).append((answer, alone))
                    bar.update(1)
    # `ratio_to_ours` is to the same server without batching here.
    return [row | {"workload": "serving_batching"}
            for (name, concurrency), pairs in found.items()
            for row in rows_of(pairs, system="embedded_grpc", setting={
                **names[name], "model": "w1_5", "signature": "adapt_and_score", "inner_steps": 5,
                "concurrency": concurrency, "support": SUPPORT, "candidates": CANDIDATES, "threads": threads})]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help=f"results file (default {RESULTS.name} in benchmarks/results, with --sweep "
                                      "serving_batching.json)")
    parser.add_argument("--sweep", action="store_true", help="vary the parameters of batching instead")
    parser.add_argument("--models", metavar="DIR", help="keep the exported models here, and take those that are")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6, help="of a block")
    parser.add_argument("--threads", type=int, default=2, help="processors for all processes together")
    parser.add_argument("--batching", default=str(RESULTS_FOLDER.parents[1] / "serving_config" /
                                                  "batching_parameters.txt"), help="parameters file of the server")
    args = parser.parse_args()
    bind(args.threads)
    # Read by TensorFlow when it starts.
    os.environ.update(thread_environment(args.threads))
    from tqdm import tqdm

    from tfmeta.quiet import quiet_tensorflow
    from trainer.evaluation.environment import environment
    from trainer.evaluation.results_file import write_json

    quiet_tensorflow()
    steps = 2 * len(SWEEP) if args.sweep else len(WORKLOADS) * len(CONCURRENCY)
    with (tqdm(total=args.rounds * steps, unit="block", file=sys.stderr, dynamic_ncols=True) as bar,
          contextlib.nullcontext(args.models) if args.models else tempfile.TemporaryDirectory() as folder):
        bar.set_description("export")
        common = {"threads": args.threads, "rounds": args.rounds, "seconds": args.seconds, "bar": bar}
        rows = sweep(folder, **common) if args.sweep else compare(folder, batching=args.batching, **common)
    out = args.out or str(RESULTS.with_name("serving_batching.json") if args.sweep else RESULTS)
    write_json(out, environment={**environment(), "threads": args.threads}, rows=rows)
    print(json.dumps({"results": out}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
