"""Start-up times: `import tfmeta`, `tfmeta --help`, and the first training step, tracing included.

    python -m benchmarks.startup [--out FILE] [--repeats 5]

Each figure is the median over new processes. `import_s` is the import statement, `process_import_s` a whole process
that does nothing else, `help_s` a whole process. `first_step_s` is from the construction of W1's recommender (5 inner
steps, second order) to the end of its first outer step; `process_first_step_s` also holds the start of Python and the
import of TensorFlow.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from tqdm import tqdm

from benchmarks.live_system import ROOT, thread_environment
from trainer.evaluation.environment import environment
from trainer.evaluation.results_file import write_json

RESULTS = pathlib.Path(__file__).parent / "results" / "startup.json"

_IMPORT = """
import sys, time
begin = time.perf_counter()
import tfmeta
seconds = time.perf_counter() - begin
assert "tensorflow" not in sys.modules, "import tfmeta imports TensorFlow"
print(seconds)
"""
_FIRST_STEP = """
import time
from benchmarks import w1
import keras, tensorflow, trainer.outer_step
begin = time.perf_counter()
setting = w1.W1(batches=1)
outer = w1.outer_step(setting, w1.build(setting))
outer(w1.batches(setting)[0])
assert int(outer.step) == 1 and int(outer.failed_step) == -1
print(time.perf_counter() - begin)
"""


def run(arguments: list[str], *, threads: int) -> tuple[float, str]:
    """Runs Python; returns the process's seconds and what it printed."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True,
                          env={**os.environ, **thread_environment(threads), "PYTHONPATH": str(ROOT)})
    return time.perf_counter() - begin, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    values = {name: [] for name in ("import_s", "process_import_s", "help_s", "first_step_s", "process_first_step_s")}
    try:
        for _ in tqdm(range(args.repeats), unit="round", file=sys.stderr, dynamic_ncols=True):
            seconds, text = run(["-c", _IMPORT], threads=args.threads)
            values["import_s"].append(float(text))
            values["process_import_s"].append(seconds)
            values["help_s"].append(run(["-m", "tfmeta", "--help"], threads=args.threads)[0])
            seconds, text = run(["-c", _FIRST_STEP], threads=args.threads)
            values["first_step_s"].append(float(text.split()[-1]))
            values["process_first_step_s"].append(seconds)
    except subprocess.CalledProcessError as error:
        print(f"startup: error: {error}\n{error.stderr[-2000:]}", file=sys.stderr)
        return 1
    rows = [{"workload": "W1" if "step" in name else "startup", "system": "tfmeta",
             "setting": {"threads": args.threads, "repeats": args.repeats}, "metric": name,
             "value": round(statistics.median(found), 4), "ratio_to_ours": 1.0} for name, found in values.items()]
    write_json(args.out, environment={**environment(), "threads": args.threads}, rows=rows)
    print(json.dumps({"results": args.out, **{row["metric"]: row["value"] for row in rows}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
