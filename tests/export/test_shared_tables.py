"""An export reads the variables that training updates; it makes no copy of an embedding table."""

import pytest
import tensorflow as tf
from export_cases import BOUND, make_items, make_recommender

from export.items.catalogue_items import CatalogueItems
from export.items.request_items import RequestItems
from export.saved_model import ServingModule
from export.signatures.context import SignatureContext
from tfmeta.data.feature_transform import FeatureTransform


def serving_module(recommender, items) -> ServingModule:
    context = SignatureContext(recommender=recommender, items=items, support_bound=BOUND,
                               users=FeatureTransform(recommender.feature_spec.user_features))
    return ServingModule(context, default_signature="score")


@pytest.mark.parametrize("model,scope", [("two_tower", "user_vector"), ("embedding", "head")])
def test_the_exporters_variables_are_those_of_training(model, scope):
    recommender = make_recommender(model, scope)
    module = serving_module(recommender, RequestItems(recommender))
    trained = {id(v.value): v for v in recommender.variables}
    assert all(id(v) in trained for v in module.slow_weights)
    shared = {trained[id(v)].path.rsplit("/", 1)[-1] for v in module.slow_weights}
    assert {"user_embedding", "item_embedding", "item_id_embedding"} <= shared

    # A row that training moves is another row for the exported graph at once.
    score = module._functions["score"]
    specs = score.structured_input_signature[1]
    sizes = {name: [1 if size is None else size for size in spec.shape] for name, spec in specs.items()}
    inputs = {name: tf.fill(sizes[name], "") if spec.dtype == tf.string else tf.zeros(sizes[name], spec.dtype)
              for name, spec in specs.items()}
    before = score(**inputs)["scores"].numpy()
    table = next(v for v in module.slow_weights if trained[id(v)].path.endswith("/user_embedding"))
    table.scatter_add(tf.IndexedSlices(tf.ones([1, table.shape[1]]), [0]))
    assert (score(**inputs)["scores"].numpy() != before).all()


def test_a_catalogue_replaces_the_tables_of_items():
    recommender = make_recommender()
    module = serving_module(recommender, CatalogueItems(recommender, make_items()))
    trained = {id(v.value): v.path for v in recommender.variables}
    paths = [trained.get(id(v)) for v in module.slow_weights]
    assert not any("item_embedding" in p or "item_id_embedding" in p for p in paths if p)
    new = [v for v, path in zip(module.slow_weights, paths, strict=True) if path is None]
    assert [v.name for v in new] == ["item_representations:0"]
