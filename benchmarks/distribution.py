"""W1's outer step in two processes that share each meta-batch, beside one process, on the same processors.

    python -m benchmarks.distribution [--out FILE] [--tasks 256] [--inner-steps 5] [--blocks 8]

Four systems, all live, do short blocks in turn: one process on one processor; one on two; two processes on one
processor each (MultiWorkerMirrored over the loop-back interface); and two that share one processor. Two processes
on two processors have no more to compute with than one process on two: what the ratio shows is what it costs to
exchange gradients and to do all updates twice. Losses of all systems have to agree.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import socket
import statistics
import sys

from tqdm import tqdm

from benchmarks.live_system import LiveSystem, SystemFailed, ours
from trainer.evaluation.environment import environment
from trainer.evaluation.results_file import write_json

RESULTS = pathlib.Path(__file__).parent / "results" / "distribution.json"
_TOLERANCE = 1e-4
_CHECKED_STEPS = 5


class System:
    """The processes of one system, told to step together."""

    def __init__(self, name: str, processors: list[list[int]], *, options: list[str]):
        self.name, self.processes = name, len(processors)
        self.processors = sorted({p for each in processors for p in each})
        ports = _free_ports(self.processes)
        self._pool = concurrent.futures.ThreadPoolExecutor(self.processes)
        self._live = []
        for index, bound in enumerate(processors):
            command = [ours(), "-m", "benchmarks.distribution_worker", *options, "--processors", *map(str, bound)]
            if self.processes > 1:
                command += ["--cluster", json.dumps({
                    "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
                    "task": {"type": "worker", "index": index}})]
            self._live.append(LiveSystem(name, command, threads=len(bound)))

    def ready(self) -> None:
        list(self._pool.map(lambda live: live.ready(), self._live))

    def run(self, steps: int) -> tuple[float, list[float]]:
        """Returns (seconds of the slowest process, losses)."""
        answers = list(self._pool.map(lambda live: live.run(steps), self._live))
        if any(answer["losses"] != answers[0]["losses"] for answer in answers):
            raise SystemFailed(f"{self.name}: its processes have different losses")
        return max(answer["seconds"] for answer in answers), answers[0]["losses"]

    def close(self) -> None:
        # Together, because each ends when its standard input does and may wait for the other.
        list(self._pool.map(lambda live: live.close(), self._live))
        self._pool.shutdown()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def measure(args: argparse.Namespace) -> list[dict]:
    """Returns the result rows."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    options = ["--tasks", str(args.tasks), "--inner-steps", str(args.inner_steps)]
    plan = {"one_process_one_processor": [[first]], "one_process_two_processors": [[first, second]],
            "two_processes_two_processors": [[first], [second]], "two_processes_one_processor": [[first], [first]]}
    speeds: dict[str, list[float]] = {name: [] for name in plan}
    with contextlib.ExitStack() as stack:
        systems = []
        for name, processors in plan.items():
            systems.append(System(name, processors, options=options))
            stack.callback(systems[-1].close)
        for system in systems:
            system.ready()
        losses = [system.run(_CHECKED_STEPS)[1] for system in systems]
        worst = max(abs(a - b) / abs(b) for other in losses[1:] for a, b in zip(other, losses[0], strict=True))
        if worst > _TOLERANCE:
            raise SystemFailed(f"losses differ by {worst:g}, more than {_TOLERANCE:g}")
        for _ in tqdm(range(args.blocks), unit="round", file=sys.stderr, dynamic_ncols=True):
            for system in systems:
                seconds, _ = system.run(args.steps)
                speeds[system.name].append(args.tasks * args.steps / seconds)
    middle = {name: statistics.median(found) for name, found in speeds.items()}
    rows = []
    for system in systems:
        setting = {"inner_steps": args.inner_steps, "tasks": args.tasks, "order": 2, "processes": system.processes,
                   "processors": len(system.processors)}
        row = {"workload": "W1", "system": system.name, "setting": setting}
        one = middle[f"one_process_{'two_processors' if len(system.processors) == 2 else 'one_processor'}"]
        rows += [row | {"metric": "tasks_per_s", "value": round(middle[system.name], 1), "ratio_to_ours": None},
                 row | {"metric": "tasks_per_s_best_block", "value": round(max(speeds[system.name]), 1),
                        "ratio_to_ours": None},
                 row | {"metric": "ratio_to_one_process", "value": round(middle[system.name] / one, 4),
                        "ratio_to_ours": None}]
    rows.append({"workload": "W1", "system": "all", "setting": {"tasks": args.tasks, "steps": _CHECKED_STEPS},
                 "metric": "largest_relative_loss_difference", "value": worst, "ratio_to_ours": None})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--tasks", type=int, default=256)
    parser.add_argument("--inner-steps", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of each block")
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        print("distribution: error: two processors are required, found one", file=sys.stderr)
        return 2
    try:
        rows = measure(args)
    except SystemFailed as error:
        print(f"distribution: error: {error}", file=sys.stderr)
        return 1
    write_json(args.out, environment={**environment(), "threads": 2}, rows=rows)
    print(json.dumps({"results": args.out, **{f"{row['system']} {row['metric']}": row["value"] for row in rows}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
