"""What W1's training step consists of, without timing anything: operations, matrix products, their arithmetic.

    python -m benchmarks.step_cost

Operations are counted in the step's graph with all functions it calls; matrix products and their floating-point
operations in what XLA is given for it, where every shape is known. `tests/benchmarks/test_step_cost.py` holds these
numbers below recorded bounds.
"""

import argparse
import json
import math
import re

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


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for order in (2, 1):
        for steps in (1, 5):
            setting = w1.W1(inner_steps=steps, order=order, batches=1)
            print(json.dumps({"order": order, "inner_steps": steps, **step_cost(setting),
                              "plain_flops_per_task": w1.plain_flops(setting)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
