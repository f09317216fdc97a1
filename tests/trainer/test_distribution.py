"""Two replicas train the run that one would: same losses, same weights, one set of files."""

import json

import numpy as np
import pytest
from distribution_cases import CONFIG, finish, forkserver, free_ports, outcome, tf_config, work
from tiny_prepared import write_tiny

pytestmark = pytest.mark.timeout(1200)

# Only the order of float32 sums differs: relative for losses and metrics, absolute for weights of order 1.
LOSS, WEIGHT = 1e-6, 1e-5


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run on one device, on two logical ones and in two processes."""
    folder, context = tmp_path_factory.mktemp("distribution"), forkserver()
    data, ports = write_tiny(folder / "data"), free_ports(2)
    jobs = [("none", "none", None), ("mirrored", "mirrored", None),
            *(("multi_worker", "auto", tf_config(ports, index)) for index in range(2))]
    processes = [context.Process(target=work, args=(data, str(folder / name), CONFIG, distribution, cluster))
                 for name, distribution, cluster in jobs]
    for process in processes:
        process.start()
    assert finish(processes) == [0, 0, 0, 0]
    return folder


@pytest.mark.parametrize("name", ["mirrored", "multi_worker"])
def test_two_replicas_train_as_one_process_with_their_meta_batch(runs, name):
    (one, one_weights), (two, two_weights) = outcome(runs / "none"), outcome(runs / name)
    assert len(one) == len(two) == CONFIG["epochs"]
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys() and "val_mae" in left
        assert left["step"] == right["step"]
        for key in left:
            np.testing.assert_allclose(right[key], left[key], rtol=LOSS, err_msg=key)
    for key, value in one_weights.items():
        np.testing.assert_allclose(two_weights[key], value, rtol=0, atol=WEIGHT, err_msg=key)
    # The curve says something: it moves by far more than the tolerance.
    assert abs(one[-1]["train_loss"] - one[0]["train_loss"]) > 1000 * LOSS


def test_workers_end_with_the_same_bits(runs):
    (chief, chief_weights), (other, other_weights) = (outcome(runs / "multi_worker", n) for n in range(2))
    assert chief == other
    for key, value in chief_weights.items():
        np.testing.assert_array_equal(other_weights[key], value, err_msg=key)


def test_the_chief_alone_writes(runs):
    run = runs / "multi_worker"
    assert sorted(p.name for p in run.iterdir()) == sorted(p.name for p in (runs / "none").iterdir())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    with open(f"{run}.0.json") as file:
        assert history == json.load(file)
    assert not list(run.rglob("*.tmp"))


def test_runs_differ_in_nothing_that_decides_the_outcome(runs):
    """A run may go on on other machines: configurations agree but for what they are trained on."""
    from trainer.run_directory import RunDirectory, outcome_settings

    settings = [outcome_settings(RunDirectory.open(str(runs / name)).config)
                for name in ("none", "mirrored", "multi_worker")]
    assert settings[0] == settings[1] == settings[2] and "distribution" not in settings[0]
