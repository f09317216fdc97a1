"""Raw data as tf.Examples and back, and the Trainer's user function, without TFX."""

import dataclasses
import importlib.util
import json
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfmeta import config
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.prepare import prepare
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError, DataError
from trainer.pipelines.tfx.example_reader import read_examples
from trainer.pipelines.tfx.example_writer import SPLITS, examples_schema, write_examples
from trainer.pipelines.tfx.run_fn import run_fn


@pytest.fixture(scope="module")
def raw() -> RawData:
    return generate(SyntheticConfig(users=120, items=60, ratings_per_user=25, seed=3))[0]


@pytest.fixture(scope="module")
def examples(raw, tmp_path_factory) -> str:
    uri = str(tmp_path_factory.mktemp("examples"))
    assert write_examples(raw, uri, shard_rows=1000) == {
        "interactions": len(raw.interactions), "users": 120, "items": 60}
    return uri


def patterns(uri: str) -> list[str]:
    return [f"{uri}/Split-{split}/*" for split in SPLITS]


def assert_same(read: RawData, raw: RawData) -> None:
    pd.testing.assert_frame_equal(read.users, raw.users)
    pd.testing.assert_frame_equal(read.items, raw.items)
    for field in dataclasses.fields(raw.interactions):
        np.testing.assert_array_equal(getattr(read.interactions, field.name), getattr(raw.interactions, field.name))
    assert read.counts["rejected"] == 0 and not read.counts["bad_features"]


def test_examples_hold_the_raw_data(raw, examples):
    assert len(list(tf.io.gfile.glob(f"{examples}/Split-interactions/*"))) > 2
    assert_same(read_examples(patterns(examples), schema=examples_schema(raw.schema), chunk_rows=700), raw)


def test_the_same_data_gives_the_same_bytes(raw, examples, tmp_path):
    write_examples(raw, str(tmp_path), shard_rows=1000)
    for path in sorted(tmp_path.rglob("*.gz")):
        with open(f"{examples}/{path.relative_to(tmp_path)}", "rb") as file:
            assert file.read() == path.read_bytes()


def test_preparing_examples_gives_the_data_that_preparing_the_source_gives(raw, examples, tmp_path):
    read = read_examples(patterns(examples), schema=examples_schema(raw.schema))
    made = [prepare(raw=given, out=str(tmp_path / name)) for name, given in (("raw", raw), ("read", read))]
    assert len({p.manifest["files"]["train.parquet"]["sha256"] for p in made}) == 1
    assert len({p.training_fingerprint() for p in made}) == 1


def test_missing_values_numbers_as_ids_and_late_features(tmp_path):
    """A feature that no record has before the last one is read all the same; weights need no label column."""
    schema = Schema(label=LabelSchema(unit="click", implicit=True), user_id="u", item_id="i", user_id_dtype="int64",
                    title="name",
                    user_features=(FeatureSchema("age", "categorical", column="AGE", dtype="int64"),),
                    item_features=(FeatureSchema("tags", "multi_categorical", length=2),
                                   FeatureSchema("vector", "dense_vector", length=2),
                                   FeatureSchema("price", "numeric"), FeatureSchema("brand", "categorical")))
    items = [f"i{n:03d}" for n in range(400)]
    last = [None] * 399
    frame = pd.DataFrame({"i": items, "name": [*last, "Ünïcode"], "tags": [*last, ["only"]],
                          "vector": [*last, [1.5, -2.0]], "price": [*last, 3.25], "brand": [*last, "b"]})
    raw = RawData.from_frames(pd.DataFrame({"u": [7, 11] * 200, "i": items}), schema=schema, items=frame,
                              users=pd.DataFrame({"u": [11, 7], "AGE": [30, None]}))
    write_examples(raw, str(tmp_path), shard_rows=1000)
    read = read_examples(patterns(str(tmp_path)), schema=examples_schema(schema))
    assert_same(read, raw)
    assert read.items["tags"].iloc[-1] == ["only"] and read.items["name"].iloc[-1] == "Ünïcode"
    assert read.users["age"].tolist() == [-1, 30]


def write(path, rows: list[dict]) -> None:
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in rows:
            record = tf.train.Example(features=tf.train.Features(feature={k: feature(v) for k, v in row.items()}))
            writer.write(record.SerializeToString())


def test_examples_of_another_generator(tmp_path):
    """Features beside the interactions, whole labels as integers, rows of one user in both splits: joined."""
    rows = [{"u": b"a", "i": b"x", "stars": 5, "genre": b"g"}, {"u": b"a", "i": b"y", "stars": 1, "genre": b"h"}]
    write(tmp_path / "Split-train" / "data.gz", rows[:1])
    write(tmp_path / "Split-eval" / "data.gz", rows[1:])
    schema = Schema(label=LabelSchema(name="stars"), user_id="u", item_id="i",
                    item_features=(FeatureSchema("genre", "categorical"),))
    read = read_examples([f"{tmp_path}/Split-train/*", f"{tmp_path}/Split-eval/*"], schema=schema)
    assert read.users["user_id"].tolist() == ["a"] and read.items["genre"].tolist() == ["g", "h"]
    assert sorted(read.interactions.label.tolist()) == [1.0, 5.0]
    with pytest.raises(DataError, match=r"Split-eval/data\.gz' requires column 'rating', received columns"):
        read_examples([f"{tmp_path}/*/*"], schema=dataclasses.replace(schema, label=LabelSchema()))
    with pytest.raises(DataError, match="Examples with interactions are required"):
        read_examples([f"{tmp_path}/Split-test/*"], schema=schema)


def test_a_damaged_shard_is_named(raw, examples, tmp_path):
    path = tmp_path / "Split-interactions" / "data_tfrecord-00000-of-00001.gz"
    path.parent.mkdir()
    with open(tf.io.gfile.glob(f"{examples}/Split-interactions/*")[0], "rb") as file:
        path.write_bytes(file.read()[:-3000])
    with pytest.raises(DataError, match=r"00000-of-00001\.gz' cannot be read as TFRecord"):
        read_examples([f"{examples}/Split-users/*", f"{examples}/Split-items/*", str(path)],
                      schema=examples_schema(raw.schema))


def fn_args(uri: str, out, schema: Schema | None = None, **given) -> types.SimpleNamespace:
    """What a Trainer passes to its user function."""
    custom = {"train": {"epochs": 1}, "config": "quick", "top_k": 5, **given.pop("custom_config", {})}
    if schema is not None:
        custom["schema"] = config.to_dict(schema)
    return types.SimpleNamespace(**{
        "train_files": patterns(uri), "eval_files": patterns(uri)[:1], "train_steps": None, "eval_steps": None,
        "schema_path": None, "transform_graph_path": None, "base_model": None, "hyperparameters": None,
        "serving_model_dir": str(out / "model" / "Format-Serving"), "model_run_dir": str(out / "model_run"),
        "custom_config": custom, **given})


@pytest.mark.slow  # beside `make test-tfx`, which runs it in the whole pipeline
def test_run_fn_trains_and_exports(raw, examples, tmp_path):
    from export.interface import Interface
    from trainer.run_directory import RunDirectory

    run_fn(fn_args(examples, tmp_path, examples_schema(raw.schema)))
    run = RunDirectory.open(str(tmp_path / "model_run" / "run"))
    assert run.summary["epochs"] == 1 and run.feature_spec.user_id.name == "user_id"
    assert Interface.read(str(tmp_path / "model" / "Format-Serving")).signatures


@pytest.mark.parametrize(("given", "message"), [
    ({"train_steps": 100}, "'train_args.num_steps' has no meaning here, received 100. Use train.epochs"),
    ({"transform_graph_path": "graph"}, "'transform_graph' has no meaning"),
    ({"custom_config": {"epochs": 3}}, "Unknown key 'custom_config.epochs'"),
    ({"custom_config": {"train": {"epochs": 0}}}, "'epochs' requires at least 1"),
    ({"custom_config": {"split": {"cold_user_share": 2}}}, "'cold_user_share' requires"),
    ({"custom_config": {"top_k": 0}}, "'top_k' requires 1 to 10000"),
    ({}, "The Trainer requires a schema")])
def test_run_fn_says_what_is_wrong(examples, tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        run_fn(fn_args(examples, tmp_path, **given))
    assert not list(tmp_path.iterdir())


def test_everything_the_container_copies_is_there_and_reaches_the_build(repository):
    folder = repository / "trainer/pipelines/container"
    copied = [word for line in (folder / "Dockerfile.tfx").read_text("utf-8").splitlines() if line.startswith("COPY")
              for word in line.split()[1:-1]]
    allowed = [line[1:] for line in (folder / "Dockerfile.tfx.dockerignore").read_text("utf-8").splitlines()
               if line.startswith("!")]
    assert {"requirements/tfx.txt", "requirements/tfx_no_deps.txt", "trainer"} <= set(copied)
    assert sorted(copied) == sorted(allowed) and all((repository / name).exists() for name in copied)


def test_the_environment_has_what_the_package_requires(repository):
    """The lock of the TFX environment, which is installed without resolving, names every dependency."""
    import tomllib

    from packaging.requirements import Requirement

    pins = {}
    for name in ("tfx.txt", "tfx_no_deps.txt"):
        for line in (repository / "requirements" / name).read_text("utf-8").splitlines():
            if line.strip() and not line.lstrip().startswith("#") and "sys_platform == 'never'" not in line:
                pin = Requirement(line)
                pins[pin.name] = next(iter(pin.specifier)).version
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        version = pins["tensorflow-cpu" if wanted.name == "tensorflow" else wanted.name]
        assert wanted.specifier.contains(version), text


def test_settings_can_be_read_where_tfx_is_not(capsys):
    from tfmeta import cli

    assert cli.main(["pipeline", "compile", "--target", "tfx", "--print-config", "--json"]) == 0
    assert {"root", "push_to", "parameters"} <= set(json.loads(capsys.readouterr().out))
    if importlib.util.find_spec("tfx") is None:
        given = ["--set", "root=gs://b/r", "--set", "push_to=gs://b/s", "--set", "parameters.dataset=synthetic"]
        assert cli.main(["pipeline", "compile", "--target", "tfx", "--out", "pipeline.json", *given]) == 2
        assert "requires TFX in an environment of its own" in capsys.readouterr().err
