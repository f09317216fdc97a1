"""Where and how a figure was made."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys

from tfmeta import __version__

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "scipy", "pandas", "pyarrow")


def environment(command: str | None = None) -> dict:
    """Returns `processor, threads, versions, commit, command, date` for the head of a results file.

    `commit` is the source tree's, with `-dirty` where tracked files but results differ from it, or the package's
    version where there is no source tree.

    Args:
      command: what was run; default this process's command line, the program without its folder or as `python -m`
        has it, paths relative to the working directory.
    """
    if command is None:
        command = shlex.join([*_program(), *(os.path.relpath(a) if os.path.isabs(a) else a for a in sys.argv[1:])])
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "threads": threads, "versions": _versions(), "commit": _commit(),
            "command": command, "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def _program() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [os.path.basename(sys.argv[0])] if spec is None else ["python", "-m", spec.name.removesuffix(".__main__")]


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    found: dict[str, str] = {}
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    if "model name" not in found:
        return platform.processor() or platform.machine()
    # Virtual machines often give no more than a brand, under which generations differ by a factor of two.
    number = [f"{word} {found[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in found]
    return found["model name"] + (f" ({', '.join(number)})" if number else "")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "tfmeta": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("-dirty" if _changed(root) else "")
    except (OSError, subprocess.SubprocessError):
        return __version__


def _changed(root: pathlib.Path) -> str:
    # Results of an earlier benchmark are no part of what made these.
    return _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")


def _git(root: pathlib.Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True,
                          timeout=20).stdout.strip()
