"""Gradients that operations bring along stay behind: a served graph has none, and its loader nothing to warn of."""

import logging

import pytest
from list_cases import make, make_context


def named_gradients(graph_def):
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    return [n.name for n in nodes if "_gradient_op_type" in n.attr]


@pytest.mark.parametrize("learner", ["ridge", "ordinal_ridge"])
def test_custom_gradients_are_neither_saved_nor_named(learner, tmp_path):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    from export.saved_model import ServingModule

    module = ServingModule(make_context(make(learner)), default_signature="adapt_and_score",
                           signatures=("score", "adapt_and_score"))
    traced = module._functions["adapt_and_score"].graph.as_graph_def()
    assert named_gradients(traced)  # The solve has one, which training needs.
    path = str(tmp_path / "1")
    module.save(path)
    with open(f"{path}/saved_model.pb", "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]
    assert not named_gradients(saved.graph_def)
    assert tf.saved_model.experimental.read_fingerprint(path)

    heard = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    try:
        loaded = tf.saved_model.load(path)
        with tf.compat.v1.Session(graph=tf.Graph()) as session:
            tf.compat.v1.saved_model.load(session, ["serve"], path)
    finally:
        logger.removeHandler(handler)
    assert set(loaded.signatures) == {"serving_default", "score", "adapt_and_score"}
    assert [h for h in heard if "is deprecated" not in h] == []
