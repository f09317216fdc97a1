"""Implicit feedback without negatives: what is trained by default, how it is validated, and what is refused."""

import numpy as np
import pytest
from tiny_prepared import SMALL, write_tiny

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ConfigError
from trainer.config import load_config
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.recommender_scorer import RecommenderScorer
from trainer.loop import train
from trainer.run_directory import RunDirectory
from trainer.validation import default_metric

SAMPLER = {"query_size": 2, "min_interactions": 3, "meta_batch_size": 8}
CHOSEN = {"name": "ridge", "inner_loss": "squared_error", "outer_loss": "softmax"}


def run(data, path, **changes):
    return train(config=load_config(SMALL | {"sampler": SAMPLER} | changes), data=data, run=str(path), progress=False)


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("visits") / "data", unit="click", positives_only=True)


@pytest.fixture(scope="module")
def trained(visits, tmp_path_factory):
    path = tmp_path_factory.mktemp("visits") / "run"
    return run(visits, path, learner={}, epochs=12, optimizer={"learning_rate": 0.05}), RunDirectory.open(str(path))


def test_the_default_learner_compares_positives_with_all_items(trained):
    result, directory = trained
    assert directory.config.learner == CHOSEN
    losses = [record["train_loss"] for record in result.history]
    assert losses[-1] < losses[0] - 0.2
    best = max(record["val_ndcg@20"] for record in result.history)
    assert result.metric == "val_ndcg@20" and result.best == best
    assert best > max(record["val_base_ndcg@20"] for record in result.history[:1])


def test_validation_is_the_catalogues_measure_of_the_evaluation(trained, visits):
    result, directory = trained
    prepared = PreparedData(visits)
    tasks = prepared.tasks("validation")
    recommender = directory.recommender()
    scorer = RecommenderScorer(recommender, tables=FeatureTables.from_prepared(prepared))
    catalogue = Catalogue(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                          label=prepared.feature_spec.label)
    measured = catalogue.measure(scorer, tasks, part=tasks)
    best = result.history[result.best_epoch - 1]
    for name, values in measured.items():
        assert best[f"val_{name}"] == best[f"val_user_cold_{name}"] == pytest.approx(np.nanmean(values), abs=1e-6)
    unadapted = catalogue.measure(scorer, tasks.truncate(0), part=tasks)
    assert best["val_base_ndcg@20"] == pytest.approx(np.nanmean(unadapted["ndcg@20"]), abs=1e-6)


def test_rows_of_some_users_are_those_rows(visits):
    prepared = PreparedData(visits)
    everything = prepared.train
    users = np.array([3, 7, 11, 10_000])
    some, mask = prepared.training_rows.of_users(users), np.isin(everything.user_row, users)
    assert mask.sum() > 0
    for column in ("user_row", "item_row", "label"):
        np.testing.assert_array_equal(getattr(some, column), getattr(everything, column)[mask])
    assert len(prepared.training_rows.of_users(users[3:])) == 0


@pytest.mark.parametrize("learner", [{"outer_loss": "pairwise"}, {"name": "maml"}, {"name": "joint"},
                                     {"name": "bayesian", "outer_loss": "squared_error"}])
def test_a_loss_that_would_learn_nothing_is_refused_before_training(visits, tmp_path, learner):
    with pytest.raises(ConfigError, match=r"training set of positive ones alone.*sampler.negatives=50"):
        run(visits, tmp_path / "run", learner=learner)
    assert not (tmp_path / "run").exists()


def test_negatives_and_models_without_an_index_keep_the_loss_of_their_label(visits, tmp_path):
    run(visits, tmp_path / "a", learner={}, epochs=1, sampler=SAMPLER | {"negatives": 3})
    assert RunDirectory.open(str(tmp_path / "a")).config.learner == {"name": "ridge"}
    embedding = {"name": "embedding", "embedding_dim": 4, "units": [4]}
    with pytest.raises(ConfigError, match="binary_cross_entropy"):
        run(visits, tmp_path / "b", learner={}, model=embedding)
    run(visits, tmp_path / "c", learner={"inner_steps": 1}, epochs=1)
    assert RunDirectory.open(str(tmp_path / "c")).config.learner == {
        "name": "maml", "outer_loss": "softmax", "inner_steps": 1}


def test_negatives_among_the_validation_queries_are_ranked_against(tmp_path):
    prepared = PreparedData(write_tiny(tmp_path / "data", unit="click"))
    label, tasks = prepared.feature_spec.label, prepared.tasks("validation")
    assert default_metric(tasks, label) == "val_auc"
    assert default_metric(tasks.select(np.zeros(len(tasks), bool)), label) == "val_auc"
