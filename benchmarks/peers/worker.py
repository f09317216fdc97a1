"""What all workers share: arguments, threads, and the loop that answers commands. Needs NumPy alone."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def arguments() -> argparse.Namespace:
    """Parses a worker's command line and binds the process to its processors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("arrays", help="npz file of benchmarks/w1.py")
    parser.add_argument("--inner-steps", type=int, default=5)
    parser.add_argument("--order", type=int, choices=(1, 2), default=2)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("W1_THREADS", "2")))
    args = parser.parse_args()
    bind(args.threads)
    return args


def bind(threads: int) -> None:
    """Binds this process to its first processors, as many as it has threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def serve(step: Callable[[int], Any], *, loss: Callable[[Any], float], wait: Callable[[Any], None],
          versions: dict[str, str]) -> None:
    """Answers `run N` lines on standard input until it ends.

    Args:
      step: does the outer step on meta-batch number `i`, counted from 0 over all commands, and returns a handle.
      loss: the step's mean outer loss, from its handle.
      wait: blocks until the step behind a handle is done.
      versions: of the libraries.
    """
    print(json.dumps({"ready": True, "versions": versions}), flush=True)
    done = 0
    for line in sys.stdin:
        word, _, count = line.partition(" ")
        if word != "run":
            raise SystemExit(f"a worker requires 'run N', received {line!r}")
        begin = time.perf_counter()
        handles = [step(done + i) for i in range(int(count))]
        wait(handles[-1])
        seconds = time.perf_counter() - begin
        done += int(count)
        print(json.dumps({"steps": int(count), "seconds": seconds, "losses": [loss(h) for h in handles]}), flush=True)
