"""A system under measurement as a live process that does steps on command."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS_FOLDER = ROOT / "benchmarks" / "results"


class SystemFailed(RuntimeError):
    """A system could not be started, or ended before it answered."""


class LiveSystem:
    """Starts a worker and talks to it: a line `run N` in, one line of JSON out.

    A worker loads its arrays, compiles, prints `{"ready": true, ...}` and then does N outer steps at each `run N`,
    answering `{"steps": N, "seconds": s, "losses": [...]}`. Several live workers can so be measured in turn, block by
    block, while what the machine does otherwise hits all of them alike.

    Args:
      name: of the system, for messages.
      command: the worker's command line.
      threads: processors the process may use; it is bound to that many.
    """

    def __init__(self, name: str, command: list[str], *, threads: int):
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        environment = {**os.environ, **thread_environment(threads), "PYTHONPATH": str(ROOT)}
        try:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=self._errors, text=True)
        except OSError as error:
            raise SystemFailed(f"{name} did not start: {error}") from None
        self.about: dict[str, Any] = {}

    def ready(self) -> "LiveSystem":
        """Waits until the worker has compiled."""
        self.about = self._answer()
        return self

    def run(self, steps: int) -> dict[str, Any]:
        """Does outer steps; returns the worker's answer."""
        return self.ask(f"run {steps}")

    def ask(self, line: str) -> dict[str, Any]:
        """Sends a line; returns the worker's answer."""
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def cpu_seconds(self) -> float:
        """Returns the processor time that the process has used, from /proc."""
        used = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self) -> None:
        """Asks the process to end by a signal, for one that reads no commands."""
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        raise SystemFailed(f"{self.name} ended with exit code {self._process.returncode}: "
                           + " | ".join(text[-3:] or ["no message"]))


def thread_environment(threads: int) -> dict[str, str]:
    """Returns environment variables that bound the threads of every numerical library."""
    return {**{name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                               "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "W1_THREADS")},
            "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2",
            "KERAS_BACKEND": "tensorflow", "PYTHONUNBUFFERED": "1"}


def peer_python() -> str | None:
    """Returns the interpreter of the peers' environment, or None where `make bench-peers-env` has not made it."""
    environment = os.environ.get("BENCH_VENV", str(ROOT / ".venv-bench"))
    python = pathlib.Path(environment) / "bin" / "python"
    return str(python) if python.exists() else None


def has_module(python: str, module: str) -> bool:
    """Tells whether an interpreter finds a module, without importing it."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


def ours() -> str:
    """Returns the interpreter of this process."""
    return sys.executable
