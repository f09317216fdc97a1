"""The set encoder against the set transformer's equations, row by row in NumPy."""

import by_hand
import numpy as np
import pytest
import tensorflow as tf
from by_hand import dense, layer_norm, relu, sigmoid, softmax, two_tower

from tfmeta.errors import ConfigError
from tfmeta.models.recommender import build_recommender

OPTIONS = {"name": "set_encoder", "units": 4, "heads": 2}
HEAD = 2  # width of a head


def attention_block(w, name, x, y):
    """MAB(X, Y), one head and one row at a time."""
    attended = np.zeros_like(x)
    for row in range(len(x)):
        total = w[f"{name}_attention/attention_output/bias"].copy()
        for head in range(2):
            q, k, v = (s @ w[f"{name}_attention/{p}/kernel"][:, head] + w[f"{name}_attention/{p}/bias"][head]
                       for s, p in ((x[row], "query"), (y, "key"), (y, "value")))
            total += softmax(k @ q / np.sqrt(HEAD)) @ v @ w[f"{name}_attention/attention_output/kernel"][head]
        attended[row] = total
    h = layer_norm(w, f"{name}_norm_0", x + attended)
    inner = relu(h @ w[f"{name}_hidden/kernel"] + w[f"{name}_hidden/bias"])
    return layer_norm(w, f"{name}_norm_1", h + inner @ w[f"{name}_output/kernel"] + w[f"{name}_output/bias"])


def by_equations(w, user, item, target, query, *, unit, rounds, blocks, inducing):
    theta, n = user.copy(), len(item)
    for _ in range(rounds):
        rows, pull = [], []
        for v, y in zip(item, target, strict=True):
            f = two_tower(w, theta, v)
            excess = y - f if unit == "rating" else float(y > 0) - sigmoid(f)
            normed = layer_norm(w, "set_encoder_item_norm", v)
            rows.append(np.concatenate([user, normed, [y, excess], excess * normed]))
            pull.append((2 if unit == "rating" else 1) * excess * np.append(v[:-1], 1.0))
        x = dense(w, "set_encoder_embed", np.stack(rows))
        for block in range(blocks):
            source = x
            if inducing:
                source = attention_block(w, f"set_encoder_inducing_{block}",
                                         w[f"set_encoder/inducing_points_{block}"], x)
            x = attention_block(w, f"set_encoder_encoder_{block}", x, source)
        h = attention_block(w, "set_encoder_pooling", w["set_encoder/seed_row"], x)[0]
        step = h @ w["set_encoder/read_out_kernel"] + w["set_encoder/read_out_bias"]
        step += w["set_encoder/preconditioner"] @ np.mean(pull, axis=0)
        theta = theta + n / (n + np.exp(w["set_encoder/log_shrinkage"])) * step
    return two_tower(w, theta, query)


@pytest.mark.parametrize("unit", ["rating", "click"])
@pytest.mark.parametrize("rounds,blocks,inducing", [(1, 1, 0), (2, 2, 0), (2, 1, 3), (1, 0, 0)])
def test_scores_follow_the_equations(float64, unit, rounds, blocks, inducing):
    built = by_hand.build({**OPTIONS, "rounds": rounds, "blocks": blocks, "inducing_points": inducing}, unit=unit)
    arrays, _ = by_hand.tasks(built, unit=unit)
    user, item, target, length, query = arrays
    expected = [by_equations(by_hand.weights(built), user[b], item[b, :n], target[b, :n], query[b], unit=unit,
                             rounds=rounds, blocks=blocks, inducing=inducing) for b, n in enumerate(length)]
    np.testing.assert_allclose(by_hand.adapted_output(built, arrays), expected, rtol=1e-8)


def test_without_the_transformer_it_is_gradient_descent(float64):
    """The same numbers as MAML's with its rate times n / (n + tau)."""
    learner = by_hand.build({**OPTIONS, "rounds": 3}).learner
    learner.read_out.assign(tf.zeros_like(learner.read_out))
    learner.read_out_bias.assign(tf.zeros_like(learner.read_out_bias))
    learner.preconditioner.assign(0.1 * np.eye(4))
    learner.log_shrinkage.assign(np.log(5.0))
    model = learner.model

    from tfmeta.learners.maml import MAML
    from tfmeta.learners.task_tensors import Support

    maml = MAML(model, inner_steps=3, inner_learning_rate=0.1, learn_rates="fixed", shrinkage=5.0)
    rng = np.random.default_rng(0)
    support = Support(user=tf.constant(rng.normal(size=(2, 4))), item=tf.constant(rng.normal(size=(2, 5, 4))),
                      target=tf.constant(rng.normal(size=(2, 5))), length=tf.constant([5, 3]))
    start = learner.init(support.user)
    for ours, theirs in zip(learner.adapt(start, support).values(), maml.adapt(start, support).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_cosine_similarity_adapts_too():
    built = by_hand.build(OPTIONS, model={**by_hand.TOWER, "similarity": "cosine"})
    arrays, batch = by_hand.tasks(built)
    assert np.isfinite(by_hand.adapted_output(built, arrays)).all()
    assert np.isfinite(built.batch_loss(batch)).all()


def test_equal_seeds_give_equal_kernels_and_no_two_alike():
    first, second = (build_recommender(by_hand.make_spec(), learner=OPTIONS, seed=5) for _ in range(2))
    kernels = [v.numpy() for v in first.learner.pooling.trainable_weights if "kernel" in v.path]
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(kernels) == 6
    flat = [np.ravel(k) for k in kernels]
    assert all(np.abs(a - b).max() > 0.01 for i, a in enumerate(flat) for b in flat[:i])


@pytest.mark.parametrize("options,words", [({"heads": 3}, "learner.units"), ({"rounds": 0}, "learner.rounds"),
                                           ({"shrinkage": 0.0}, "learner.shrinkage"), ({"blocks": -1}, "blocks")])
def test_values_out_of_range_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        build_recommender(by_hand.make_spec(), model=by_hand.TOWER, learner={**OPTIONS, **options})


def test_a_scope_without_user_vectors_is_refused():
    for model, scope in (("two_tower", "all"), ("embedding", "head")):
        with pytest.raises(ConfigError, match=f"user_vector.*'{model}' with scope '{scope}'"):
            build_recommender(by_hand.make_spec(), model={"name": model}, learner={**OPTIONS, "scope": scope})
