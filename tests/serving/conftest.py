"""A small hand-made SavedModel with the signatures of an export."""

import os
import pathlib
import shutil

import pytest


def build_small_model(path: str, *, offset: float = 0.0) -> None:
    """Scores items by id: known ids 0, 1, 2, ... score `offset` + id; adaptation adds the mean support label."""
    import tensorflow as tf

    ids = [str(i) for i in range(10)]

    class Small(tf.Module):
        def __init__(self):
            super().__init__()
            self.bias = tf.Variable(offset, dtype=tf.float32)
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(ids, tf.range(10, dtype=tf.int64)), -1)

        def score(self, query_item_id):
            scores = tf.cast(self.table.lookup(query_item_id), tf.float32) + self.bias
            return {"scores": scores, "status": tf.zeros(tf.shape(scores)[:1], tf.int32)}

        def adapt_and_score(self, support_item_id, support_label, support_length, query_item_id):
            mask = tf.sequence_mask(support_length, tf.shape(support_label)[1])
            count = tf.cast(tf.maximum(support_length, 1), tf.float32)
            mean = tf.reduce_sum(tf.where(mask, support_label, 0.0), 1) / count
            known = tf.reduce_sum(tf.cast(self.table.lookup(support_item_id), tf.float32) * 0.0, 1)
            base = self.score(query_item_id)
            bad = tf.reduce_any(mask & ~tf.math.is_finite(support_label), 1)
            return {"scores": base["scores"] + (mean + known)[:, None], "base_scores": base["scores"],
                    "status": tf.cast(bad, tf.int32)}

    module = Small()
    matrix = [None, None]
    specs = {"support_item_id": tf.TensorSpec(matrix, tf.string, "support_item_id"),
             "support_label": tf.TensorSpec(matrix, tf.float32, "support_label"),
             "support_length": tf.TensorSpec([None], tf.int32, "support_length"),
             "query_item_id": tf.TensorSpec(matrix, tf.string, "query_item_id")}
    score = tf.function(module.score).get_concrete_function(query_item_id=specs["query_item_id"])
    adapt = tf.function(module.adapt_and_score).get_concrete_function(**specs)
    tf.saved_model.save(module, path, signatures={"serving_default": score, "score": score, "adapt_and_score": adapt})


@pytest.fixture(scope="session")
def small_model_base(tmp_path_factory) -> str:
    base = tmp_path_factory.mktemp("models") / "small"
    build_small_model(str(base / "1"))
    build_small_model(str(base / "3"), offset=100.0)
    (base / "not-a-version").mkdir()
    return str(base)


@pytest.fixture(scope="session")
def small_server(small_model_base):
    from tfmeta.serving.server import EmbeddedServer

    with EmbeddedServer({"small": small_model_base}, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="session")
def write_version(tmp_path_factory):
    """`write_version(base, 3, damage="")` renames a version into place that scores 1000 * version + item.

    It is a copy of one SavedModel whose offset lies in an asset, so that a version costs no export. Damages: `graph`
    (saved_model.pb cut short), `variables` (gone), `warm_up` (a recorded request to a signature that is not there),
    `empty` (a directory without files).
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from tfmeta.serving import tensor_codec

    template = tmp_path_factory.mktemp("template") / "model"
    offset_file = tmp_path_factory.mktemp("asset") / "offset.txt"
    offset_file.write_text("offset 0\n")

    class Versioned(tf.Module):
        def __init__(self):
            super().__init__()
            self.slope = tf.Variable(1.0)
            # A version that stays in memory shows.
            self.ballast = tf.Variable(tf.zeros([1 << 21]))
            self.offset = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
                str(offset_file), tf.string, 0, tf.float32, 1, delimiter=" "), -1.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, "item")])
        def score(self, item):
            return {"scores": self.slope * tf.cast(item, tf.float32) + self.offset.lookup(tf.constant("offset"))}

    module = Versioned()
    tf.saved_model.save(module, str(template), signatures={"score": module.score, "serving_default": module.score})
    log = prediction_log_pb2.PredictionLog()
    tensor_codec.encode([[1, 2]], log.predict_log.request.inputs["item"])

    def write(base, version: int, *, damage: str = "") -> pathlib.Path:
        base = pathlib.Path(base)
        # Not numeric: a server that polls the base path ignores it.
        growing = base / f".{version}.tmp"
        growing.parent.mkdir(parents=True, exist_ok=True)
        if damage == "empty":
            growing.mkdir()
        else:
            shutil.copytree(template, growing)
            (growing / "assets" / "offset.txt").write_text(f"offset {1000 * version}\n")
            (growing / "assets.extra").mkdir()
            log.predict_log.request.model_spec.signature_name = "zzz" if damage == "warm_up" else "score"
            with tf.io.TFRecordWriter(str(growing / "assets.extra" / "tf_serving_warmup_requests")) as writer:
                writer.write(log.SerializeToString())
        if damage == "graph":
            graph = growing / "saved_model.pb"
            graph.write_bytes(graph.read_bytes()[:200])
        elif damage == "variables":
            shutil.rmtree(growing / "variables")
        os.rename(growing, base / str(version))
        return base / str(version)

    return write
