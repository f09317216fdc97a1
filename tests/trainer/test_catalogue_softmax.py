"""The softmax over all items: its value in plain NumPy, which items are in it, and that it trains."""

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.errors import ConfigError
from tfmeta.learners.losses import softmax
from tfmeta.models.recommender import build_recommender
from trainer.config import OptimizerConfig
from trainer.optimizer import LearningRate, build_optimizer
from trainer.outer_step import OuterStep

USERS, ITEMS = 6, 9
# Of ids 0 to 11, 0 is a missing one, and 1 that of an item no training interaction has.
ITEM_IDS = np.array([2, 5, 1, 3, 11, 7, 1, 8, 10, 0])
KNOWN = np.flatnonzero(ITEM_IDS[:ITEMS] > 1)
NUMBER = tf.constant(3, tf.int64)


def make_tables(seed: int = 0) -> FeatureTables:
    features = make_batch(USERS, support=1, query=ITEMS + 1, seed=seed)
    items = {name: value[0] for name, value in features.query_item.items()}
    items["item_id"] = tf.constant(ITEM_IDS.astype(np.int32))
    return FeatureTables(users=features.user, items=items, num_users=USERS, num_items=ITEMS)


def make_indexed() -> IndexedTaskBatch:
    rng = np.random.default_rng(2)
    rows = np.stack([rng.permutation(KNOWN)[:6] for _ in range(4)]).astype(np.int32)
    support, query, length = rows[:, :4], rows[:, 4:], np.array([4, 2, 0, 3], np.int32)
    support = np.where(np.arange(4)[None, :] < length[:, None], support, -1)
    return IndexedTaskBatch(*map(tf.constant, (
        rng.integers(0, USERS, 4).astype(np.int32), support, (support >= 0).astype(np.float32), length,
        query, np.ones((4, 2), np.float32), np.array([2, 2, 1, 2], np.int32))))


def make_step(recommender, *, tables=None, optimizer=None, **options) -> OuterStep:
    options = {"clip_norm": None, "dropout": 0.0, "seed": 4, **options}
    return OuterStep(recommender, optimizer=optimizer, tables=tables or make_tables(), **options)


def make_recommender(unit="click", **options):
    options = {"name": "ridge", "outer_loss": "softmax", **options}
    recommender = build_recommender(make_spec(unit), model={"name": "two_tower", "vector_dim": 4}, learner=options)
    randomise(recommender)
    return recommender


def by_hand(recommender, tables, batch, hidden=()) -> np.ndarray:
    """The loss of each task from the scores of every known item; `hidden` rows are read without their ids."""
    features = {name: np.array(table[:ITEMS]) for name, table in tables.items.items()}
    features["item_id"][list(hidden)] = 0
    encoded = recommender.encode_item({name: tf.constant(value) for name, value in features.items()}).numpy()
    user = recommender.encode_user(tables.user(batch.user_row), tasks=tf.constant(4))
    rows = batch.support_row.numpy()
    fast = recommender.adapt(user, support_item=tf.constant(encoded[rows]), support_label=batch.support_label,
                             support_length=batch.support_length)
    every = np.broadcast_to(encoded, (4, *encoded.shape))
    scores = recommender.predict_scores(fast, user, tf.constant(every)).numpy()
    scale = next((float(np.exp(v.numpy())) for v in recommender.learner.trainable_variables
                  if v.name == "log_logit_scale"), None)
    losses = []
    for task, (query, count) in enumerate(zip(batch.query_row.numpy(), batch.query_length.numpy(), strict=True)):
        choice = [row for row in KNOWN if row not in rows[task]]
        chance = np.exp(scale * scores[task])
        losses.append(np.mean([-np.log(chance[row] / chance[choice].sum()) for row in query[:count]]))
    return np.array(losses)


@pytest.mark.parametrize("learner", [{"name": "ridge"}, {"name": "ridge", "inner_loss": "squared_error"},
                                     {"name": "maml", "scope": "user_vector"}, {"name": "dropout_net"},
                                     {"name": "lwa"}, {"name": "meta_emb"}], ids=lambda o: "-".join(o.values()))
def test_loss_is_minus_the_log_of_the_share_among_the_items_that_are_left(float64, learner):
    learner = dict(learner) | ({"preference_dropout": 0.0} if learner["name"] == "dropout_net" else {})
    learner |= {"alpha": 0.0} if learner["name"] == "meta_emb" else {}
    recommender, tables, batch = make_recommender(**learner), make_tables(), make_indexed()
    found = make_step(recommender, tables=tables).task_loss(batch, NUMBER)
    np.testing.assert_allclose(found, by_hand(recommender, tables, batch), rtol=1e-9)


def test_joint_training_chooses_the_supports_items_too(float64):
    recommender, tables, batch = make_recommender(name="joint"), make_tables(), make_indexed()
    rows = [np.r_[s[:n], q[:m]] for s, n, q, m in zip(*(t.numpy() for t in (
        batch.support_row, batch.support_length, batch.query_row, batch.query_length)), strict=True)]
    width = max(map(len, rows))
    joined = np.stack([np.pad(r, (0, width - len(r)), constant_values=-1) for r in rows]).astype(np.int32)
    alone = batch._replace(support_row=tf.fill([4, 1], -1), support_label=tf.zeros([4, 1]),
                           support_length=tf.zeros([4], tf.int32), query_row=tf.constant(joined),
                           query_label=tf.ones([4, width]), query_length=tf.constant([len(r) for r in rows]))
    found = make_step(recommender, tables=tables).task_loss(batch, NUMBER)
    np.testing.assert_allclose(found, by_hand(recommender, tables, alone), rtol=1e-9)


def test_an_item_is_hidden_in_the_whole_step_or_nowhere(float64):
    recommender, tables, batch = make_recommender(), make_tables(), make_indexed()
    step = make_step(recommender, tables=tables, dropout=0.5)
    # Whose representation changes in the catalogue is hidden in every support and query, too.
    seen = set()
    for number in range(4):
        encoded = step._encode_catalogue(tf.constant(number, tf.int64), tables)
        plain = recommender.encode_item(tables.item(tf.constant(KNOWN)))
        hidden = KNOWN[np.abs(encoded - plain).max(axis=1) > 0]
        loss = step.task_loss(batch, tf.constant(number, tf.int64))
        np.testing.assert_allclose(loss, by_hand(recommender, tables, batch, hidden), rtol=1e-9)
        seen.add(tuple(hidden))
    assert len(seen) > 1


def test_items_that_nobody_in_training_met_are_not_in_it(float64):
    recommender, tables, batch = make_recommender(), make_tables(), make_indexed()
    loss = make_step(recommender, tables=tables).task_loss(batch, NUMBER).numpy()

    def changed(rows):
        other = make_tables()
        mask = np.isin(np.arange(ITEMS + 1), rows)[:, None]
        other.items["vector"] = tf.where(mask, 5.0, other.items["vector"])
        return make_step(recommender, tables=other).task_loss(batch, NUMBER).numpy()

    unknown = np.setdiff1d(np.arange(ITEMS + 1), KNOWN)
    np.testing.assert_array_equal(changed(unknown), loss)
    assert np.abs(changed(KNOWN[:1]) - loss).max() > 1e-6


def test_steps_lower_the_loss_and_move_every_known_id():
    recommender, batch = make_recommender(), make_indexed()
    config = OptimizerConfig(name="adamw", learning_rate=0.02)
    optimizer = build_optimizer(config, schedule=LearningRate(config, total_steps=60), exempt=[],
                                variables=recommender.trainable_variables)
    step = make_step(recommender, optimizer=optimizer)
    ids = next(v for v in recommender.trainable_variables if v.name == "item_id_embedding")
    before, first = ids.numpy(), step.task_loss(batch, NUMBER).numpy()
    for _ in range(60):
        step(batch)
    assert int(step.failed_step) == -1
    assert step.task_loss(batch, NUMBER).numpy().mean() < 0.5 * first.mean()
    moved = np.abs(ids.numpy() - before).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(moved), np.sort(ITEM_IDS[KNOWN]) - 2)


def test_weights_count_as_often_as_they_say_and_negatives_never(float64):
    output, target = np.array([[0.3, -1.0, 2.0, 9.0]]), np.array([[1.0, 0.0, 3.0, 5.0]])
    loss = softmax(tf.constant(output), tf.constant([2.5], tf.float64), tf.constant(target), tf.constant([3]))
    np.testing.assert_allclose(loss, [(1 * (2.5 - 0.3) + 3 * (2.5 - 2.0)) / 4], rtol=1e-12)
    nothing = softmax(tf.constant(output), tf.constant([2.5], tf.float64), tf.constant(0 * target), tf.constant([4]))
    np.testing.assert_array_equal(nothing, [0.0])


def test_scores_are_preferences_and_the_configuration_goes_round():
    recommender = make_recommender()
    assert recommender.learner.score_unit == "preference"
    again = type(recommender).from_config(recommender.get_config())
    assert again.learner.over_catalogue
    assert [v.path for v in again.trainable_variables] == [v.path for v in recommender.trainable_variables]


@pytest.mark.parametrize("unit,learner,wanted", [
    ("rating", {"name": "ridge", "outer_loss": "softmax"}, "softmax requires implicit feedback"),
    ("click", {"name": "ridge", "inner_loss": "softmax"}, "'learner.inner_loss' received 'softmax'"),
    ("click", {"name": "tanp", "outer_loss": "softmax"}, "products of a user's and an item's vector"),
    ("click", {"name": "bayesian", "outer_loss": "softmax"}, "products of a user's and an item's vector"),
    ("click", {"name": "maml", "scope": "all", "outer_loss": "softmax"}, "scope 'all'")])
def test_where_there_is_no_softmax(unit, learner, wanted):
    with pytest.raises(ConfigError, match=wanted):
        build_recommender(make_spec(unit), learner=learner)


def test_a_vocabulary_without_items_is_an_error():
    tables = make_tables()
    tables.items["item_id"] = tf.ones_like(tables.items["item_id"])
    with pytest.raises(ConfigError, match=r"vocabulary of 'item_id', received none.*sampler.negatives"):
        make_step(make_recommender(), tables=tables)


def test_a_loss_without_the_catalogue_is_an_error():
    recommender = make_recommender()
    with pytest.raises(ValueError, match="requires all items"):
        recommender.batch_loss(make_batch(unit="click"))
