"""What W1's training step and its served adaptation consist of, without timing anything.

    python -m benchmarks.step_cost

Operations of the step are counted in its graph with all functions it calls; matrix products and their floating-point
operations in what XLA is given for it, where every shape is known. Operations of `adapt_and_score` are those that one
request runs, after TensorFlow's own simplifications. `tests/benchmarks/test_step_cost.py` holds these
numbers below recorded bounds.
"""

import argparse
import json
import math
import os
import re
import tempfile

from benchmarks import w1

# %name = f32[32,20,64]{2,1,0} dot(f32[32,20,256]{2,1,0} %a, f32[...] %b), lhs_batch_dims={0}, lhs_contracting_dims={2}
_DOT = re.compile(r"= \w+\[([\d,]*)\]\S* dot\(\w+\[([\d,]*)\].*?lhs_contracting_dims=\{([\d,]*)\}")
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def graph_ops(function_def_graph) -> list[str]:
    """Returns the type of every operation of a graph and of the functions in its library."""
    return [node.op for node in function_def_graph.node] + [
        node.op for function in function_def_graph.library.function for node in function.node_def]


def dot_flops(hlo: str) -> list[int]:
    """Returns the floating-point operations of every matrix product of an HLO text."""
    found = []
    for out, left, contracted in _DOT.findall(hlo):
        sizes = _numbers(left)
        found.append(2 * math.prod(_numbers(out)) * math.prod(sizes[axis] for axis in _numbers(contracted)))
    if len(found) != hlo.count(" dot("):
        raise ValueError("Some matrix products of this HLO text could not be read.")
    return found


def step_cost(setting: w1.W1) -> dict:
    """Returns `ops`, `python_ops` (types), `products` and `flops_per_task` of the outer step at a setting of W1."""
    import tensorflow as tf

    outer = w1.outer_step(setting, w1.build(setting))
    batch = w1.batches(setting)[0]
    ops = graph_ops(tf.function(lambda one: outer(one)).get_concrete_function(batch).graph.as_graph_def())
    compiled = tf.function(lambda one: outer(one), jit_compile=True)
    products = dot_flops(compiled.experimental_get_compiler_ir(batch)(stage="hlo"))
    return {"ops": len(ops), "python_ops": sorted(PYTHON_OPS & set(ops)), "products": len(products),
            "flops_per_task": sum(products) / setting.tasks}


def served_ops(folder: str) -> int:
    """Returns how many operations one request's `adapt_and_score` runs, W1 with five inner steps.

    Args:
      folder: to export the model into.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    from benchmarks.serving import export_models
    from benchmarks.serving_requests import arrays

    path = os.path.join(export_models(folder, ["w1_5"])["w1_5"], "1")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["adapt_and_score"]
        inputs, metadata = arrays("adapt_and_score")[0], config_pb2.RunMetadata()
        session.run([info.name for info in signature.outputs.values()],
                    {info.name: inputs[alias] for alias, info in signature.inputs.items()},
                    options=config_pb2.RunOptions(trace_level=config_pb2.RunOptions.SOFTWARE_TRACE),
                    run_metadata=metadata)
    return sum(len(device.node_stats) for device in metadata.step_stats.dev_stats)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for order in (2, 1):
        for steps in (1, 5):
            setting = w1.W1(inner_steps=steps, order=order, batches=1)
            print(json.dumps({"order": order, "inner_steps": steps, **step_cost(setting),
                              "plain_flops_per_task": w1.plain_flops(setting)}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"served_ops": served_ops(folder)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
