"""A learner in the benchmark that also sees what warm users were trained on."""

import dataclasses
import pathlib

import numpy as np
import pytest

from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError
from trainer.benchmarking.benchmark import Benchmark
from trainer.benchmarking.suite_data import SuiteData
from trainer.benchmarking.suites import SUITES
from trainer.benchmarking.systems import build_systems
from trainer.benchmarking.workspace import Workspace

QUICK = ("epochs=2", "sampler.meta_batch_size=16")


def build(**options):
    return build_systems("synthetic", learners=["ridge", "meta_emb"], references=[], overrides=QUICK, budget=1,
                         **options)


def test_one_run_answers_with_and_without_history(tmp_path):
    suite = dataclasses.replace(
        SUITES["synthetic"], tuning_users=60, validation_tasks=40, ks=(0, "all"),
        synthetic=SyntheticConfig(users=200, items=80, ratings_per_user=30.0, rounded=True, seed=2))
    data = SuiteData.open(suite, source=None, folder=str(tmp_path / "data"))
    systems = [s for s in build(history=["ridge"]) if s.name.startswith("ridge")]
    benchmark = Benchmark(suite, data, systems=systems, workspace=Workspace(str(tmp_path)), budget=1, seeds=1)
    benchmark.tune(lambda text, number: None)
    benchmark.run(lambda text, number: None)
    assert not benchmark.failures and benchmark.selected == "ridge"
    # One training run for both, and nothing of the trials is left.
    assert [p.name.split("-")[0] for p in pathlib.Path(tmp_path, "runs").iterdir()] == ["ridge"]
    cells = {(c.model, c.state, c.k): c for c in benchmark.evaluation().cells}
    with_history = {key: cell for key, cell in cells.items() if key[0] == "ridge_history"}
    assert {state for _, state, _ in with_history} == {"item_cold"} and len(with_history) == len(suite.ks)
    for (_, state, k), cell in with_history.items():
        assert cell.uses_history and not cells["ridge", state, k].uses_history
        assert not np.allclose(cell.value, cells["ridge", state, k].value, atol=1e-6, equal_nan=True)


def test_a_history_is_for_a_learner_that_is_compared_and_reads_supports():
    assert [s.name for s in build(history=["ridge"])] == ["ridge", "meta_emb", "ridge_history"]
    for name in ("ridg", "meta_emb"):
        with pytest.raises(ConfigError, match=f"requires a learner that is compared, received '{name}'"):
            build(history=[name])
