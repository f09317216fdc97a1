"""The signature `metadata`, by which clients learn about a model."""

import json
import os

import numpy as np
import pytest
from export_cases import BOUND, combinations

from tfmeta.data.feature_spec import FeatureSpec


@pytest.fixture(params=combinations())
def key(request):
    return request.param


def ask(servable, *names):
    outputs = servable.run("metadata", {"document": np.array([n.encode() for n in names], object)})
    assert set(outputs) == {"json", "status"}
    return outputs


def test_the_documents_are_those_beside_the_graph(exports, servables, key):
    outputs = ask(servables[key], "export", "feature_spec", "no such thing", "", "export")
    assert not outputs["status"].any()
    extras = os.path.join(exports[key].path, "assets.extra")
    with open(os.path.join(extras, "export.json"), "rb") as file:
        assert outputs["json"][0] == outputs["json"][4] == file.read()
    assert outputs["json"][2] == outputs["json"][3] == b""


def test_a_client_learns_all_that_it_needs(exports, servables, key):
    outputs = ask(servables[key], "feature_spec", "export")
    spec, whole = FeatureSpec.from_json(outputs["json"][0].decode()), exports[key].recommender.feature_spec
    assert (spec.user_features, spec.item_features, spec.label) == (
        whole.user_features, whole.item_features, whole.label)
    assert (spec.item_id.name, spec.item_id.dtype) == (whole.item_id.name, whole.item_id.dtype)
    # Who the training users are is nobody's business.
    assert spec.user_id.vocabulary is None and spec.item_id.vocabulary is None
    described = json.loads(outputs["json"][1])
    assert described["support_bound"] == BOUND and described["item_features"] == key[3]
    served = {name: s for name, s in servables[key].signature_defs.items() if s.inputs}
    assert set(described["signatures"]) == set(served)
    for name, signature in served.items():
        for part, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            assert set(described["signatures"][name][part]) == set(tensors)
            for tensor, info in tensors.items():
                assert len(described["signatures"][name][part][tensor]["shape"]) == len(info.tensor_shape.dim)


def test_a_request_cannot_ask_for_any_amount_of_memory(servables):
    from export.signatures.metadata import MOST_ROWS

    key = ("two_tower", "user_vector", "rating", "catalogue")
    outputs = ask(servables[key], *["export"] * (MOST_ROWS + 3))
    assert all(outputs["json"][:MOST_ROWS])
    assert outputs["json"][MOST_ROWS:].tolist() == [b""] * 3
    assert outputs["status"].tolist() == [0] * MOST_ROWS + [8] * 3
