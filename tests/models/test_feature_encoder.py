"""The fused look-up of a side's features against one plain table per feature."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers.feature_encoder import FeatureEncoder

COLOUR = Feature("colour", "categorical", "string", vocabulary=("r", "g", "b"))
GENRES = Feature("genres", "multi_categorical", "string", length=3, vocabulary=("a", "b"), hash_buckets=2)
PRICE = Feature("price", "numeric", "float32", mean=(0.0,), std=(1.0,))
SHOP = Feature("shop", "categorical", "int64", vocabulary=tuple(range(50)), hash_buckets=4)
PLOT = Feature("plot", "text", "string", length=5, hash_buckets=30)
VECTOR = Feature("vector", "dense_vector", "float32", length=2, mean=(0.0,) * 2, std=(1.0,) * 2)
ALL = (GENRES, COLOUR, PRICE, SHOP, PLOT, VECTOR)
DIM = 4


def values(features, lead, *, seed=0):
    rng = np.random.default_rng(seed)
    result = {}
    for f in features:
        shape = (*lead, f.length) if f.length else lead
        result[f.name] = (rng.integers(0, f.num_ids, shape).astype(np.int32) if f.num_ids
                          else rng.normal(size=shape).astype(np.float32))
        if f.num_ids and f.length:
            result[f.name][..., -1] = 0  # padding everywhere, and whole lists of nothing
            result[f.name].reshape(-1, f.length)[::3] = 0
    return result


def make(features=ALL, **options) -> FeatureEncoder:
    encoder = FeatureEncoder(features, embedding_dim=DIM, seed=3, prefix="item", **options)
    if encoder.table is not None:
        rng = np.random.default_rng(1)
        encoder.table.assign(rng.normal(size=encoder.table.shape).astype(encoder.table.dtype))
    return encoder


def plain(table, encoder, features, data):
    """The definition, one feature at a time, on any tensor that holds the table."""
    def embed(feature):
        vectors = tf.gather(table, data[feature.name] + encoder.rows[feature.name].start)
        if feature.kind == "categorical":
            return vectors
        present = tf.cast(data[feature.name] > 0, table.dtype)[..., None]
        return tf.reduce_sum(vectors * present, -2) / tf.maximum(tf.reduce_sum(present, -2), 1.0)

    order = sorted(features, key=lambda f: (not f.num_ids, f.kind != "categorical"))
    return tf.concat([embed(f) if f.num_ids else
                      tf.cast(data[f.name] if f.length else data[f.name][..., None], table.dtype)
                      for f in order], axis=-1)


@pytest.mark.parametrize("lead", [(1,), (7,), (4, 6), (0,)])
@pytest.mark.parametrize("features", [ALL, (COLOUR, SHOP), (PLOT,), (GENRES, PLOT, COLOUR), (PRICE, VECTOR)])
def test_values_and_gradient_are_those_of_a_table_per_feature(float64, features, lead):
    encoder, data = make(features), values(features, lead)
    weights = np.random.default_rng(2).normal(size=(*lead, encoder.width))
    with tf.GradientTape() as tape:
        encoded = encoder(data, lead=tf.constant(lead))
        loss = tf.reduce_sum(encoded * weights)
    if encoder.table is None:
        np.testing.assert_array_equal(encoded, plain(tf.zeros([1, DIM], tf.float64), encoder, features, data))
        return
    table = tf.constant(encoder.table.numpy())
    with tf.GradientTape() as reference:
        reference.watch(table)
        expected = plain(table, encoder, features, data)
        expected_loss = tf.reduce_sum(expected * weights)
    assert encoded.shape == (*lead, encoder.width) and encoder.embedded_width + encoder.dense_width == encoder.width
    np.testing.assert_allclose(encoded, expected, rtol=1e-13, atol=1e-14)
    gradient = tape.gradient(loss, encoder.table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_allclose(tf.convert_to_tensor(gradient),
                               tf.convert_to_tensor(reference.gradient(expected_loss, table)), rtol=1e-12, atol=1e-13)
    for feature in encoder.lists:  # padding is not even read
        assert encoder.rows[feature.name].start not in gradient.indices.numpy()


def test_rows_of_the_features_do_not_overlap():
    encoder = make()
    taken = [row for rows in encoder.rows.values() for row in rows]
    assert sorted(taken) == list(range(encoder.table.shape[0]))
    assert {n: len(r) for n, r in encoder.rows.items()} == {f.name: f.num_ids for f in ALL if f.num_ids}


def test_initial_values_depend_on_seed_and_name_alone():
    def rows(features, feature, seed=3, prefix="item"):
        encoder = FeatureEncoder(features, embedding_dim=DIM, seed=seed, prefix=prefix)
        return encoder.table.numpy()[encoder.rows[feature.name].start:encoder.rows[feature.name].stop]

    for feature, untrained in ((COLOUR, 2), (GENRES, 3), (SHOP, 5), (PLOT, 1)):
        value = rows(ALL, feature)
        np.testing.assert_array_equal(value, rows((feature,), feature))
        np.testing.assert_array_equal(value[:untrained], 0)
        assert (value[untrained:] != 0).all() and abs(value[untrained:].std() - 0.05) < 0.04
        assert (value[untrained:] != rows(ALL, feature, seed=4)[untrained:]).any()
        assert (value[untrained:] != rows(ALL, feature, prefix="user")[untrained:]).any()


def table_sized(function, rows) -> list[str]:
    return [op.type for op in function.graph.get_operations() for t in op.outputs
            if t.shape.rank and t.shape[0] is not None and t.shape[0] >= rows]


def test_mixed_precision_casts_the_rows_that_were_read_not_the_table():
    encoder, data = make(dtype=keras.DTypePolicy("mixed_bfloat16")), values(ALL, (5,))
    full = make()
    specs = {n: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for n, v in data.items()}

    @tf.function(input_signature=[specs])
    def step(data):
        with tf.GradientTape() as tape:
            encoded = encoder(data, lead=tf.shape(data["colour"]))
            loss = tf.reduce_sum(tf.cast(encoded, tf.float32))
        assert encoded.shape[-1] == encoder.width  # known while tracing
        return encoded, tape.gradient(loss, encoder.table.value)

    encoded, gradient = step(data)
    assert (encoded.dtype, gradient.dtype, encoder.table.dtype) == (tf.bfloat16, tf.float32, "float32")
    np.testing.assert_allclose(tf.cast(encoded, tf.float32), full(data, lead=tf.constant([5])), rtol=1e-2, atol=1e-2)
    concrete = step.get_concrete_function()
    assert table_sized(concrete, encoder.table.shape[0]) == []
    # The check sees what it is for.
    dense = tf.function(lambda: tf.cast(encoder.table.value, tf.bfloat16)).get_concrete_function()
    assert table_sized(dense, encoder.table.shape[0]) != []


def test_a_side_without_features():
    encoder = make(())
    assert encoder(dict(), lead=tf.constant([3, 2])).shape == (3, 2, 0) and encoder.width == 0
    assert encoder.trainable_variables == []


def test_item_ids_outside_the_vocabulary_are_zero_and_read_no_row(float64):
    feature = Feature("item_id", "categorical", "int64", vocabulary=tuple(range(6)), hash_buckets=2)
    layer = ItemIdEmbedding(feature, width=3, seed=0)
    layer.table.assign(np.random.default_rng(0).normal(size=layer.table.shape))
    ids = tf.constant([[0, 3, 8, 1], [2, 2, 5, 3]])
    weights = np.random.default_rng(1).normal(size=(2, 4, 3))
    with tf.GradientTape() as tape:
        output = layer(ids)
        loss = tf.reduce_sum(output * weights)
    expected = np.zeros((2, 4, 3))
    for place in np.ndindex(2, 4):
        if ids[place] >= 3:
            expected[place] = layer.table.numpy()[int(ids[place]) - 3]
    np.testing.assert_array_equal(output, expected)
    gradient = tape.gradient(loss, layer.table.value)
    assert sorted(gradient.indices.numpy()) == [0, 0, 2, 5]
    dense = np.zeros((6, 3))
    for place in np.ndindex(2, 4):
        if ids[place] >= 3:
            dense[int(ids[place]) - 3] += weights[place]
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), dense, rtol=1e-12)
    np.testing.assert_array_equal(layer(tf.constant([0, 1, 2])), np.zeros((3, 3)))
