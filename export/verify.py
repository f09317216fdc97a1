"""Verifies exported SavedModels in a process that cannot import tfmeta."""

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile

from tfmeta.errors import ExportError
from tfmeta.io import filesystem

# Packages that a server does not have.
BLOCKED = ("tfmeta", "trainer", "export")


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was verified.

    Attributes:
      name: what.
      passed: whether it holds.
      detail: what went wrong; empty if it holds.
      max_difference: largest absolute difference to the expected scores, in the label's own unit; None where
        nothing was compared.
    """

    name: str
    passed: bool
    detail: str
    max_difference: float | None


def verify(path: str, *, timeout: float = 600.0) -> list[Check]:
    """Verifies one model directory (a version directory or a flat export); see `verify_many`."""
    return verify_many([path], timeout=timeout)[0]


def verify_many(paths: list[str], *, timeout: float = 600.0) -> list[list[Check]]:
    """Verifies model directories in one second process that has only TensorFlow and numpy.

    It loads each model with the TensorFlow-2 loader and under a TensorFlow-1 session, as TensorFlow Serving does,
    replays the golden requests recorded at export, also from several threads, and checks shapes and operations.

    Args:
      paths: model directories, on any file system; remote ones are copied to the local disk first.
      timeout: seconds for the whole process.

    Returns:
      the checks of each directory; a failed check is not an exception.

    Raises:
      ExportError: if a directory does not exist or the process itself fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        local = [_localise(path, os.path.join(scratch, str(i))) for i, path in enumerate(paths)]
        request, result = os.path.join(scratch, "request.json"), os.path.join(scratch, "result.json")
        with open(request, "w", encoding="utf-8") as file:
            # The parent's path, because an isolated interpreter ignores PYTHONPATH; the packages stay blocked.
            json.dump({"paths": local, "result": result, "sys_path": [p for p in sys.path if p],
                       "blocked": BLOCKED}, file)
        # On the processor: another device would round differently, and the parent may hold its memory.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "verify_process.py")
        try:
            done = subprocess.run([sys.executable, "-I", script, request], env=environment, timeout=timeout,
                                  capture_output=True, text=True, errors="replace", check=False, cwd=scratch)
        except subprocess.TimeoutExpired:
            raise ExportError(f"Verification of '{paths[0]}' took more than {timeout:g} s and was stopped.") from None
        if done.returncode or not os.path.exists(result):
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise ExportError(f"The verifying process of '{paths[0]}' ended with status {done.returncode}: {last}")
        with open(result, encoding="utf-8") as file:
            return [[Check(**c) for c in checks] for checks in json.load(file)]


def require_passed(path: str, checks: list[Check]) -> None:
    """Raises ExportError with the first failed check, if there is one."""
    for check in checks:
        if not check.passed:
            raise ExportError(f"SavedModel '{path}' failed the check '{check.name}': {check.detail}.")


def format_table(checks: list[Check]) -> str:
    """Returns the checks as lines of text, one each."""
    width = max((len(c.name) for c in checks), default=0)
    lines = [f"{'check':<{width}}  result  max abs difference"]
    for check in checks:
        difference = "" if check.max_difference is None else f"{check.max_difference:.3g}"
        lines.append(f"{check.name:<{width}}  {'ok' if check.passed else 'FAILED':<6}  {difference}".rstrip())
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Returns the versions of the packages that decide what an export is."""
    found = {}
    for name in ("tfmeta", "tensorflow", "tensorflow-cpu", "keras", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _localise(path: str, target: str) -> str:
    path = str(path).rstrip("/")
    if not filesystem.exists(path) or not filesystem.is_dir(path):
        raise ExportError(f"Verification requires a model directory such as MODEL_BASE/1, received '{path}', "
                          "which does not exist.")
    if not filesystem.is_remote(path):
        return os.path.abspath(path)
    filesystem.copy_tree(path, target)
    return target
