"""Checks SavedModels in a process that has only TensorFlow and numpy. Run by `export.verify`, never imported.

    python -I verify_process.py REQUEST.json

REQUEST is `{"paths": [model directories], "result": file to write, "sys_path": [...], "blocked": [packages]}`.
The result is a JSON list with, per directory, a list of `{"name", "passed", "detail", "max_difference"}`.
"""

import concurrent.futures
import importlib.abc
import json
import os
import sys

THREADS = 8
# Stateful operations that a signature may run: they read variables and tables, or call functions, which are
# inspected in their turn.
STATEFUL = frozenset({
    "Case", "HashTableV2", "If", "LookupTableFindV2", "LookupTableSizeV2", "PartitionedCall", "Placeholder",
    "ReadVariableOp", "ResourceGather", "StatefulPartitionedCall", "VarHandleOp", "While"})
# Stateless in the registry, and still not wanted: they fail because of a value, draw at random or leave TensorFlow.
REFUSED = ("Assert", "CheckNumerics", "PyFunc", "Random", "Xla", "Print", "DecodeProto", "TPU", "Multinomial")


class _Blocker(importlib.abc.MetaPathFinder):
    """Makes packages unimportable, as they are where the model will be served."""

    def __init__(self, names):
        self._names = frozenset(names)

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"'{fullname}' is blocked: a SavedModel must load without it", name=fullname)
        return None


class Failure(Exception):
    """A check that did not hold; the text is its detail."""


def main(request_path: str) -> int:
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    sys.path += [p for p in request["sys_path"] if p not in sys.path]
    sys.meta_path.insert(0, _Blocker(request["blocked"]))
    results = [verify(path) for path in request["paths"]]
    with open(request["result"], "w", encoding="utf-8") as file:
        json.dump(results, file)
    return 0


def verify(path: str) -> list[dict]:
    """Runs every check on one directory; a check after a failed load is left out."""
    import tensorflow as tf

    checks: list[dict] = []

    def check(name, function):
        try:
            difference = function()
        except Failure as failure:
            checks.append({"name": name, "passed": False, "detail": str(failure), "max_difference": None})
        except Exception as error:  # Whatever goes wrong in a loader or a graph is this check's result.
            detail = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            checks.append({"name": name, "passed": False, "detail": detail, "max_difference": None})
        else:
            checks.append({"name": name, "passed": True, "detail": "", "max_difference": difference})
        return checks[-1]["passed"]

    state: dict = {}

    def read():
        state["graph"] = read_meta_graph(path)
        state["golden"] = read_golden(path)

    def load_tf2():
        state["tf2"] = Tf2Model(tf.saved_model.load(path))

    def load_tf1():
        state["tf1"] = Tf1Model(path)

    if not check("SavedModel and golden requests are readable", read):
        return checks
    check("signatures: ranks and batch axis", lambda: check_shapes(state["graph"]))
    check("graph: stock operations, no state, no randomness, no assertion", lambda: check_operations(state["graph"]))
    for key, title, load in (("tf2", "TensorFlow 2 loader", load_tf2), ("tf1", "TensorFlow 1 session", load_tf1)):
        if check(f"{title}: loads without tfmeta", load):
            check(f"{title}: golden requests", lambda k=key: replay(state[k], state["golden"]))
            check(f"{title}: empty support equals score", lambda k=key: check_empty(state[k], state["golden"]))
            check(f"{title}: outputs share the batch axis", lambda k=key: check_batch(state[k], state["golden"]))
            check(f"{title}: {THREADS} threads", lambda k=key: check_threads(state[k], state["golden"]))
    return checks


# Reading ------------------------------------------------------------------------------------------------------------


def read_meta_graph(path: str):
    from tensorflow.core.protobuf import saved_model_pb2

    file = os.path.join(path, "saved_model.pb")
    if not os.path.exists(file):
        raise Failure(f"'{path}' has no saved_model.pb")
    with open(file, "rb") as stream:
        model = saved_model_pb2.SavedModel.FromString(stream.read())
    served = [g for g in model.meta_graphs if "serve" in g.meta_info_def.tags]
    if not served:
        raise Failure("no graph has the tag 'serve'")
    return served[0]


def read_golden(path: str) -> dict:
    import numpy as np

    file = os.path.join(path, "assets.extra", "golden.npz")
    if not os.path.exists(file):
        raise Failure("assets.extra/golden.npz is missing; write the model with 'tfmeta export'")
    with np.load(file, allow_pickle=False) as arrays:
        index = json.loads(str(arrays["index"]))
        for key in arrays.files:
            head, _, name = key.partition("/")
            part, _, name = name.partition("/")
            if part in ("in", "out"):
                case = index["cases"][int(head)]
                case.setdefault(part, {})[name] = arrays[key]
        for number, case in enumerate(index["cases"]):
            for place in case["binary"]:
                part, _, name = place.partition("/")
                case[part][name] = as_strings(case[part][name], arrays[f"{number}/bytes/{place}"])
    if not index["cases"]:
        raise Failure("there are no golden requests")
    return index


def as_strings(ends, content):
    """Returns an object array of bytes: `ends` says where each value ends within `content`."""
    import numpy as np

    flat, joined, start = np.empty(ends.size, object), content.tobytes(), 0
    for position, end in enumerate(ends.ravel().tolist()):
        flat[position], start = joined[start:end], end
    return flat.reshape(ends.shape)


# Loaders ------------------------------------------------------------------------------------------------------------


class Tf2Model:
    """Calls signatures of `tf.saved_model.load`."""

    def __init__(self, loaded):
        self._loaded = loaded
        self.signatures = {name: sorted(f.structured_outputs) for name, f in loaded.signatures.items()}

    def __call__(self, signature: str, inputs: dict) -> dict:
        import tensorflow as tf

        function = self._loaded.signatures[signature]
        return {k: v.numpy() for k, v in function(**{k: tf.constant(v) for k, v in inputs.items()}).items()}


class Tf1Model:
    """Feeds and fetches by the SignatureDef's tensor names in a session: TensorFlow Serving's way."""

    def __init__(self, path: str):
        import tensorflow as tf

        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            self._meta = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
        self.signatures = {name: sorted(s.outputs) for name, s in self._meta.signature_def.items() if s.inputs}

    def __call__(self, signature: str, inputs: dict) -> dict:
        definition = self._meta.signature_def[signature]
        return self._session.run({k: v.name for k, v in definition.outputs.items()},
                                 {definition.inputs[k].name: v for k, v in inputs.items()})


# Checks -------------------------------------------------------------------------------------------------------------


def check_shapes(meta_graph) -> None:
    served = {k: s for k, s in meta_graph.signature_def.items() if s.inputs}
    for key in ("serving_default", "score", "adapt_and_score"):
        if key not in served:
            raise Failure(f"signature '{key}' is missing")
    for key, signature in served.items():
        for part, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for name, info in tensors.items():
                dims = [d.size for d in info.tensor_shape.dim]
                if info.tensor_shape.unknown_rank or not dims:
                    raise Failure(f"{part} '{name}' of '{key}' requires rank 1 or more, received a scalar or no rank")
                if dims[0] != -1:
                    raise Failure(f"{part} '{name}' of '{key}' requires a free batch axis, received shape {dims}")
        if "status" not in signature.outputs:
            raise Failure(f"signature '{key}' lacks the output 'status'")


def check_operations(meta_graph) -> None:
    """Walks from each signature's outputs through every function that they call."""
    from tensorflow.python.framework import op_def_registry

    nodes = {n.name: n for n in meta_graph.graph_def.node}
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    for key, signature in meta_graph.signature_def.items():
        if not signature.inputs:
            continue
        pending = [info.name.split(":")[0] for info in signature.outputs.values()]
        seen_nodes, seen_functions, called = set(), set(), []
        while pending:
            name = pending.pop()
            if name in seen_nodes:
                continue
            seen_nodes.add(name)
            node = nodes[name]
            called += inspect_node(node, key, functions, op_def_registry)
            pending += [i.lstrip("^").split(":")[0] for i in node.input]
        while called:
            name = called.pop()
            if name in seen_functions:
                continue
            seen_functions.add(name)
            for node in functions[name].node_def:
                called += inspect_node(node, key, functions, op_def_registry)


def inspect_node(node, key, functions, registry) -> list[str]:
    """Raises Failure on an operation that a signature must not run; returns the functions that the node calls."""
    if node.op in functions:
        return [node.op]
    definition = registry.get(node.op)
    if definition is None:
        raise Failure(f"signature '{key}' runs '{node.op}', which is no stock TensorFlow operation")
    if any(word in node.op for word in REFUSED):
        raise Failure(f"signature '{key}' runs '{node.op}' ({node.name})")
    if definition.is_stateful and node.op not in STATEFUL:
        raise Failure(f"signature '{key}' runs the stateful operation '{node.op}' ({node.name})")
    if "_gradient_op_type" in node.attr:
        raise Failure(f"signature '{key}' names a gradient that is not saved ({node.name})")
    called = [a.func.name for a in node.attr.values() if a.HasField("func")]
    called += [f.name for a in node.attr.values() for f in a.list.func]
    if any(a.b for name, a in node.attr.items() if name == "_XlaMustCompile"):
        raise Failure(f"signature '{key}' is compiled by XLA, which a stock server refuses")
    return [name for name in called if name in functions]


def compare(expected: dict, received: dict, where: str, tolerance: float) -> float:
    """Returns the largest absolute difference; Failure beyond the tolerance."""
    import numpy as np

    if set(expected) != set(received):
        raise Failure(f"{where}: outputs {sorted(received)} instead of {sorted(expected)}")
    worst = 0.0
    for name, value in expected.items():
        other = received[name]
        if other.shape != value.shape or other.dtype != value.dtype:
            raise Failure(f"{where}: '{name}' is {other.dtype}{list(other.shape)} instead of "
                          f"{value.dtype}{list(value.shape)}")
        if value.dtype.kind != "f":
            if name == "item_ids" and same_lists(expected, received, tolerance):
                continue
            if not np.array_equal(value, other):
                raise Failure(f"{where}: '{name}' is {other.tolist()} instead of {value.tolist()}")
            continue
        finite = np.isfinite(value)
        # An infinity may be the answer (the score of a place that no item has), NaN never is.
        if not np.isfinite(other[finite]).all() or not np.array_equal(other[~finite], value[~finite]):
            raise Failure(f"{where}: '{name}' holds values that are not finite")
        value, other = value[finite], other[finite]
        difference = np.abs(other.astype(np.float64) - value)
        worst = max(worst, float(difference.max(initial=0.0)))
        if (difference > tolerance * (1.0 + np.abs(value))).any():
            raise Failure(f"{where}: '{name}' differs by up to {difference.max():.3g} (allowed {tolerance:.3g})")
    return worst


def same_lists(expected: dict, received: dict, tolerance: float) -> bool:
    """Whether lists of items differ at most by items whose scores round alike: in places, or as the last one."""
    import numpy as np

    for ids, scores, other in zip(expected["item_ids"], expected["scores"], received["item_ids"], strict=True):
        places = {item: place for place, item in enumerate(ids.tolist()) if np.isfinite(scores[place])}
        last = scores[np.isfinite(scores)][-1:]
        for place in np.flatnonzero(ids != other):
            near = scores[places[other[place]]] if other[place] in places else last[0] if last.size else np.nan
            allowed = tolerance * (1.0 + abs(scores[place]))
            if not np.isfinite(scores[place]) or not abs(near - scores[place]) <= allowed:
                return False
        if len(set(other[:len(places)].tolist())) != len(places):
            return False
    return True


def replay(model, golden) -> float:
    worst = 0.0
    for case in golden["cases"]:
        for key in (case["signature"], *(["serving_default"] if case["signature"] == golden["default"] else [])):
            received = model(key, case["in"])
            worst = max(worst, compare(case["out"], received, f"{key}, {case['name']}", golden["tolerance"]))
    return worst


def first_cases(golden) -> list[dict]:
    """Returns one case of each signature."""
    return list({case["signature"]: case for case in reversed(golden["cases"])}.values())


def score_inputs(case) -> dict:
    return {k: v for k, v in case["in"].items() if not k.startswith("support_")}


def check_empty(model, golden) -> float:
    """Whatever the golden requests ask, with length 0 the adapted scores are those of `score` bit for bit."""
    by_state = {"adapt", "score_with_state"} <= {case["signature"] for case in golden["cases"]}
    for case in golden["cases"]:
        if case["signature"] != "adapt_and_score":
            continue
        inputs = {**case["in"], "support_length": 0 * case["in"]["support_length"]}
        received, query = model("adapt_and_score", inputs), score_inputs(case)
        plain = model("score", query)["scores"]
        compared = {name: received[name] for name in ("scores", "base_scores")}
        if by_state:
            kept = model("adapt", {k: v for k, v in inputs.items() if not k.startswith("query_")})
            compared["scores from a state"] = model("score_with_state", {
                **query, "user_state": kept["user_state"], "state_model": kept["state_model"]})["scores"]
        for name, value in compared.items():
            if value.tobytes() != plain.tobytes():
                raise Failure(f"{case['name']}: '{name}' differs from `score` by up to "
                              f"{abs(value - plain).max():.3g}; they must be equal bit for bit")
    return 0.0


def check_batch(model, golden) -> None:
    for case in first_cases(golden):
        size = len(next(iter(case["in"].values())))
        for name, value in model(case["signature"], case["in"]).items():
            if value.shape[:1] != (size,):
                raise Failure(f"{case['name']}: '{name}' has shape {value.shape} for a batch of {size}")


def check_threads(model, golden) -> float:
    """Every thread asks every signature, each starting elsewhere; all get the single-threaded answers' values."""
    cases = first_cases(golden)

    def work(thread):
        worst = 0.0
        for step in range(len(cases)):
            case = cases[(step + thread) % len(cases)]
            received = model(case["signature"], case["in"])
            worst = max(worst, compare(case["out"], received, case["name"], golden["tolerance"]))
        return worst

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return max(pool.map(work, range(THREADS)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
