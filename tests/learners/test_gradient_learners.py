"""The relatives of MAML against closed forms in float64."""

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import EMBEDDING, encode
from linear_model import QUERY, TASKS, WIDTH, LinearModel, problem, task_tensors
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.errors import ConfigError
from tfmeta.learners.maml_plus_plus import MAMLPlusPlus
from tfmeta.learners.meta_sgd import MetaSGD
from tfmeta.learners.reptile import Reptile
from tfmeta.models.fast_weights import materialise, weight_shape
from tfmeta.models.recommender import build_recommender


def linear(learner_class, w, **options):
    model = LinearModel(make_spec())
    model.weight.assign(w)
    return learner_class(model, **options)


def loss_and_gradients(learner, data, progress=1.0, *, graph=False):
    """Sum over tasks of what the outer loop minimises, and its derivatives by the slow weights."""
    _, xs, ys, xq, yq = data
    variables = [learner.model.weight, *(v for v in learner.trainable_variables if "rate" in v.path)]

    def run(progress):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(learner.task_loss(
                *task_tensors(xs, ys, xq), target=tf.constant(yq), length=tf.fill([TASKS], QUERY), progress=progress))
        return loss, tape.gradient(loss, [v.value for v in variables])

    loss, gradients = (tf.function(run, autograph=False) if graph else run)(tf.constant(progress, tf.float64))
    return loss.numpy(), [g.numpy() for g in gradients]


def squared(w, x, y):
    """Mean squared error, its gradient and its Hessian."""
    residual = x @ w - y
    return (residual ** 2).mean(), 2 / len(y) * x.T @ residual, 2 / len(y) * x.T @ x


# Meta-SGD

@pytest.mark.parametrize("first_order", [False, True])
def test_meta_sgd_is_the_papers_step(float64, first_order):
    data = w, xs, ys, xq, yq = problem()
    learner = linear(MetaSGD, w, inner_learning_rate=0.1, first_order=first_order)
    alpha = np.random.default_rng(3).normal(scale=0.1, size=WIDTH)
    assert (alpha < 0).any()  # rates of either sign are used as they are
    learner._element_rates["w"].assign(alpha)
    loss, (by_w, by_alpha) = loss_and_gradients(learner, data)
    expected, expected_w, expected_alpha = 0.0, np.zeros(WIDTH), np.zeros(WIDTH)
    for t in range(TASKS):
        _, inner, hessian = squared(w, xs[t], ys[t])
        value, outer, _ = squared(w - alpha * inner, xq[t], yq[t])
        expected += value
        expected_alpha += -inner * outer
        expected_w += outer if first_order else (np.eye(WIDTH) - alpha[:, None] * hessian).T @ outer
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(by_w, expected_w, rtol=1e-11)
    np.testing.assert_allclose(by_alpha, expected_alpha, rtol=1e-11)


# MAML++

RATES = np.array([0.05, 0.11, 0.02])


def plus_plus(w, **options):
    learner = linear(MAMLPlusPlus, w, inner_steps=3, **options)
    learner._log_step_rates["w"].assign(np.log(RATES))
    return learner


def plus_plus_closed_form(w, xs, ys, xq, yq, *, weights, first_order):
    """Loss, and its derivatives by w and by the logarithms of the steps' rates."""
    loss, by_w, by_rates = 0.0, np.zeros(WIDTH), np.zeros(3)
    for t in range(TASKS):
        theta, jacobian, rate_jacobian = w, np.eye(WIDTH), np.zeros((WIDTH, 3))
        for step in range(3):
            _, inner, hessian = squared(theta, xs[t], ys[t])
            turn = np.eye(WIDTH) - (0 if first_order else RATES[step]) * hessian
            jacobian, rate_jacobian = turn @ jacobian, turn @ rate_jacobian
            rate_jacobian[:, step] -= RATES[step] * inner
            theta = theta - RATES[step] * inner
            value, outer, _ = squared(theta, xq[t], yq[t])
            loss += weights[step] * value
            by_w += weights[step] * jacobian.T @ outer
            by_rates += weights[step] * rate_jacobian.T @ outer
    return loss, by_w, by_rates


@pytest.mark.parametrize("progress,weights,first_order", [
    (0.0, [1 / 3, 1 / 3, 1 / 3], True),
    (0.1, [1 / 4, 1 / 4, 1 / 2], True),
    (0.3, [1 / 12, 1 / 12, 5 / 6], False),
    (0.4, [0, 0, 1], False),
    (1.0, [0, 0, 1], False)])
@pytest.mark.parametrize("graph", [False, True])
def test_maml_plus_plus_anneals_losses_and_order(float64, progress, weights, first_order, graph):
    data = problem()
    learner = plus_plus(data[0], multi_step_share=0.4, first_order_share=0.2)
    loss, (by_w, by_rates) = loss_and_gradients(learner, data, progress, graph=graph)
    expected = plus_plus_closed_form(*data, weights=weights, first_order=first_order)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
    np.testing.assert_allclose(by_w, expected[1], rtol=1e-11)
    np.testing.assert_allclose(by_rates, expected[2], rtol=1e-11)


def test_maml_plus_plus_without_annealing_is_one_phase(float64):
    data = problem()
    for progress in (0.0, 1.0):
        loss, (by_w, _) = loss_and_gradients(plus_plus(data[0], multi_step_share=0, first_order_share=0), data,
                                             progress)
        expected = plus_plus_closed_form(*data, weights=[0, 0, 1], first_order=False)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
        np.testing.assert_allclose(by_w, expected[1], rtol=1e-11)


def test_maml_plus_plus_has_a_rate_for_each_layer_and_step():
    built = build_recommender(make_spec(), model={**EMBEDDING, "units": [8]},
                              learner={"name": "maml_plus_plus", "inner_steps": 4, "inner_learning_rate": 0.2})
    rates = built.learner.inner_learning_rates()
    assert set(rates) == {f"decision_{layer}_{part}" for layer in (0, 1) for part in ("kernel", "bias")}
    for rate in rates.values():
        np.testing.assert_allclose(rate, [0.2] * 4, rtol=1e-6)


# Reptile

def test_reptiles_gradient_is_the_way_back(float64):
    """The direct formula: T plain steps on all of a task's rows, then (theta_0 - theta_T) / alpha."""
    data = w, xs, ys, xq, yq = problem()
    loss, (by_w,) = loss_and_gradients(linear(Reptile, w, inner_steps=4, inner_learning_rate=0.03), data)
    expected, query = np.zeros(WIDTH), 0.0
    for t in range(TASKS):
        theta = w
        for _ in range(4):
            theta = theta - 0.03 * squared(theta, np.r_[xs[t], xq[t]], np.r_[ys[t], yq[t]])[1]
        expected += (w - theta) / 0.03
        query += squared(theta, xq[t], yq[t])[0]
    np.testing.assert_allclose(by_w, expected, rtol=1e-11)
    np.testing.assert_allclose(loss, query, rtol=1e-12)


def test_reptile_joins_the_real_rows_of_support_and_query(float64):
    """Padding between them does not count, and weights that no inner step moves get the query loss's gradient."""
    built = build_recommender(make_spec(), model={"name": "embedding", "units": [6], "embedding_dim": 3},
                              learner={"name": "reptile", "scope": "head", "inner_steps": 2,
                                       "inner_learning_rate": 0.02})
    randomise(built)
    batch = make_batch(seed=2)
    parts = encode(built, batch)
    with tf.GradientTape() as tape:
        parts = encode(built, batch)
        loss = tf.reduce_sum(built.query_loss(**parts, query_label=batch.query_label,
                                              query_length=batch.query_length))
    table = built.model.encoders["item"].table
    kernel = built.model.decision._slow["decision_0_kernel"]
    by_kernel, by_table = tape.gradient(loss, [kernel.value, table.value])

    joined_kernel, ends = np.zeros(kernel.shape), []
    for t in range(5):
        n, m = int(batch.support_length[t]), int(batch.query_length[t])
        one = {"user": parts["user"][t:t + 1],
               "support_item": tf.concat([parts["support_item"][t:t + 1, :n], parts["query_item"][t:t + 1, :m]], 1),
               "support_label": tf.concat([batch.support_label[t:t + 1, :n], batch.query_label[t:t + 1, :m]], 1),
               "support_length": tf.constant([n + m])}
        end = materialise(built.adapt(**one), tasks=tf.constant(1))
        joined_kernel += (kernel.numpy() - end["decision_0_kernel"][0].numpy()) / 0.02
        ends.append(end)
    np.testing.assert_allclose(by_kernel, joined_kernel, rtol=1e-9, atol=1e-12)

    end = {key: tf.concat([e[key] for e in ends], 0) for key in ends[0]}
    with tf.GradientTape() as tape:
        parts = encode(built, batch)
        output = built.model.apply(end, parts["user"], parts["query_item"])
        plain = tf.reduce_sum(built.learner._outer_loss(output, built.to_target(batch.query_label),
                                                        batch.query_length))
    expected = tf.convert_to_tensor(tape.gradient(plain, table.value))
    np.testing.assert_allclose(loss, plain, rtol=1e-12)
    np.testing.assert_allclose(tf.convert_to_tensor(by_table), expected, rtol=1e-10, atol=1e-13)
    assert np.abs(expected).sum() > 0


# ANIL, BOIL, CAVIA, low rank: on the models whose scopes they are

def adapted(name, model, *, scope=None, seed=5, **options):
    """A random recommender, a batch without padding, its encoded parts and the adapted fast weights."""
    learner = {"name": name, "learn_rates": "fixed", "inner_steps": 1, "inner_learning_rate": 0.03, **options}
    built = build_recommender(make_spec(), model=model, learner={**learner, **({"scope": scope} if scope else {})})
    randomise(built, seed=seed)
    batch = make_batch(seed=4)._replace(support_length=tf.fill([5], 6), query_length=tf.fill([5], 4))
    parts = encode(built, batch)
    fast = built.adapt(**{k: v for k, v in parts.items() if k != "query_item"})
    return built, batch, parts, materialise(fast, tasks=tf.constant(5))


def inputs(parts, side):
    """The decision layers' inputs `[B, N, width]`: the user's representation beside each item's."""
    item = parts[f"{side}_item"].numpy()
    user = np.broadcast_to(parts["user"].numpy()[:, None, :], (*item.shape[:2], parts["user"].shape[1]))
    return np.concatenate([user, item], axis=-1)


def target_of(built, batch):
    return built.to_target(batch.support_label).numpy()


@pytest.mark.parametrize("steps", [1, 4])
def test_anil_on_the_last_layer_is_descent_on_linear_regression(float64, steps):
    built, batch, parts, fast = adapted("anil", EMBEDDING, scope="last_layer", inner_steps=steps)
    features, offset = built.model.linear(parts["user"], parts["support_item"])
    prior, target = built.model.linear_prior(parts["user"]).numpy(), target_of(built, batch)
    np.testing.assert_allclose(
        tf.linalg.matvec(features, prior) + offset,
        built.model.apply(built.learner.init(parts["user"]), parts["user"], parts["support_item"]), rtol=1e-11)
    assert set(fast) == {"decision_2_kernel", "decision_2_bias"}
    for t in range(5):
        w = prior[t]
        for _ in range(steps):
            w = w - 0.03 * squared(w, features[t].numpy(), target[t] - offset[t].numpy())[1]
        received = np.r_[fast["decision_2_kernel"][t].numpy()[:, 0], fast["decision_2_bias"][t].numpy()[0]]
        np.testing.assert_allclose(received, w, rtol=1e-10)


def test_anil_on_the_head_is_melus_local_update(float64):
    """One step of plain gradient descent on all decision layers, the embeddings untouched."""
    built, batch, parts, fast = adapted("anil", {**EMBEDDING, "units": [6]})
    assert built.model.scope == "head"
    slow = {k: v.numpy() for k, v in built.model.decision._slow.items()}
    x, target = inputs(parts, "support"), target_of(built, batch)
    for t in range(5):
        z = x[t] @ slow["decision_0_kernel"] + slow["decision_0_bias"]
        hidden = np.maximum(z, 0)
        output = hidden @ slow["decision_1_kernel"][:, 0] + slow["decision_1_bias"][0]
        d_output = 2 / 6 * (output - target[t])
        d_hidden = d_output[:, None] * slow["decision_1_kernel"][:, 0] * (z > 0)
        expected = {"decision_0_kernel": x[t].T @ d_hidden, "decision_0_bias": d_hidden.sum(0)[None],
                    "decision_1_kernel": (hidden.T @ d_output)[:, None], "decision_1_bias": d_output.sum()[None, None]}
        for key, gradient in expected.items():
            np.testing.assert_allclose(fast[key][t], slow[key] - 0.03 * gradient, rtol=1e-10, atol=1e-14)


def test_boil_moves_all_but_the_last_layer(float64):
    spec_numbers = {**EMBEDDING, "units": [6]}
    built, batch, parts, fast = adapted("boil", spec_numbers)
    assert "decision_0_kernel" in fast and not [k for k in fast if k.startswith("decision_1")]
    assert {k.rsplit("_", 2)[0] for k in fast} == {"decision", "user_projection", "item_projection"}
    slow = {k: v.numpy() for stack in (built.model.decision, *built.model.projections.values())
            for k, v in stack._slow.items()}
    target = target_of(built, batch)

    def projected(side, encoded):
        width = built.model.encoders[side].dense_width
        dense = encoded[..., -width:]
        return np.concatenate([encoded[..., :-width], dense @ slow[f"{side}_projection_0_kernel"]
                               + slow[f"{side}_projection_0_bias"]], -1), dense

    for t in range(5):
        user, _ = projected("user", np.tile(parts["user"].numpy()[t], (6, 1)))
        item, item_dense = projected("item", parts["support_item"].numpy()[t])
        x = np.concatenate([user, item], -1)
        z = x @ slow["decision_0_kernel"] + slow["decision_0_bias"]
        output = np.maximum(z, 0) @ slow["decision_1_kernel"][:, 0] + slow["decision_1_bias"][0]
        d_hidden = (2 / 6 * (output - target[t]))[:, None] * slow["decision_1_kernel"][:, 0] * (z > 0)
        d_item = (d_hidden @ slow["decision_0_kernel"].T)[:, -built.model.embedding_dim:]
        np.testing.assert_allclose(fast["decision_0_kernel"][t],
                                   slow["decision_0_kernel"] - 0.03 * x.T @ d_hidden, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(fast["item_projection_0_kernel"][t],
                                   slow["item_projection_0_kernel"] - 0.03 * item_dense.T @ d_item, rtol=1e-10,
                                   atol=1e-14)


def test_cavia_moves_the_context_from_zero(float64):
    """With no hidden layer the context adds K_c . phi, so one step has a closed form."""
    built, batch, parts, fast = adapted("cavia", {**EMBEDDING, "units": [], "context_dim": 3})
    kernel = built.model.decision._slow["decision_0_kernel"].numpy()[:, 0]
    bias = built.model.decision._slow["decision_0_bias"].numpy()[0]
    assert {k: v.shape for k, v in fast.items()} == {"context": (5, 3)}
    np.testing.assert_array_equal(built.learner.init(parts["user"])["context"], np.zeros((5, 3)))
    residual = inputs(parts, "support") @ kernel[3:] + bias - target_of(built, batch)
    context = -0.03 * 2 * residual.mean(axis=1)[:, None] * kernel[:3]
    np.testing.assert_allclose(fast["context"], context, rtol=1e-10)
    output = inputs(parts, "query") @ kernel[3:] + bias + (context @ kernel[:3])[:, None]
    np.testing.assert_allclose(built.adapt_and_score(**parts)[0], built.to_score(tf.constant(output)), rtol=1e-11)


def test_cavia_on_two_towers_leaves_item_vectors_alone():
    built, batch, parts, _ = adapted("cavia", {"name": "two_tower"})
    vector = build_recommender(make_spec(), model={"name": "two_tower"}, learner={"scope": "user_vector"})
    assert built.encode_item(batch.query_item).shape == vector.encode_item(batch.query_item).shape
    assert [weight_shape(w) for w in built.learner.init(parts["user"]).values()] == [(8,)]


def test_low_rank_moves_the_deltas_from_zero(float64):
    """With no hidden layer z = (1 + g)(x (K + A D) + b) + s; one step from zero by hand, and the scores after it."""
    built, batch, parts, fast = adapted("low_rank", {**EMBEDDING, "units": [], "rank": 2})
    slow = {k: v.numpy() for k, v in built.model.decision._slow.items()}
    down = built.model.deltas._down[0].numpy()
    for value in built.learner.init(parts["user"]).values():
        np.testing.assert_array_equal(value, np.zeros_like(value))
    x, xq = inputs(parts, "support"), inputs(parts, "query")
    z = x @ slow["decision_0_kernel"] + slow["decision_0_bias"]
    d_output = 2 / 6 * (z[..., 0] - target_of(built, batch))[..., None]
    expected = {"delta": -0.03 * np.swapaxes(x @ down, 1, 2) @ d_output,
                "scale": -0.03 * (d_output * z).sum(1, keepdims=True), "shift": -0.03 * d_output.sum(1, keepdims=True)}
    for part, value in expected.items():
        np.testing.assert_allclose(fast[f"decision_0_{part}"], value, rtol=1e-10, atol=1e-14)
    kernel = slow["decision_0_kernel"] + down @ expected["delta"]
    output = (1 + expected["scale"]) * (xq @ kernel + slow["decision_0_bias"]) + expected["shift"]
    np.testing.assert_allclose(built.adapt_and_score(**parts)[0], built.to_score(tf.constant(output[..., 0])),
                               rtol=1e-11)


# Scopes

@pytest.mark.parametrize("model,learner,message", [
    ("two_tower", {"name": "anil", "scope": "last_layer"}, "'learner.scope' for model 'two_tower' requires one of"),
    ("two_tower", {"name": "anil", "scope": "all"}, "'learner.scope' for learner 'anil' requires one of head, "),
    ("embedding", {"name": "cavia", "scope": "head"}, "'cavia' requires one of context, received 'head'"),
    ("embedding", {"name": "low_rank", "scope": "all"}, "'low_rank' requires one of low_rank, received 'all'"),
    ("embedding", {"name": "boil", "scope": "head"}, "'boil' requires one of body, received 'head'"),
    ("embedding", {"name": "meta_sgd", "inner_steps": -1}, "0 or more, received -1"),
    ("embedding", {"name": "maml_plus_plus", "multi_step_share": 1.5}, "multi_step_share.*0 to 1"),
    ("embedding", {"name": "reptile", "learn_rates": "fixed"}, "Unknown key 'learner.learn_rates'")])
def test_bad_settings_are_one_line(model, learner, message):
    with pytest.raises(ConfigError, match=message) as raised:
        build_recommender(make_spec(), model={"name": model}, learner=learner)
    assert "\n" not in str(raised.value)


def test_a_model_without_the_scope_is_named(monkeypatch):
    from tfmeta.models.two_tower import TwoTower

    monkeypatch.setattr(TwoTower, "SCOPES", ("user_vector", "all"))
    with pytest.raises(ConfigError, match="Learner 'cavia' requires a model with a scope of context, received model "
                                          "'two_tower', which has user_vector, all"):
        build_recommender(make_spec(), learner={"name": "cavia"})


def test_a_body_needs_hidden_layers():
    spec = make_spec()
    bare = type(spec)(label=spec.label, user_id=spec.user_id, item_id=spec.item_id)
    for model in ({"name": "embedding", "units": [], "use_item_id": True},
                  {"name": "two_tower", "user_units": [], "item_units": []}):
        with pytest.raises(ConfigError, match=r"'learner\.scope' body requires a model with hidden layers"):
            build_recommender(bare, model=model, learner={"name": "boil"})


@pytest.mark.parametrize("name,model,scope", [
    ("anil", "two_tower", "user_vector"), ("anil", "embedding", "head"), ("boil", "two_tower", "body"),
    ("cavia", "embedding", "context"), ("low_rank", "two_tower", "low_rank"), ("reptile", "embedding", "head")])
def test_default_scopes(name, model, scope):
    assert build_recommender(make_spec(), model={"name": model}, learner={"name": name}).model.scope == scope


@pytest.mark.parametrize("model,sizes", [
    ("embedding", {"context": 8, "last_layer": 65, "low_rank": 6 * (64 + 64 + 1)}),
    ("two_tower", {"context": 8, "user_vector": 33, "low_rank": 6 * (64 + 33 + 64 + 33)})])
def test_a_users_state_is_small(model, sizes):
    """Numbers that a user's adaptation is made of; `head` and `all` need thousands."""
    for scope, size in sizes.items():
        built = build_recommender(make_spec(), model={"name": model}, learner={"scope": scope})
        start = built.learner.init(built.encode_user(make_batch().user, tasks=tf.constant(5)))
        assert sum(weight_shape(w).num_elements() for w in start.values()) == size


NEW_SCOPES = [("embedding", "last_layer"), ("embedding", "body"), ("embedding", "low_rank"), ("embedding", "context"),
              ("two_tower", "body"), ("two_tower", "low_rank"), ("two_tower", "context")]


@pytest.mark.parametrize("model,scope", NEW_SCOPES)
def test_meta_gradient_is_the_finite_difference(float64, model, scope):
    built = build_recommender(make_spec(), model={"name": model, "embedding_dim": 2},
                              learner={"scope": scope, "inner_steps": 2, "clip_norm": 0.5})
    first = build_recommender(make_spec(), model={"name": model, "embedding_dim": 2},
                              learner={"scope": scope, "inner_steps": 2, "clip_norm": 0.5, "first_order": True})
    randomise(built, seed=5)
    first.set_weights(built.get_weights())
    batch = make_batch(seed=7)
    variables, rng = built.trainable_variables, np.random.default_rng(0)
    directions = [rng.normal(size=v.shape) for v in variables]

    def directional(recommender):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(recommender.batch_loss(batch))
        gradients = tape.gradient(loss, [v.value for v in recommender.trainable_variables])
        return sum((tf.convert_to_tensor(g).numpy() * d).sum() for g, d in zip(gradients, directions, strict=True))

    def moved(step):
        for variable, direction, start in zip(variables, directions, starts, strict=True):
            variable.assign(start + step * direction)
        return tf.reduce_sum(built.batch_loss(batch)).numpy()

    second_order, first_order, starts = directional(built), directional(first), [v.numpy() for v in variables]
    difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
    # A ReLU may switch within the step; the tolerance is far below the second-order terms.
    np.testing.assert_allclose(second_order, difference, rtol=2e-5)
    assert abs(first_order - second_order) > 1e-3 * abs(second_order)


@pytest.mark.parametrize("model,scope", [("embedding", "last_layer"), ("embedding", "body"), ("two_tower", "body")])
@pytest.mark.parametrize("first_order,clip_norm,learn_rates", [(False, None, "per_weight"), (True, 0.3, "per_element")])
def test_descent_by_layers_is_plain_descent(float64, monkeypatch, model, scope, first_order, clip_norm, learn_rates):
    from tfmeta.learners import inner_loop

    monkeypatch.setattr(inner_loop, "_LOW_RANK_WIDTH", 1)
    built = build_recommender(make_spec(), model={"name": model, "embedding_dim": 3, "use_item_id": True},
                              learner={"scope": scope, "inner_steps": 3, "first_order": first_order,
                                       "clip_norm": clip_norm, "learn_rates": learn_rates})
    randomise(built)
    batch = make_batch(seed=3)
    assert built.model.layered

    def run():
        with tf.GradientTape() as tape:
            loss = built.batch_loss(batch)
            total = tf.reduce_sum(loss)
        return loss.numpy(), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(
            total, [v.value for v in built.trainable_variables])]

    by_layers = run()
    monkeypatch.setattr("tfmeta.learners.maml.descend", inner_loop.plain_descend)
    plain = run()
    np.testing.assert_allclose(by_layers[0], plain[0], rtol=1e-11)
    for variable, left, right in zip(built.trainable_variables, by_layers[1], plain[1], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-12, err_msg=variable.path)
