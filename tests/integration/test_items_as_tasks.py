"""Items as tasks, the whole way: prepare, train, evaluate, export, verify; and on the tasks of users."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tfmeta.cli import main
from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.data.splits.split import COLD
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.data.task_set import STATES
from tfmeta.errors import RunError
from trainer.benchmarking.item_side_system import ItemSideSystem, item_side_twin
from trainer.benchmarking.systems import build_systems
from trainer.config import load_config
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.item_task_scorer import ItemTaskScorer
from trainer.evaluation.results_file import read_json
from trainer.loop import train
from trainer.run_directory import RunDirectory

DATA = ["--dataset", "synthetic", "--set", "synthetic.users=120", "--set", "synthetic.items=90", "--set",
        "synthetic.ratings_per_user=40", "--set", "query_size=4", "--set", "min_interactions=6", "--set",
        "max_interactions=null", "--set", "num_splits=2", "--set", "warm_test_user_share=0.6"]
CONFIG = {"seed": 1, "epochs": 8, "sampler": {"query_size": 4, "min_interactions": 6, "meta_batch_size": 8},
          "model": {"name": "two_tower", "embedding_dim": 4, "vector_dim": 4, "user_units": [8], "item_units": [8]},
          "optimizer": {"learning_rate": 0.02}, "tensorboard": {"enabled": False}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("item_side")


@pytest.fixture(scope="module")
def prepared(folder):
    """side -> directory, from one set of settings."""
    for side in ("user", "item"):
        assert main(["data", "prepare", *DATA, "--task-side", side, "--out", str(folder / side)]) == 0
    return {side: PreparedData(str(folder / side)) for side in ("user", "item")}


@pytest.fixture(scope="module")
def run(folder, prepared):
    (folder / "mwuf.yaml").write_text(json.dumps({**CONFIG, "learner": {"name": "mwuf"}}))
    path = str(folder / "mwuf")
    assert main(["train", "--data", prepared["item"].path, "--config", str(folder / "mwuf.yaml"), "--out", path]) == 0
    return RunDirectory.open(path)


def test_a_run_is_trained_validated_and_evaluated_on_items(run, prepared, capsys):
    assert run.feature_spec.task_side == "item"
    history = run.history()
    assert history[-1]["val_mae"] < history[0]["val_mae"]
    assert {f"val_{state}_mae" for state in STATES[1:]} <= set(history[0])
    assert main(["evaluate", "--run", run.path, "--k", "0,3,all", "--baselines", "damped_bias,user_mean"]) == 0
    printed = capsys.readouterr().out
    items = len(np.unique(prepared["item"].tasks("test").in_state("item_cold").user_row))
    assert f"item_cold ({items} items" in printed and "synthetic_oracle" in printed
    rows = read_json(run.file("evaluation.json"))["rows"]
    learner = {(r["state"], r["k"]): r["value"] for r in rows if r["role"] == "learner" and r["metric"] == "mae"}
    assert {state for state, _ in learner} == set(STATES)
    # A cold item's own interactions tell more than its content.
    assert learner["item_cold", "all"] < learner["item_cold", 0]


def test_an_export_takes_the_item_as_the_task(run, prepared, folder):
    base = folder / "model"
    assert main(["export", "--run", run.path, "--out", str(base)]) == 0
    model = base / "1"
    assert main(["verify", str(model)]) == 0
    described = json.loads((model / "assets.extra" / "export.json").read_text())
    assert described["task_side"] == "item"
    assert "tasks are items" in (model / "assets.extra" / "MODEL_CARD.md").read_text()
    spec = run.feature_spec
    signature = tf.saved_model.load(str(model)).signatures["adapt_and_score"]
    inputs = set(signature.structured_input_signature[1])
    assert f"query_{spec.item_id.name}" in inputs and f"user_{spec.user_features[0].name}" in inputs
    # The catalogue in the graph is of users: an id of a trained one is no stranger.
    users = prepared["user"].users["user_id"].tolist()
    features = {f"user_{f.name}": tf.zeros([1, *f.raw_shape]) if f.dtype == "float32" else
                tf.fill([1, *f.raw_shape], f.missing) for f in spec.user_features}
    known = spec.item_id.vocabulary[0]
    assert known in users
    ask = tf.constant([[known, "nobody"]])
    out = signature(**features, **{f"query_{spec.item_id.name}": ask, f"support_{spec.item_id.name}": ask[:, :1],
                                   "support_label": tf.constant([[5.0]]), "support_length": tf.constant([1])})
    assert np.isfinite(out["scores"]).all() and out["scores"][0, 0] != out["scores"][0, 1]
    assert (out["scores"].numpy() != out["base_scores"].numpy()).all()


def test_labels_of_test_cells_do_not_change_a_run(folder):
    """Other labels wherever the user or the item is cold, and in the warm queries: the same bits."""
    raw, _ = generate(SyntheticConfig(users=80, items=60, ratings_per_user=30, seed=2))
    split = SplitConfig(task_side="item", query_size=4, min_interactions=6, max_interactions=None, num_splits=1)
    rows = raw.interactions
    parts = draw_split(split, user_ids=raw.users["user_id"].to_numpy(), item_ids=raw.items["item_id"].to_numpy(),
                       user_row=rows.user_row, item_row=rows.item_row, time=rows.time)
    cold = (parts.user_partition[rows.user_row] == COLD) | (parts.item_partition[rows.item_row] == COLD)
    test = parts.withheld | cold
    label = rows.label.copy()
    label[test] = np.random.default_rng(1).permutation(label[test])
    other = dataclasses.replace(raw, interactions=dataclasses.replace(rows, label=label))
    config = load_config({**CONFIG, "epochs": 1, "learner": {"name": "meta_emb"}})
    hashes, tasks = set(), []
    for name, data in (("before", raw), ("after", other)):
        made = prepare(raw=data, out=str(folder / name), split=split)
        hashes.add(train(config=config, data=made, run=str(folder / f"run_{name}"), progress=False).hash)
        tasks.append(made.tasks("test"))
    assert len(hashes) == 1
    assert not np.array_equal(tasks[0].query_label, tasks[1].query_label)


def test_user_tasks_are_scored_on_the_item_side(run, prepared):
    """Every question is what the item side answers for that pair, with the item's own training rows as support."""
    recommender = run.recommender()
    scorer = ItemTaskScorer(recommender, users=prepared["user"], items=prepared["item"], support_size=5)
    tasks = prepared["user"].tasks("test")
    scores = scorer.score(tasks)
    assert scores.shape == tasks.query_item.shape and np.isfinite(scores).all()
    # By hand, one pair at a time.
    items, own = prepared["item"], prepared["item"].train
    tables = scorer._scorer.tables
    rng = np.random.default_rng(0)
    for task in rng.choice(len(tasks), 12, replace=False):
        place = rng.integers(tasks.query_length[task])
        item, user = tasks.query_item[task, place], tasks.user_row[task]
        rows = np.flatnonzero(own.user_row == item)[-5:]
        cold = items.users["partition"][item] != "warm"
        assert (len(rows) == 0) == cold
        support = np.append(own.item_row[rows], -1)[None, :]
        expected = recommender.adapt_and_score(
            recommender.encode_user(tables.user(tf.constant([item])), tasks=tf.constant(1)),
            support_item=recommender.encode_item(tables.item(tf.constant(support, tf.int32))),
            support_label=tf.constant(np.append(own.label[rows], 0)[None, :], tf.float32),
            support_length=tf.constant([len(rows)]),
            query_item=recommender.encode_item(tables.item(tf.constant([[user]], tf.int32))))[0]
        np.testing.assert_allclose(scores[task, place], expected[0, 0], rtol=1e-5)
    # The user's own support and the query labels are never read.
    blind = dataclasses.replace(tasks.truncate(0), query_label=np.full_like(tasks.query_label, np.nan))
    np.testing.assert_array_equal(scorer.score(blind), scores)


def test_user_tasks_are_evaluated_beside_other_models(run, prepared):
    scorer = ItemTaskScorer(run.recommender(), users=prepared["user"], items=prepared["item"])
    evaluation = evaluate([scorer], prepared["user"].tasks("test"), label=run.feature_spec.label, ks=(0, "all"))
    values = {(r["state"], r["metric"]): r["value"] for r in evaluation.rows()
              if r["role"] == "learner" and r["k"] == "all"}
    assert all(values[state, "auc"] > 0.5 for state in ("warm", "item_cold"))


def test_the_benchmark_trains_on_the_twin_and_scores_user_tasks(prepared, folder):
    systems = build_systems("synthetic", learners=["meta_emb"], references=["item_mean"], budget=1)
    system = next(s for s in systems if s.name == "meta_emb")
    assert isinstance(system, ItemSideSystem)
    system.check(prepared["user"])
    values = {**CONFIG, "early_stopping": None, "epochs": 1, "learner": {"name": "meta_emb"}}
    fitted = system.fit(values, prepared=prepared["user"], seed=1, folder=str(folder / "benchmark_run"))
    tasks = prepared["user"].tasks("test").in_state("item_cold")
    assert np.isfinite(fitted.scorer.score(tasks)).all() and fitted.scorer.role == "learner"
    twin = item_side_twin(prepared["user"])
    assert RunDirectory.open(str(folder / "benchmark_run")).training_fingerprint == twin.training_fingerprint()


def test_other_data_are_no_twin(run, prepared, folder):
    assert main(["data", "prepare", *DATA, "--seed", "5", "--out", str(folder / "other")]) == 0
    other = PreparedData(str(folder / "other"))
    with pytest.raises(RunError, match=r"other users or items|training rows differ"):
        ItemTaskScorer(run.recommender(), users=other, items=prepared["item"])
    with pytest.raises(RunError, match="task sides"):
        ItemTaskScorer(run.recommender(), users=prepared["item"], items=prepared["item"])
