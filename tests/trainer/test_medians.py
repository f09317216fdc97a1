"""Medians of a learner's predictive distribution in the evaluation."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import randomise
from tiny_prepared import SMALL

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.metrics.rating import nearest_level
from trainer.config import load_config
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.recommender_scorer import RecommenderScorer
from trainer.run_directory import build_from_config

LEVELS = (1, 2, 3, 4, 5)


def make_scorer(tiny_data, learner="ordinal_ridge", **options):
    prepared = PreparedData(tiny_data)
    recommender = build_from_config(load_config(SMALL | {"learner": {"name": learner}}), prepared.feature_spec)
    randomise(recommender, scale=0.4)
    return RecommenderScorer(recommender, tables=FeatureTables.from_prepared(prepared), **options)


@pytest.fixture(scope="module")
def tasks(tiny_data):
    return PreparedData(tiny_data).tasks("test")


@pytest.fixture(scope="module")
def scorer(tiny_data):
    return make_scorer(tiny_data, batch_size=4)


def test_only_learners_with_a_distribution_have_medians(tiny_data, scorer):
    assert hasattr(scorer, "median") and not hasattr(make_scorer(tiny_data, "ridge"), "median")


def test_medians_are_those_of_the_recommender(scorer, tasks):
    recommender, tables = scorer.recommender, scorer.tables
    assert len(set(tasks.support_length.tolist())) > 1
    median = scorer.median(tasks)
    expected = recommender.adapt_and_median(
        recommender.encode_user(tables.user(tasks.user_row), tasks=tf.constant(len(tasks))),
        support_item=recommender.encode_item(tables.item(tasks.support_item)),
        support_label=tf.constant(np.nan_to_num(tasks.support_label), tf.float32),
        support_length=tf.constant(tasks.support_length),
        query_item=recommender.encode_item(tables.item(tasks.query_item))).numpy()
    real = np.arange(median.shape[1])[None, :] < tasks.query_length[:, None]
    assert median.shape == tasks.query_item.shape
    np.testing.assert_allclose(median[real], expected[real], rtol=1e-5)
    np.testing.assert_allclose(median[real], np.round(median[real]), atol=1e-4)
    # Neither the labels of the query nor the support beyond k are looked at.
    blind = dataclasses.replace(tasks, query_label=np.full_like(tasks.query_label, np.nan))
    np.testing.assert_array_equal(scorer.median(blind), median)
    assert (scorer.median(tasks.truncate(0)) != median).any()


def test_the_evaluation_takes_medians_instead_of_rounded_scores(scorer, tasks):
    label = scorer.recommender.feature_spec.label

    def mae_median(scorer):
        rows = evaluate([scorer], tasks, label=label, ks=("all",), levels=LEVELS).rows()
        return next(r["value"] for r in rows if (r["model"], r["metric"]) == ("learner", "mae_median"))

    class Rounded:
        """The same scores without medians of their own."""

        name, role, uses_support, uses_history = "learner", "learner", True, False
        probability, label_unit, score = False, True, staticmethod(scorer.score)

    def error(values):
        return np.mean([np.abs(v[:n] - y[:n]).mean() for v, y, n in
                        zip(values, tasks.query_label, tasks.query_length, strict=True)])

    assert mae_median(scorer) == pytest.approx(error(scorer.median(tasks)), rel=1e-5)
    assert mae_median(Rounded()) == pytest.approx(error(nearest_level(scorer.score(tasks), LEVELS)), rel=1e-5)
    assert abs(mae_median(scorer) - mae_median(Rounded())) > 1e-3
