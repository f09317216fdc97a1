"""The reference workload: its size, and that tfmeta and the peers compute the same losses on it."""

import dataclasses

import numpy as np
import pytest

from benchmarks import w1
from benchmarks.live_system import LiveSystem, SystemFailed, has_module, ours, peer_python
from benchmarks.train_speed import PEERS, TOLERANCE, check_losses, commands, loss_difference, rows_of, with_limits

SMALL = w1.W1(inner_steps=2, tasks=3, support=6, query=4, batches=3)


@pytest.mark.parametrize("inner_steps,order,mflop", [(1, 2, 6.7), (5, 2, 28.4)])
def test_matrix_products_of_the_plain_algorithm(inner_steps, order, mflop):
    assert round(w1.plain_flops(w1.W1(inner_steps=inner_steps, order=order)) / 1e6, 1) == mflop


def test_plain_flops_without_inner_steps_are_a_training_step():
    kernels = 256 * 64 + 64 * 64 + 64
    assert w1.plain_flops(w1.W1(inner_steps=0)) == 3 * 2 * 10 * kernels


def test_tasks_are_seeded_and_rows_of_the_tables():
    rows, again = SMALL.task_rows(), SMALL.task_rows()
    assert all((rows[name] == again[name]).all() for name in rows)
    other = dataclasses.replace(SMALL, seed=1).task_rows()
    assert (rows["query_row"] != other["query_row"]).any()
    assert rows["support_row"].shape == (3, 3, 6) and set(np.unique(rows["support_label"])) <= {1, 2, 3, 4, 5}


def test_arrays_hold_the_recommenders_own_weights_and_features():
    arrays = SMALL.arrays()
    assert arrays["table"].shape == (sum(w1.USER_SIZES) + sum(w1.ITEM_SIZES) + 16, 32)
    assert [arrays[f"kernel_{i}"].shape for i in range(3)] == [(256, 64), (64, 64), (64, 1)]
    recommender = w1.build(SMALL)
    rows = SMALL.task_rows()
    user = SMALL.user_features()[rows["user_row"][0]]
    encoded = recommender.encode_user({f"user_{i}": user[:, i] for i in range(4)}, tasks=np.int32(3))
    np.testing.assert_array_equal(encoded, arrays["table"][arrays["user"][0]].reshape(3, -1))
    item = SMALL.item_features()[rows["query_row"][0]]
    encoded = recommender.encode_item({**{f"item_{i}": item[..., i] for i in range(4)},
                                       "item_id": np.zeros((3, 4), np.int32)})
    np.testing.assert_array_equal(encoded, arrays["table"][arrays["query_item"][0]].reshape(3, 4, -1))


@pytest.mark.parametrize("order", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_peers_compute_the_same_losses(order, tmp_path):
    python = peer_python()
    if python is None or not has_module(python, "jax"):
        pytest.skip("the peers' environment is missing; make bench-peers-env makes it")
    setting = dataclasses.replace(SMALL, order=order)
    arrays = tmp_path / "w1.npz"
    np.savez(arrays, **setting.arrays())
    losses = {}
    for name, command in commands(setting, arrays=str(arrays), threads=1).items():
        if name != "matrix_products":
            with LiveSystem(name, command, threads=1) as system:
                losses[name] = system.ready().run(10)["losses"]
    assert {"tfmeta", "tfmeta_dense_adam", "jax"} <= set(losses)
    check_losses(losses)
    assert len(set(losses["jax"])) == 10


def test_orders_differ_and_a_wrong_peer_is_found(tmp_path):
    outcome = {}
    for order in (2, 1):
        setting = dataclasses.replace(SMALL, order=order)
        outer, batches = w1.outer_step(setting, w1.build(setting), dense=True), w1.batches(setting)
        sums = []
        for k in range(4):
            outer(batches[k % 3])
            sums.append(float(outer.loss_sum))
        outcome[order] = np.diff(sums, prepend=0).tolist()
    # The first loss does not depend on the gradient's order, the later ones do.
    assert outcome[1][0] == pytest.approx(outcome[2][0], rel=1e-5)
    losses = {"tfmeta": outcome[2], "tfmeta_dense_adam": outcome[2], "jax": outcome[1]}
    assert loss_difference(losses, "jax") > TOLERANCE["jax"]
    with pytest.raises(SystemFailed, match="jax's losses differ"):
        check_losses(losses)


def test_a_worker_that_fails_is_told(tmp_path):
    with LiveSystem("broken", [ours(), "-c", "raise SystemExit('no such thing')"], threads=1) as system, \
            pytest.raises(SystemFailed, match="broken ended with exit code 1: no such thing"):
        system.ready()


def test_rows_hold_ratios_and_the_bound():
    setting = w1.W1(inner_steps=1, tasks=32)
    # A product of 1024 at 100 GFLOP/s, and a step of 10 ms.
    measured = {"seconds": {"tfmeta": 0.01, "jax": 0.02, "matrix_products": 2 * 1024**3 / 1e11},
                "best": {"tfmeta": 0.008, "jax": 0.016, "matrix_products": 1.0},
                "losses": {"tfmeta_dense_adam": [1.0], "jax": [1.0]}}
    rows = {(r["system"], r["metric"]): r for r in with_limits(rows_of(setting, measured, threads=2))}
    assert rows["tfmeta", "tasks_per_s"]["value"] == 3200
    assert rows["jax", "tasks_per_s"]["ratio_to_ours"] == 0.5
    bound = 1e11 / w1.plain_flops(setting)
    assert rows["matrix_products", "tasks_per_s"]["value"] == pytest.approx(bound, rel=1e-4)
    assert rows["tfmeta", "share_of_matrix_product_bound"]["value"] == pytest.approx(3200 / bound, rel=1e-3)
    assert rows["tfmeta", "tasks_per_s_best_block"]["value"] == 4000
    assert rows["jax", "loss_difference_10_steps"]["value"] == 0
    assert set(PEERS) == set(TOLERANCE)
