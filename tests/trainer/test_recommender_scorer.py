"""Scores of a recommender for fixed tasks."""

import dataclasses

import numpy as np
import pytest
from recommender_cases import randomise
from tiny_prepared import SMALL

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from trainer.config import load_config
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.recommender_scorer import RecommenderScorer
from trainer.run_directory import build_from_config


@pytest.mark.parametrize("learner", ["ordinal_ridge", "maml"])
def test_all_items_encoded_once_score_as_they_do_in_a_query(tiny_data, learner):
    prepared = PreparedData(tiny_data)
    recommender = build_from_config(load_config(SMALL | {"learner": {"name": learner}}), prepared.feature_spec)
    randomise(recommender, scale=0.4)
    scorer = RecommenderScorer(recommender, tables=FeatureTables.from_prepared(prepared), batch_size=4)
    tasks, items = prepared.tasks("test"), len(prepared.items)
    assert (tasks.support_item < 0).any() and len(set(tasks.support_length.tolist())) > 1
    shape = (len(tasks), items)
    everything = dataclasses.replace(
        tasks, query_item=np.broadcast_to(np.arange(items, dtype=np.int32), shape),
        query_label=np.full(shape, np.nan, np.float32), query_length=np.full(len(tasks), items, np.int32))
    expected = scorer.score(everything)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scorer.catalogue(items)(tasks), expected, rtol=1e-6, atol=1e-6)
    # The catalogue's measures take that way, and none other.
    catalogue = Catalogue(prepared.train, num_users=len(prepared.users), num_items=items,
                          label=prepared.feature_spec.label, cutoff=5)
    blind = dataclasses.replace(tasks, query_label=np.full_like(tasks.query_label, np.nan))
    got = catalogue.measure(scorer, blind, part=tasks)

    class Plain:
        score = staticmethod(scorer.score)
    for name, values in catalogue.measure(Plain(), blind, part=tasks).items():
        np.testing.assert_array_equal(got[name], values)
        assert np.nanmean(values) > 0
