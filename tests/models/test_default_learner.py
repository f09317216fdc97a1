"""Which learner a configuration gets that names none."""

import dataclasses

import numpy as np
import pytest
from recommender_cases import make_spec

from tfmeta.errors import ConfigError
from tfmeta.models.default_learner import rating_step
from tfmeta.models.recommender import Recommender, build_recommender

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def name_of(recommender) -> str:
    return recommender.get_config()["learner"]["name"]


def spec_between(low, high):
    spec = make_spec()
    return dataclasses.replace(spec, label=dataclasses.replace(spec.label, minimum=low, maximum=high, threshold=high))


@pytest.mark.parametrize(("unit", "model", "learner", "name"), [
    ("rating", {}, {}, "ordinal_ridge"),
    ("click", {}, {}, "ridge"),
    ("weight", {}, {}, "ridge"),
    ("rating", {"name": "embedding"}, {}, "maml"),
    ("click", {"name": "embedding"}, {}, "maml"),
    ("rating", {"name": "embedding"}, {"scope": "last_layer"}, "ordinal_ridge"),
    ("rating", {"similarity": "cosine"}, {}, "maml"),
    ("rating", {}, {"scope": "user_vector"}, "ordinal_ridge"),
    ("rating", {}, {"scope": "all"}, "maml"),
    # Options that only one of them has.
    ("rating", {}, {"context_units": 4}, "ordinal_ridge"),
    ("rating", {}, {"inner_loss": "squared_error"}, "ridge"),
    ("click", {}, {"newton_steps": 2}, "ridge"),
    ("rating", {}, {"inner_steps": 2}, "maml"),
])
def test_the_label_the_model_and_the_options_decide(unit, model, learner, name):
    built = build_recommender(make_spec(unit), model=model or None, learner=learner or None)
    assert name_of(built) == name
    if "scope" in learner:
        assert built.model.scope == learner["scope"]
    assert Recommender.from_config(built.get_config()).get_config() == built.get_config()


@pytest.mark.parametrize(("low", "high", "name", "step"), [
    (1, 5, "ordinal_ridge", 1.0), (0.5, 5, "ordinal_ridge", 0.5), (0, 100, "ordinal_ridge", 1.0),
    (0, 1000, "ridge", None), (-1.37, 2.2, "ridge", None)])
def test_the_step_divides_the_scale(low, high, name, step):
    learner = build_recommender(spec_between(low, high)).get_config()["learner"]
    assert learner["name"] == name and learner.get("step") == step


@pytest.mark.parametrize(("levels", "step"), [
    ([1, 2, 5], 1.0), ([1, 2.5, 5], 0.5), ([1.1, 4.7], 0.1), ([2.71828], None), ([np.nan], None), ([], 1.0)])
def test_labels_that_occur_lie_on_the_levels(levels, step):
    assert rating_step(make_spec().label, np.array(levels, np.float32)) == step


@pytest.mark.parametrize(("learner", "message"), [
    ({"inner_step": 2}, "Unknown key 'learner.inner_step'. Did you mean 'inner_steps'"),
    ({"newton_steps": 2, "inner_steps": 2}, "all of the options learner.newton_steps, learner.inner_steps"),
    ({"scope": "all", "context_units": 3}, "'learner.name'"),
])
def test_options_of_no_learner_are_refused(learner, message):
    with pytest.raises(ConfigError, match=message):
        build_recommender(make_spec(), learner=learner)
