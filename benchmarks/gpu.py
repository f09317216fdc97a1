"""W1's training step on a GPU: tasks a second, share of the card's limit, and the numbers against CPU float64.

    python -m benchmarks.gpu [--out FILE]

Each setting runs in float32 (with the card's TF32 products, TensorFlow's default) and in mixed bfloat16, under XLA
where the whole step compiles there and as a plain graph otherwise. No result is read between steps, so nothing waits
for the host. The limit is the rate of one large matrix product of the same precision on the same card; the share is
that of the plain algorithm's matrix products. Losses and meta-gradients are compared with those of the same weights in
float64 on the processor. Without a GPU it says so and ends with exit code 0, without a figure.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from benchmarks import w1

RESULTS = pathlib.Path(__file__).parent / "results" / "gpu.json"
# Dtype policy -> (dtype of the products, largest relative error of losses and of the meta-gradient). TF32 has the 10
# bits of mantissa of float16, bfloat16 has 7.
PRECISIONS = {"float32": ("float32", 5e-3), "mixed_bfloat16": ("bfloat16", 1e-1)}


def build(setting: w1.W1, policy: str):
    """Returns (recommender, outer step) whose layers have a dtype policy."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        recommender = w1.build(setting)
        return recommender, w1.outer_step(setting, recommender)
    finally:
        keras.config.set_dtype_policy(previous)


def loss_and_gradient(recommender, outer, batch) -> tuple[np.ndarray, np.ndarray]:
    """Returns the task losses `[B]` and the meta-gradient of their mean, flat, both float64."""
    values = [v.value for v in recommender.trainable_variables]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            losses = outer.task_loss(batch, tf.constant(0, tf.int64))
            mean = tf.reduce_mean(losses)
        gradients = tape.gradient(mean, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return losses, [tf.convert_to_tensor(g) for g in gradients]

    losses, gradients = run()
    return (np.asarray(losses, np.float64),
            np.concatenate([np.asarray(g, np.float64).reshape(-1) for g in gradients]))


def errors(setting: w1.W1, policy: str, device: str) -> dict[str, float]:
    """Returns the relative errors of losses (largest) and meta-gradient (norm) on a device against CPU float64."""
    with tf.device("/CPU:0"):
        exact, outer = build(setting, "float64")
        wanted = loss_and_gradient(exact, outer, w1.batches(setting)[0])
    with tf.device(device):
        recommender, outer = build(setting, policy)
        for variable, value in zip(recommender.variables, exact.variables, strict=True):
            variable.assign(np.asarray(value.value).astype(np.float32))
        found = loss_and_gradient(recommender, outer, w1.batches(setting)[0])
    return {"loss_error": float(np.max(np.abs(found[0] / wanted[0] - 1))),
            "gradient_error": float(np.linalg.norm(found[1] - wanted[1]) / np.linalg.norm(wanted[1]))}


def compiled_step(outer, batch):
    """Returns (step function, whether XLA compiled it)."""
    compiled = tf.function(lambda one: outer(one), jit_compile=True)
    try:
        compiled(batch)
        int(outer.step)
        return compiled, True
    except (tf.errors.OpError, ValueError, TypeError, NotImplementedError) as error:
        warnings.warn(f"The step does not compile under XLA here and runs as a graph: {str(error)[:300]}",
                      stacklevel=2)
        return outer, False


def measure(setting: w1.W1, policy: str, device: str, *, rounds: int, block_seconds: float) -> dict:
    """Returns `tasks_per_s` (median over blocks) and `compiled` of the step on a device."""
    with tf.device(device):
        _, outer = build(setting, policy)
        batches = w1.batches(setting)
        step, compiled = compiled_step(outer, batches[0])

        def block(steps: int) -> float:
            begin = time.perf_counter()
            for k in range(steps):
                step(batches[k % len(batches)])
            int(outer.step)
            return time.perf_counter() - begin

        block(3)
        steps = max(1, round(block_seconds / (block(5) / 5)))
        seconds = statistics.median(block(steps) / steps for _ in range(rounds))
        if int(outer.failed_step) >= 0:
            raise RuntimeError(f"Step {int(outer.failed_step)} was not finite under {policy}.")
    return {"tasks_per_s": setting.tasks / seconds, "compiled": compiled}


def product_rate(dtype: str, device: str, *, size: int) -> float:
    """Returns the floating-point operations a second of one large matrix product."""
    with tf.device(device):
        left = tf.cast(tf.random.stateless_normal([size, size], seed=[0, 1]), dtype)
        run = tf.function(lambda a: tf.linalg.matmul(a, a))
        run(left)
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            for _ in range(5):
                product = run(left)
            # One number back: the device has then finished.
            float(tf.cast(product[0, 0], tf.float32))
            seconds.append((time.perf_counter() - begin) / 5)
    return 2 * size**3 / statistics.median(seconds)


def rows_of(device: str, *, settings: list[w1.W1], name: str, rounds: int, block_seconds: float, size: int,
            note=lambda text: None) -> list[dict]:
    """Measures all settings and precisions on a device; returns result rows."""
    rows = []
    for policy, (dtype, tolerance) in PRECISIONS.items():
        peak = product_rate(dtype, device, size=size)
        for setting in settings:
            note(f"{policy}, {setting.tasks} tasks, {setting.inner_steps} inner steps, order {setting.order}")
            found = measure(setting, policy, device, rounds=rounds, block_seconds=block_seconds)
            off = errors(setting, policy, device)
            where = {"inner_steps": setting.inner_steps, "tasks": setting.tasks, "order": setting.order,
                     "precision": policy, "device": name, "compiled": found["compiled"]}
            values = {"tasks_per_s": found["tasks_per_s"], "product_gflop_per_s": peak / 1e9,
                      "share_of_matrix_product_bound": found["tasks_per_s"] * w1.plain_flops(setting) / peak, **off,
                      "within_tolerance": float(max(off.values()) <= tolerance)}
            rows += [{"workload": "W1", "system": "tfmeta", "setting": where, "metric": metric, "value": value,
                      "ratio_to_ours": None} for metric, value in values.items()]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--inner-steps", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--tasks", type=int, nargs="+", default=[32, 256, 2048])
    args = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        print("No GPU is visible to TensorFlow: nothing was measured.")
        return 0
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    settings = [w1.W1(inner_steps=steps, tasks=tasks, batches=8) for tasks in args.tasks for steps in args.inner_steps]
    rows = rows_of("/GPU:0", settings=settings, name=name, rounds=7, block_seconds=0.5, size=8192,
                   note=lambda text: print(text, file=sys.stderr, flush=True))
    from trainer.evaluation.environment import environment

    pathlib.Path(args.out).write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    for row in rows:
        where = row["setting"]
        print(f"{where['precision']:<15} {where['tasks']:>5} tasks {where['inner_steps']:>2} steps "
              f"{'XLA' if where['compiled'] else 'graph':<6} {row['metric']:<30} {row['value']:.4g}")
    wrong = [row for row in rows if row["metric"] == "within_tolerance" and not row["value"]]
    for row in wrong:
        print(f"gpu: error: numbers differ from CPU float64 at {row['setting']}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
