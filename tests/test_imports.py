"""What starts fast stays fast: nothing heavy is imported before it is needed."""

import json
import pathlib
import subprocess
import sys

import pytest

from tfmeta import cli

HEAVY = ("tensorflow", "keras", "matplotlib", "optuna", "pandas", "grpc")
# Modules whose purpose is a TensorFlow graph or data pipeline.
TENSORFLOW_DATA = {"build_task_sampler", "feature_tables", "feature_transform", "random_order",
                   "streaming_task_sampler", "task_batch", "task_draw", "task_sampler", "two_tower_training"}
ROOT = pathlib.Path(__file__).resolve().parents[1]


def loaded_after(code: str, names=HEAVY) -> list[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps([n for n in {names!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def test_import_tfmeta_is_light():
    assert loaded_after("import tfmeta") == []


def test_lazy_names_exist():
    import tfmeta

    assert set(tfmeta.__all__) <= set(dir(tfmeta))
    for name in tfmeta.__all__:
        assert getattr(tfmeta, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tfmeta.nothing


def test_help_of_every_command_is_light():
    calls = "\n".join(f"main([{name!r}, '--help'])" for name in cli.commands())
    code = f"from tfmeta.cli import main\nmain(['--help'])\nmain(['data', '--help'])\n{calls}"
    assert loaded_after(code) == []


def test_data_metrics_and_baselines_do_without_tensorflow():
    modules = []
    for folder in ("data", "metrics", "baselines", "content", "io"):
        for path in sorted((ROOT / "tfmeta" / folder).rglob("*.py")):
            if path.stem not in TENSORFLOW_DATA:
                parts = path.relative_to(ROOT).with_suffix("").parts
                modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert len(modules) > 10
    code = "import importlib\n" + "\n".join(f"importlib.import_module({m!r})" for m in modules)
    assert loaded_after(code, ("tensorflow", "keras")) == []


def test_library_does_not_know_its_users():
    for path in sorted((ROOT / "tfmeta").rglob("*.py")):
        for line in path.read_text("utf-8").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from"):
                assert words[1].partition(".")[0] not in ("trainer", "export"), f"{path.name}: {line.strip()}"


def test_tensorflow_notes_are_silenced_but_warnings_pass():
    code = ("from tfmeta.quiet import quiet_tensorflow; quiet_tensorflow()\nimport os, sys\n"
            "import tensorflow as tf\ntf.constant(1) + 1\nos.write(2, b'W0000 kept\\n')")
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                          env=environment)
    assert "oneDNN" not in done.stderr and "absl::InitializeLog" not in done.stderr
    assert "W0000 kept" in done.stderr
