"""The recommender that was trained and every way to ask what was exported of it give the same numbers.

Paths: TensorFlow 2's loader, a TensorFlow 1 session, the embedded server over gRPC and over REST. The fast suite has
every learner once, and every pair of model and scope, of model and path and of scope and path; the slow one has every
case on every path.
"""

import itertools
import json
import urllib.request

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from learner_cases import CASES, EMBEDDING, TWO_TOWER, LearnerCase, build, perturb
from recommender_cases import make_spec

from tfmeta.models.recommender import LEARNERS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PATHS = ("tf2", "session", "grpc", "rest")
SIGNATURES = ("score", "adapt_and_score", "adapt", "score_with_state")
# Against the recommender, and between TensorFlow's two loaders: other kernels may sum in another order.
CLOSE = {"rtol": 2e-5, "atol": 1e-5}
BOUND = 8

SCOPES = {"two_tower": ("user_vector", "context", "low_rank", "body", "all"),
          "embedding": ("head", "last_layer", "body", "low_rank", "context", "all")}
MAML = {(name, scope): LearnerCase("maml", {"scope": scope, "inner_steps": 2, "inner_learning_rate": 0.02}, model)
        for name, model in (("two_tower", TWO_TOWER), ("embedding", EMBEDDING)) for scope in SCOPES[name]}
FIRST = {case.name: case for case in reversed(CASES)}
# Learner or model -> the scope of a case whose options do not say it.
DEFAULT_SCOPE = {"boil": "body", "cavia": "context", "low_rank": "low_rank", "two_tower": "user_vector",
                 "embedding": "head"}


def model_and_scope(case):
    """The scope by name, without building anything; checked against the model by a test."""
    model = case.model["name"]
    return model, case.options.get("scope", DEFAULT_SCOPE.get(case.name, DEFAULT_SCOPE[model]))


def fast_plan():
    """Name -> (case, paths): the paths are shared out among the cases of a scope."""
    cases = [FIRST[name] for name in LEARNERS]
    cases += [MAML[pair] for pair in MAML if pair not in {model_and_scope(c) for c in cases}]
    plan, asked = {}, {}
    for case in cases:
        scope = model_and_scope(case)[1]
        alike = sum(model_and_scope(c)[1] == scope for c in cases)
        place = asked[scope] = asked.get(scope, -1) + 1
        if alike == 1:
            paths = PATHS
        elif alike < len(PATHS):
            paths = (PATHS[::2], PATHS[1::2])[place % 2]
        else:
            # TensorFlow 2's loader takes longest.
            paths = (PATHS[place and 1 + place % 3],)
        plan[case.id] = (case, paths)
    return plan


FAST = fast_plan()
ALL = {case.id: (case, PATHS) for case in (*CASES, *MAML.values())}
PARAMETERS = [pytest.param(*planned, id=f"{name}-{'-'.join(planned[1])}") for name, planned in FAST.items()]
PARAMETERS += [pytest.param(*planned, id=name, marks=pytest.mark.slow) for name, planned in ALL.items()]


def test_the_fast_plan_has_every_learner_and_every_pair():
    assert {case.name for case, _ in FAST.values()} == set(LEARNERS)
    met = {(*model_and_scope(case), path) for case, paths in FAST.values() for path in paths}
    assert {(m, s) for m, s, _ in met} == {(m, s) for m in SCOPES for s in SCOPES[m]}
    assert {(m, p) for m, _, p in met} == {(m, p) for m in SCOPES for p in PATHS}
    assert {(s, p) for _, s, p in met} == {(s, p) for m in SCOPES for s in SCOPES[m] for p in PATHS}


class Loaded:
    """TensorFlow 2's loader."""

    def __init__(self, base):
        self._signatures = tf.saved_model.load(f"{base}/1").signatures

    def __call__(self, signature, inputs):
        outputs = self._signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {k: v.numpy() for k, v in outputs.items()}


def ask_rest(address, signature, inputs):
    """Columns of JSON; numbers come back as decimals that name the same float."""
    body = {"signature_name": signature, "inputs": {k: _plain(v) for k, v in inputs.items()}}
    request = urllib.request.Request(f"http://{address}/v1/models/m:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as reply:
        outputs = json.loads(reply.read())["outputs"]
    kinds = {"status": np.int32, "state_model": object}
    return {k: np.array(v, kinds.get(k, np.float32)) for k, v in outputs.items()}


def _plain(value):
    return [v.decode() if isinstance(v, bytes) else v for v in value.tolist()] if value.ndim == 1 else value.tolist()


class Askers:
    """Ways to call a model base by path; a server is started for the paths that need one."""

    def __init__(self, base, paths):
        from tfmeta.serving.servable import Servable

        self._servable = Servable("m", 1, f"{base}/1") if "session" in paths else None
        self._loaded = Loaded(base) if "tf2" in paths else None
        self._server = self._client = None
        if {"grpc", "rest"} & set(paths):
            from tfmeta.serving import Client, EmbeddedServer

            self._server = EmbeddedServer({"m": base}, grpc_port=0, rest_port=0)
            self._server.start()
            self._client = Client(self._server.grpc_address)
        self.by_path = {
            "session": lambda s, i: self._servable.run(s, i), "tf2": lambda s, i: self._loaded(s, i),
            "grpc": lambda s, i: self._client.predict("m", i, signature=s, timeout=60),
            "rest": lambda s, i: ask_rest(self._server.rest_address, s, i)}

    def close(self):
        for part in (self._client, self._servable):
            if part is not None:
                part.close()
        if self._server is not None:
            self._server.stop()


def export(recommender, items, path):
    """Writes the serving graph alone, without what else an export holds."""
    from export.items.catalogue_items import CatalogueItems
    from export.saved_model import ServingModule
    from export.signatures.context import SignatureContext
    from tfmeta.data.feature_transform import FeatureTransform

    context = SignatureContext(
        recommender=recommender, users=FeatureTransform(recommender.feature_spec.user_features),
        items=CatalogueItems(recommender, items), support_bound=BOUND, fingerprint="this model")
    ServingModule(context, default_signature="score", signatures=SIGNATURES).save(path)


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "item_id": range(12), "genres": [list(rng.choice(["a", "b", "c", "d"], i % 4)) for i in range(12)],
        "plot": [" ".join(rng.choice(["blue", "night", "river"], 3)) for _ in range(12)],
        "vector": list(rng.normal(size=(12, 3)).astype(np.float32))})


@pytest.mark.parametrize(("case", "paths"), PARAMETERS)
def test_every_path_gives_the_numbers_of_the_recommender(case, paths, items, tmp_path):
    from export.golden_requests import GoldenRequests

    recommender = build(case, make_spec(case.unit))
    assert (case.model["name"], recommender.model.scope) == model_and_scope(case)
    perturb(recommender, keep=case.keep)
    export(recommender, items, str(tmp_path / "m" / "1"))
    requests = GoldenRequests(recommender, items, item_features="catalogue", support_bound=BOUND)
    request = requests.draw(batch=4, length=[6, 0, 1, 4])
    encoded = requests.encode(request)
    scores, base = (s.numpy() for s in recommender.adapt_and_score(encoded.user, query_item=encoded.query,
                                                                   **encoded.adaptation))
    expected = {"scores": scores, "base_scores": base}
    askers = Askers(str(tmp_path / "m"), paths)
    try:
        answers = {path: ask_all(askers.by_path[path], requests, request) for path in paths}
    finally:
        askers.close()
    for path, (whole, plain, kept, scored) in answers.items():
        for received in (whole, {"scores": scored["scores"]}):
            for name, value in received.items():
                if name != "status":
                    np.testing.assert_allclose(value, expected[name], err_msg=f"{path} {name}", **CLOSE)
        # With nothing to adapt to, and without adapting, not one bit differs.
        for value in (whole["scores"][1], whole["base_scores"][1], scored["scores"][1]):
            np.testing.assert_array_equal(value, plain["scores"][1])
        np.testing.assert_array_equal(whole["base_scores"], plain["scores"])
        assert not any(outputs["status"].any() for outputs in (whole, plain, kept, scored))
    # One execution path, and nothing merged: the servers answer the session's bits.
    same = [answers[path] for path in paths if path != "tf2"]
    for first, second in itertools.pairwise(same):
        for one, other in zip(first, second, strict=True):
            for name in ("scores", "base_scores", "user_state"):
                if name in one:
                    np.testing.assert_array_equal(one[name], other[name])


def ask_all(ask, requests, request):
    """Returns the answers of `adapt_and_score`, `score`, `adapt`, and `score_with_state` on what `adapt` returned."""
    query = requests.inputs(request, "user", "query")
    whole = ask("adapt_and_score", requests.inputs(request, "user", "query", "support"))
    kept = ask("adapt", requests.inputs(request, "user", "support"))
    scored = ask("score_with_state", {**query, "user_state": kept["user_state"], "state_model": kept["state_model"]})
    return whole, ask("score", query), kept, scored
