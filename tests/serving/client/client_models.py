"""Hand-made models with all signatures of an export, whose answers can be computed by hand."""

import json

import numpy as np

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label import Label

IDS = [f"m{i}" for i in range(10)]
BOUND = 4
TOP_K = 6


def make_spec(unit: str = "rating") -> FeatureSpec:
    label = Label("stars") if unit == "rating" else Label("clicked", unit="click", minimum=0, maximum=1, threshold=1)
    return FeatureSpec(
        label=label, title="name",
        user_id=Feature("user", "categorical", "string"), item_id=Feature("movie", "categorical", "string"),
        user_features=(Feature("age", "numeric", "float32", mean=(0.0,), std=(1.0,)),
                       Feature("zip-code", "categorical", "string", vocabulary=("a",)),
                       Feature("tags", "multi_categorical", "string", length=3, vocabulary=("x",)),
                       Feature("place", "dense_vector", "float32", length=2, mean=(0.0, 0.0), std=(1.0, 1.0))),
        item_features=(Feature("price", "numeric", "float32", mean=(0.0,), std=(1.0,)),
                       Feature("genres", "multi_categorical", "string", length=2, vocabulary=("x",))))


def build_client_model(path: str, *, by_id: bool = True, offset: float = 0.0, unit: str = "rating") -> None:
    """Scores by id: items m0, m1, ... are worth 0, 1, ...; an unknown one -1. Without a catalogue an item is worth its
    price + 10 for each genre. Adapting adds the mean label."""
    import tensorflow as tf

    spec = make_spec(unit)
    fingerprint = f"model-{by_id}-{offset:g}"
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(IDS, tf.range(10, dtype=tf.int64)), -1)
    signatures = ["score", "adapt_and_score", "metadata"]
    if by_id and unit == "rating":
        signatures += ["adapt", "score_with_state", "explain", "recommend", "adapt_and_recommend"]
    documents = {"feature_spec": spec.to_json(), "export": json.dumps({
        "item_features": "catalogue" if by_id else "request", "support_bound": BOUND, "fingerprint": fingerprint,
        "signatures": {name: {"inputs": {}, "outputs": {}} for name in signatures}})}

    def some(value):
        return tf.where(tf.math.is_finite(value), value, 0.0)

    def words(value):
        return tf.reduce_sum(tf.cast(value != "", tf.float32), -1)

    def user(inputs):
        bad = ~tf.math.is_finite(inputs["user_age"]) | tf.reduce_any(~tf.math.is_finite(inputs["user_place"]), 1)
        value = some(inputs["user_age"]) + tf.reduce_sum(some(inputs["user_place"]), 1)
        value += 10 * words(inputs["user_tags"]) + 0.0 * words(inputs["user_zip_code"][:, None])
        return value + offset, 2 * tf.cast(bad, tf.int32)

    def items(inputs, prefix):
        if by_id:
            return tf.cast(table.lookup(inputs[f"{prefix}_movie"]), tf.float32)
        return some(inputs[f"{prefix}_price"]) + 10 * words(inputs[f"{prefix}_genres"]) + 0.0 * words(
            inputs[f"{prefix}_movie"][..., None])

    def adapted(inputs):
        label, length = inputs["support_label"], inputs["support_length"]
        mask = tf.sequence_mask(length, tf.shape(label)[1])
        count = tf.cast(tf.maximum(length, 1), tf.float32)
        mean = tf.reduce_sum(tf.where(mask, some(label), 0.0), 1) / count + 0.0 * items(inputs, "support")[:, 0]
        bad = tf.reduce_any(mask & ~tf.math.is_finite(label), 1)
        return mean, mask, count, tf.cast(bad, tf.int32)

    def score(inputs):
        value, status = user(inputs)
        return {"scores": items(inputs, "query") + value[:, None], "status": status}

    def adapt_and_score(inputs):
        base, (mean, *_, bad) = score(inputs), adapted(inputs)
        return {"scores": base["scores"] + mean[:, None], "base_scores": base["scores"], "status": base["status"] + bad}

    def adapt(inputs):
        mean, _, count, bad = adapted(inputs)
        return {"user_state": tf.stack([mean, count], 1), "state_model": tf.fill(tf.shape(mean), fingerprint),
                "status": user(inputs)[1] + bad}

    def score_with_state(inputs):
        base, own = score(inputs), inputs["state_model"] == fingerprint
        return {"scores": base["scores"] + tf.where(own, inputs["user_state"][:, 0], 0.0)[:, None],
                "status": base["status"] + tf.where(own, 0, 4)}

    def explain(inputs):
        done, (_, mask, count, _) = adapt_and_score(inputs), adapted(inputs)
        share = tf.where(mask, inputs["support_label"], 0.0) / count[:, None]
        ones = tf.ones_like(done["scores"])
        return {**done, "influence": ones[:, :, None] * share[:, None, :]}

    def listed(ids, length):
        rows = tf.where(tf.sequence_mask(length, tf.shape(ids)[1]), table.lookup(ids), -1)
        return tf.reduce_any(tf.one_hot(rows, 10, on_value=True, off_value=False, dtype=tf.bool), 1)

    def recommend(inputs):
        left_out = listed(inputs["exclude_item"], inputs["exclude_length"])
        value, status = user(inputs)
        if "support_label" in inputs:
            left_out |= listed(inputs["support_movie"], inputs["support_length"])
            value += adapted(inputs)[0]
        scores = tf.where(left_out, -np.inf, tf.range(10.0)[None, :] + value[:, None])
        best = tf.math.top_k(scores, TOP_K)
        ids = tf.where(tf.math.is_finite(best.values), tf.gather(tf.constant(IDS), best.indices), "")
        return {"item_ids": ids, "scores": best.values, "status": status,
                "item_count": tf.reduce_sum(tf.cast(tf.math.is_finite(best.values), tf.int32), 1)}

    def metadata(inputs):
        found = tf.fill(tf.shape(inputs["document"]), "")
        for name, text in documents.items():
            found = tf.where(inputs["document"] == name, text, found)
        return {"json": found, "status": tf.zeros(tf.shape(found), tf.int32)}

    types = {"string": tf.string, "float32": tf.float32}
    specs = {"document": ([None], tf.string), "user_state": ([None, None], tf.float32),
             "state_model": ([None], tf.string), "support_label": ([None, None], tf.float32),
             "support_length": ([None], tf.int32), "exclude_item": ([None, None], tf.string),
             "exclude_length": ([None], tf.int32)}
    users = {}
    for feature in spec.user_features:
        users["user_" + feature.name.replace("-", "_")] = ([None, *feature.raw_shape], types[feature.dtype])
    sides = {side: {f"{side}_{f.name}": ([None, None, *f.raw_shape], types[f.dtype])
                    for f in (spec.item_id, *(() if by_id else spec.item_features))} for side in ("support", "query")}
    support = {**sides["support"], **{k: specs[k] for k in ("support_label", "support_length")}}
    excluded = {k: specs[k] for k in ("exclude_item", "exclude_length")}
    states = {k: specs[k] for k in ("user_state", "state_model")}
    made = {"score": (score, {**users, **sides["query"]}),
            "adapt_and_score": (adapt_and_score, {**users, **support, **sides["query"]}),
            "adapt": (adapt, {**users, **support}),
            "score_with_state": (score_with_state, {**users, **states, **sides["query"]}),
            "explain": (explain, {**users, **support, **sides["query"]}),
            "metadata": (metadata, {"document": specs["document"]}),
            "recommend": (recommend, {**users, **excluded}),
            "adapt_and_recommend": (recommend, {**users, **excluded, **support})}
    module = tf.Module()
    module.table = table

    def concrete(run, inputs):
        return tf.function(lambda **given: run(given), autograph=False).get_concrete_function(
            **{name: tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()})

    functions = {name: concrete(*made[name]) for name in signatures}
    tf.saved_model.save(module, path, signatures={**functions, "serving_default": functions["score"]})
