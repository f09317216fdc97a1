"""Enriched directories: what is in them, what reaches them, and a model that reads them."""

import dataclasses
import json

import numpy as np
import pytest
from content_cases import synthetic

from tfmeta.cli import main
from tfmeta.content.content_profile_config import ContentProfileConfig
from tfmeta.content.enrich import enrich
from tfmeta.content.item_targets import ItemTargets
from tfmeta.data.interactions import Interactions
from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.data.splits.split import COLD
from tfmeta.errors import DataError

SPLIT = SplitConfig(query_size=4, min_interactions=6, num_splits=2, validation_item_share=0.2)
SMALL = ContentProfileConfig(factors=4, search_items=40)
FEATURE = "content_profile"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("enrich")


@pytest.fixture(scope="module")
def prepared(folder):
    return prepare(raw=synthetic(), out=str(folder / "prepared"), split=SPLIT)


@pytest.fixture(scope="module")
def enriched(folder, prepared):
    return enrich(prepared, out=str(folder / "enriched"), config=SMALL)


def profiles(data):
    return np.stack(data.items[FEATURE].to_list())


def with_labels(raw, label):
    return dataclasses.replace(raw, interactions=dataclasses.replace(raw.interactions, label=label))


def test_the_items_have_one_feature_more_and_all_else_is_kept(prepared, enriched):
    spec = enriched.feature_spec
    assert spec.item_features[:-1] == prepared.feature_spec.item_features
    assert dataclasses.replace(spec, item_features=spec.item_features[:-1]) == prepared.feature_spec
    feature = spec.item_features[-1]
    # Bias, deviation, one a feature and the title, factors.
    width = 2 + len(prepared.feature_spec.item_features) + 1 + 4
    assert (feature.name, feature.kind, feature.length) == (FEATURE, "dense_vector", width)
    changed = {"feature_spec.json", "items.parquet", "summary.json"}
    for name, entry in prepared.manifest["files"].items():
        assert (entry != enriched.manifest["files"][name]) == (name in changed), name
    assert enriched.items.drop(columns=FEATURE).equals(prepared.items)
    summary = dict(enriched.summary)
    profile = summary.pop("content_profile")
    assert summary == prepared.summary
    assert (profile["width"], profile["fitted_items"]) == (width, len(np.unique(prepared.train.item_row)))
    assert set(profile["weights"]) == {*(f.name for f in prepared.feature_spec.item_features), "title"}


def test_the_feature_is_standardised_over_items_with_interactions(prepared, enriched):
    feature, values = enriched.feature_spec.item_features[-1], profiles(enriched)
    assert values.dtype == np.float32 and np.isfinite(values).all()
    warm = values[np.unique(prepared.train.item_row)].astype(np.float64)
    np.testing.assert_allclose((warm - feature.mean).mean(axis=0), 0, atol=1e-6)
    deviation = warm.std(axis=0)
    moving = deviation > 1e-9
    assert moving[:-4].all()
    np.testing.assert_allclose((warm / feature.std).std(axis=0)[moving], 1, rtol=1e-5)
    # A factor that nobody differs in is left as it is.
    np.testing.assert_array_equal(np.array(feature.std)[~moving], 1)


def test_content_tells_the_biases_of_cold_items(enriched):
    """The generator puts half of an item's bias into its price; interactions of cold items were not read."""
    raw = synthetic()
    rows, cold = raw.interactions, np.flatnonzero(enriched.items["partition"] != "warm")
    count = np.bincount(rows.item_row, minlength=len(raw.items))
    mean = np.bincount(rows.item_row, rows.label, minlength=len(raw.items)) / np.maximum(count, 1)
    assert len(cold) > 15 and np.corrcoef(profiles(enriched)[cold, 0], mean[cold])[0, 1] > 0.3
    assert enriched.summary["content_profile"]["explained_bias"] > 0.1


def test_the_same_input_gives_the_same_bytes_but_for_timings(folder, prepared, enriched):
    again = enrich(prepared, out=str(folder / "again"), config=SMALL)
    assert again.training_fingerprint() == enriched.training_fingerprint()
    files, others = enriched.manifest["files"], again.manifest["files"]
    assert [name for name in files if files[name] != others[name]] in ([], ["summary.json"])
    for data in (again, enriched):
        data.summary["content_profile"].pop("seconds")
    assert again.summary == enriched.summary


def test_labels_of_test_cells_do_not_reach_the_profile(folder, enriched):
    raw = synthetic()
    rows = raw.interactions
    parts = draw_split(SPLIT, user_ids=raw.users["user_id"].to_numpy(), item_ids=raw.items["item_id"].to_numpy(),
                       user_row=rows.user_row, item_row=rows.item_row, time=rows.time)
    test = parts.withheld | (parts.user_partition[rows.user_row] == COLD) | (
        parts.item_partition[rows.item_row] == COLD)
    label = rows.label.copy()
    label[test] = np.random.default_rng([2]).permutation(label[test])
    other = prepare(raw=with_labels(raw, label), out=str(folder / "other"), split=SPLIT)
    after = enrich(other, out=str(folder / "other_enriched"), config=SMALL)
    assert after.training_fingerprint() == enriched.training_fingerprint()
    assert not np.array_equal(after.tasks("test").query_label, enriched.tasks("test").query_label)
    # It does depend on training labels, of other items too.
    label = rows.label.copy()
    label[np.flatnonzero(parts.train)[0]] += 1
    third = prepare(raw=with_labels(raw, label), out=str(folder / "third"), split=SPLIT)
    assert (profiles(enrich(third, out=str(folder / "third_enriched"), config=SMALL)) != profiles(enriched)).any()


def test_an_items_own_labels_reach_other_targets_only_through_its_raters():
    """Targets are not independent: an item's labels move its raters' biases, and these all else they rated.

    So what holds exactly is that a profile has nothing of its own *target*; of its own labels it has what they add
    to other items' targets. Here that is bounded, and without a common rater it is nothing.
    """
    rng = np.random.default_rng([3])
    users, items, block = 60, 24, 12
    # The first users rate the first half of the items only, the others the second half.
    pairs = np.array([(u, i) for u in range(users) for i in range(items)
                      if (u < users // 2) == (i < block) and rng.random() < 0.7])
    label = np.clip(np.round(3 + rng.normal(size=len(pairs))), 1, 5).astype(np.float32)

    def targets(label):
        train = Interactions(user_row=pairs[:, 0].astype(np.int32), item_row=pairs[:, 1].astype(np.int32),
                             label=label, time=np.zeros(len(pairs), np.int64))
        return ItemTargets.fit(train, num_users=users, num_items=items, factors=2)

    own = pairs[:, 1] == 0
    changed = label.copy()
    # A permutation, because the mean over all interactions is common to everyone.
    changed[own] = rng.permutation(label[own])
    assert (changed != label).any()
    before, after = targets(label), targets(changed)
    move = np.abs(after.values[:, 0] - before.values[:, 0])
    assert 0 < move[1:block].max() < 0.2  # of a standard deviation, with 20 raters an item
    np.testing.assert_array_equal(after.count, before.count)
    # All columns are brought to unit variance together; but for that factor the other half stays what it was.
    factor = after.values[block:, 0] / before.values[block:, 0]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-9)


def test_targets_are_of_unit_variance_and_noise_falls_with_interactions(prepared):
    targets = ItemTargets.fit(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items), factors=4)
    some = targets.count > 0
    variance = np.average(np.square(targets.values[some]), axis=0, weights=targets.count[some])
    np.testing.assert_allclose(variance[:2], 1, rtol=1e-9)
    # The ridge takes out factors that these few interactions do not carry.
    assert ((np.abs(variance - 1) < 1e-9) | (variance < 1e-15)).all()
    np.testing.assert_allclose(targets.noise[some] * targets.count[some, None],
                               np.broadcast_to(targets.noise[some][0] * targets.count[some][0], (some.sum(), 5)))
    assert (targets.values[~some] == 0).all()


def test_what_cannot_be_enriched_is_refused(folder, prepared, enriched):
    with pytest.raises(DataError, match="has item column 'content_profile' already"):
        enrich(enriched, out=str(folder / "twice"))
    with pytest.raises(DataError, match="has item column 'title' already"):
        enrich(prepared, out=str(folder / "title"), config=ContentProfileConfig(name="title"))
    with pytest.raises(DataError, match="exists"):
        enrich(prepared, out=enriched.path, config=SMALL)
    other = enrich(enriched, out=str(folder / "second"), config=dataclasses.replace(SMALL, name="second"))
    assert [f.name for f in other.feature_spec.item_features[-2:]] == [FEATURE, "second"]
    items = prepare(raw=synthetic(), out=str(folder / "items"),
                    split=dataclasses.replace(SPLIT, task_side="item", max_interactions=None))
    with pytest.raises(DataError, match="requires ratings and users as tasks, received unit 'rating' and side 'item'"):
        enrich(items, out=str(folder / "no"))
    raw = synthetic()
    bare = dataclasses.replace(raw, schema=dataclasses.replace(raw.schema, item_features=(), title=None))
    bare = prepare(raw=bare, out=str(folder / "bare"), split=SPLIT)
    with pytest.raises(DataError, match="requires item features or a title, received none"):
        enrich(bare, out=str(folder / "no"))
    assert not (folder / "no").exists()


def test_data_without_ratings_or_interactions_is_refused(prepared, tmp_path):
    spec = prepared.feature_spec
    clicks = PreparedData(prepared.path)
    clicks.feature_spec = dataclasses.replace(spec, label=dataclasses.replace(
        spec.label, unit="click", minimum=0.0, maximum=1.0, threshold=0.5, mean=0.5))
    with pytest.raises(DataError, match="received unit 'click' and side 'user'"):
        enrich(clicks, out=str(tmp_path / "no"))
    few = PreparedData(prepared.path)
    few.train = dataclasses.replace(prepared.train, item_row=np.zeros_like(prepared.train.item_row))
    with pytest.raises(DataError, match="at least 2 items with training interactions, received 1"):
        enrich(few, out=str(tmp_path / "no"))


def test_the_command(folder, prepared, enriched, capsys):
    out = str(folder / "command")
    argv = ["data", "enrich", prepared.path, "--set", "factors=4", "--set", "search_items=40", "--out", out]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert f"feature content_profile of {profiles(enriched).shape[1]} numbers" in printed
    assert "of the variance of item biases" in printed and "price " in printed
    assert PreparedData(out).training_fingerprint() == enriched.training_fingerprint()
    assert main([*argv, "--overwrite", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["training_fingerprint"] == enriched.training_fingerprint()
    assert set(report) >= {"path", "explained_bias", "weights", "seconds", "factors"}
    assert main(argv) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["data", "enrich", prepared.path, "--set", "factor=4", "--out", str(folder / "x")]) == 2
    assert "factors" in capsys.readouterr().err


def test_a_model_trains_on_it_and_exports(folder, enriched, capsys):
    import tensorflow as tf

    from tfmeta.data.feature_tables import FeatureTables

    table = FeatureTables.from_prepared(enriched).items[FEATURE].numpy()
    feature = enriched.feature_spec.item_features[-1]
    expected = np.clip((profiles(enriched) - feature.mean) / feature.std, -10, 10)
    np.testing.assert_allclose(table[:-1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(table[-1], 0)
    config = {"seed": 1, "epochs": 1, "sampler": {"query_size": 4, "min_interactions": 6, "meta_batch_size": 8},
              "model": {"name": "two_tower", "embedding_dim": 4, "vector_dim": 4, "user_units": [4],
                        "item_units": [4]}, "tensorboard": {"enabled": False}}
    (folder / "config.yaml").write_text(json.dumps(config))
    run, model = str(folder / "run"), folder / "model"
    assert main(["train", "--data", enriched.path, "--config", str(folder / "config.yaml"), "--out", run]) == 0
    assert main(["export", "--run", run, "--out", str(model), "--no-verify"]) == 0
    assert main(["verify", str(model / "1")]) == 0
    capsys.readouterr()
    # A client names items; their profiles are in the graph.
    signature = tf.saved_model.load(str(model / "1")).signatures["adapt_and_score"]
    assert not [name for name in signature.structured_input_signature[1] if FEATURE in name]
