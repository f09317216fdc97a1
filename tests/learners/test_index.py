"""An index over items ranks as the learner does, wherever a learner says that it has one."""

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import CASES, TWO_TOWER, LearnerCase, build, encode, perturb
from recommender_cases import make_batch

from tfmeta.learners.ordinal_ridge import OrdinalRidge
from tfmeta.learners.task_tensors import Query

WITH_INDEX = {"maml", "anil", "reptile", "meta_sgd", "ridge", "ordinal_ridge", "bayesian", "joint", "fine_tune",
              "dropout_net", "meta_emb", "mwuf", "set_encoder", "lwa", "cavia"}
MORE = (LearnerCase("maml", {"scope": "user_vector", "inner_steps": 2}, {**TWO_TOWER, "similarity": "cosine"}),
        LearnerCase("cavia", {"inner_steps": 2}, {**TWO_TOWER, "similarity": "cosine"}))


@pytest.mark.parametrize("case", (*CASES, *MORE), ids=lambda c: c.id)
def test_index(case):
    built = build(case)
    perturb(built, keep=case.keep)
    learner, model = built.learner, built.model
    stands = case.model["name"] == "two_tower" and model.scope in ("user_vector", "context")
    expected = (case.name in WITH_INDEX and stands
                and not (case.name == "bayesian" and case.unit != "rating"))
    assert learner.has_index == expected
    if not expected:
        return
    inputs = encode(built, make_batch(unit=case.unit))
    query = inputs.pop("query_item")
    for fast in (learner.init(inputs["user"]), built.adapt(**inputs)):
        vector, offset = learner.index_user(fast, inputs["user"])
        index = model.index_items(query)
        output = tf.linalg.matvec(index[..., :-1], vector) + index[..., -1] + offset[:, None]
        if isinstance(learner, OrdinalRidge):
            np.testing.assert_allclose(output, model.linear_output(fast["weights"], inputs["user"], query), rtol=1e-5,
                                       atol=1e-5)
        predicted = learner.predict(fast, Query(inputs["user"], query)).output
        if isinstance(learner, OrdinalRidge):
            np.testing.assert_array_equal(np.argsort(output, axis=1), np.argsort(predicted, axis=1))
        else:
            np.testing.assert_allclose(output, predicted, rtol=1e-5, atol=1e-5)
