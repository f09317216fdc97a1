"""The GPU benchmark: silent without a card, and its measurement runs on any device."""

import numpy as np
import pytest

from benchmarks import gpu, w1


def test_without_a_gpu_it_says_so_and_writes_nothing(monkeypatch, capsys, tmp_path):
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu.tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(out)])
    assert gpu.main() == 0
    printed = capsys.readouterr().out
    assert "No GPU" in printed and not any(c.isdigit() for c in printed)
    assert not out.exists()


def test_rows_on_the_processor():
    setting = w1.W1(inner_steps=1, tasks=3, support=5, query=4, batches=2)
    rows = gpu.rows_of("/CPU:0", settings=[setting], name="cpu", rounds=1, block_seconds=0.01, size=64)
    for policy in gpu.PRECISIONS:
        values = {r["metric"]: r["value"] for r in rows if r["setting"]["precision"] == policy}
        assert values["tasks_per_s"] > 0 and values["within_tolerance"] == 1
        if policy == "float32":
            assert values["gradient_error"] < 1e-5
        else:
            assert 1e-4 < values["gradient_error"] < gpu.PRECISIONS[policy][1]


def test_wrong_numbers_are_found(monkeypatch):
    setting = w1.W1(inner_steps=1, tasks=2, support=3, query=2, batches=1)
    plain = gpu.loss_and_gradient
    calls = []

    def second_is_off(*arguments):
        losses, gradient = plain(*arguments)
        calls.append(1)
        return (losses * 1.1, gradient) if len(calls) == 2 else (losses, gradient)

    monkeypatch.setattr(gpu, "loss_and_gradient", second_is_off)
    found = gpu.errors(setting, "float32", "/CPU:0")
    assert found["loss_error"] == pytest.approx(0.1, rel=1e-3)
    assert np.isclose(found["gradient_error"], 0, atol=1e-5)
