"""Every learner's small configuration for the shared test, and what the test trains.

A learner is added by one line in `CASES`.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from recommender_cases import make_spec

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label import Label
from tfmeta.data.task_batch import TaskBatch
from tfmeta.models.recommender import Recommender, build_recommender

TWO_TOWER = {"name": "two_tower", "embedding_dim": 4, "vector_dim": 5, "user_units": [8], "item_units": [8]}
EMBEDDING = {"name": "embedding", "embedding_dim": 4, "units": [8, 8], "use_item_id": True}


@dataclasses.dataclass(frozen=True)
class LearnerCase:
    """One learner on one model.

    Attributes:
      name: in `LEARNERS`.
      options: of the learner, its scope among them.
      model: of `build_recommender`.
      unit: of the label.
      still: further options under which the learner does not adapt, such as `{"inner_steps": 0}`; None where it
        has none.
      no_gradient: part of a slow weight's path -> why the outer loss has no gradient by it.
      keep: parts of the paths of slow weights that stay at their initial values where others are perturbed.
      adapts: whether a support changes anything; a reference that never adapts says no.
      steps, rate: outer steps and Adam's rate of the short meta-training.
    """

    name: str
    options: dict = dataclasses.field(default_factory=dict)
    model: dict = dataclasses.field(default_factory=lambda: dict(TWO_TOWER))
    unit: str = "rating"
    still: dict | None = None
    no_gradient: dict[str, str] = dataclasses.field(default_factory=dict)
    keep: tuple[str, ...] = ()
    adapts: bool = True
    steps: int = 150
    rate: float = 0.01

    @property
    def algorithm(self) -> str:
        """The learner as papers call it: first-order MAML is one of its own."""
        return f"first_order_{self.name}" if self.options.get("first_order") else self.name

    @property
    def id(self) -> str:
        return "-".join([self.algorithm, self.model["name"], self.options.get("scope", "default"), self.unit])


NO_STEPS = {"inner_steps": 0}
CASES = (
    LearnerCase("maml", {"scope": "user_vector", "inner_steps": 3, "inner_learning_rate": 0.05}, still=NO_STEPS),
    LearnerCase("maml", {"scope": "user_vector", "inner_steps": 3, "inner_learning_rate": 0.05}, unit="click",
                still=NO_STEPS),
    LearnerCase("maml", {"scope": "head", "inner_steps": 3, "inner_learning_rate": 0.02, "clip_norm": 2.0}, EMBEDDING,
                still=NO_STEPS),
    LearnerCase("maml", {"scope": "user_vector", "inner_steps": 3, "inner_learning_rate": 0.05, "first_order": True},
                still=NO_STEPS),
    LearnerCase("anil", {"scope": "last_layer", "inner_steps": 3, "inner_learning_rate": 0.05}, EMBEDDING,
                still=NO_STEPS),
    LearnerCase("boil", {"inner_steps": 2, "inner_learning_rate": 0.02, "clip_norm": 2.0}, EMBEDDING, still=NO_STEPS),
    LearnerCase("boil", {"inner_steps": 2, "inner_learning_rate": 0.02, "clip_norm": 2.0}, still=NO_STEPS),
    LearnerCase("reptile", {"scope": "user_vector", "inner_steps": 3, "inner_learning_rate": 0.05, "shrinkage": 4.0},
                still=NO_STEPS),
    LearnerCase("reptile", {"scope": "all", "inner_steps": 3, "inner_learning_rate": 0.02, "clip_norm": 2.0}, EMBEDDING,
                still=NO_STEPS),
    LearnerCase("meta_sgd", {"scope": "user_vector", "inner_learning_rate": 0.05}, still=NO_STEPS),
    LearnerCase("maml_plus_plus", {"scope": "head", "inner_steps": 3, "inner_learning_rate": 0.02, "clip_norm": 2.0},
                EMBEDDING, still=NO_STEPS),
    LearnerCase("cavia", {"inner_steps": 2, "inner_learning_rate": 0.2}, EMBEDDING, still=NO_STEPS),
    LearnerCase("cavia", {"inner_steps": 2, "inner_learning_rate": 0.2}, still=NO_STEPS),
    LearnerCase("low_rank", {"inner_steps": 2, "inner_learning_rate": 0.05, "clip_norm": 2.0}, EMBEDDING,
                still=NO_STEPS),
    LearnerCase("low_rank", {"inner_steps": 2, "inner_learning_rate": 0.05, "clip_norm": 2.0}, still=NO_STEPS),
    LearnerCase("ridge"),
    LearnerCase("ridge", {"regularisation": "shared"}, unit="click"),
    LearnerCase("ridge", {"newton_steps": 3}, unit="weight"),
    LearnerCase("ordinal_ridge"),
    LearnerCase("ordinal_ridge", {"scope": "last_layer", "context_units": 0, "row_noise": False,
                                  "regularisation": "shared"}, EMBEDDING),
    LearnerCase("bayesian"),
    LearnerCase("bayesian", {"covariance": "full"}, unit="click"),
    LearnerCase("bayesian", {"covariance": "low_rank", "rank": 2}, unit="weight"),
    LearnerCase("joint", adapts=False),
    LearnerCase("joint", model=EMBEDDING, adapts=False),
    LearnerCase("fine_tune", {"inner_steps": 10, "inner_learning_rate": 0.02, "shrinkage": 3.0}, still=NO_STEPS),
    LearnerCase("fine_tune", {"scope": "head", "inner_steps": 3, "inner_learning_rate": 0.01, "shrinkage": 5.0,
                               "clip_norm": 1.0}, EMBEDDING, still=NO_STEPS),
    LearnerCase("dropout_net", {"units": 16}, steps=300),
    LearnerCase("dropout_net", {"units": 16}, unit="click", steps=300),
    LearnerCase("meta_emb", {"inner_learning_rate": 0.3}, still=NO_STEPS),
    LearnerCase("meta_emb", {"inner_steps": 2, "inner_learning_rate": 0.1}, EMBEDDING, still=NO_STEPS),
    LearnerCase("meta_emb", {"inner_learning_rate": 0.3}, unit="click", still=NO_STEPS),
    LearnerCase("mwuf", {"inner_learning_rate": 0.3}),
    LearnerCase("mwuf", {"inner_learning_rate": 0.1}, EMBEDDING),
    LearnerCase("mwuf", {"inner_learning_rate": 0.3}, unit="click"),
    LearnerCase("tanp", {"units": 16, "latent_dim": 4, "decoder_units": [16, 8], "clusters": 3}, rate=0.005),
    LearnerCase("tanp", {"scope": "head", "units": 8, "latent_dim": 4, "decoder_units": [8], "modulation": "film"},
                EMBEDDING, unit="click"),
    LearnerCase("set_encoder", {"units": 16, "heads": 2, "blocks": 1}, rate=0.005),
    LearnerCase("set_encoder", {"units": 16, "heads": 4, "blocks": 1, "inducing_points": 3, "rounds": 2},
                unit="click", rate=0.005),
    LearnerCase("lwa", {"boundaries": [2, 3, 4, 5]}),
    LearnerCase("lwa", unit="click"),
    LearnerCase("nlba", {"scope": "head", "boundaries": [3]}, EMBEDDING),
    LearnerCase("nlba", {"scope": "all"}, unit="click"),
    LearnerCase("mamo", {"memories": 3, "preference_dim": 4, "units": [6], "inner_learning_rate": 0.05},
                still=NO_STEPS),
    LearnerCase("mamo", {"scope": "head", "memories": 3, "preference_dim": 4, "inner_steps": 2}, EMBEDDING,
                unit="click", still=NO_STEPS),
)


def build(case: LearnerCase, spec: FeatureSpec | None = None, **options) -> Recommender:
    """Builds the case, by default on a specification with every kind of feature."""
    return build_recommender(spec or make_spec(case.unit), model=case.model, seed=3,
                             learner={"name": case.name, **case.options, **options})


def perturb(recommender: Recommender, *, keep: tuple[str, ...] = (), scale: float = 0.2, seed: int = 0) -> None:
    """Adds noise to every weight, so that no path is hidden behind a zero; what must be positive stays so."""
    rng = np.random.default_rng(seed)
    for variable in recommender.trainable_variables:
        noise = rng.normal(scale=scale, size=variable.shape)
        if "rate" in variable.path:
            noise = 0.1 * noise * np.abs(variable.numpy())
        if not any(part in variable.path for part in keep):
            variable.assign((variable.numpy() + noise).astype(variable.dtype))


class Family:
    """Tasks with a known optimum: label = w . z_item + noise, with w = age * slope + N(0, I) for each user.

    For `click` and `weight` the label is 1 with probability sigmoid(2 w . z), and supports hold positives only.
    """

    DIM, ITEMS, QUERY, NOISE = 4, 200, 16, 0.5

    def __init__(self, unit: str = "rating", seed: int = 0):
        rng = np.random.default_rng([seed, 1])
        self.unit = unit
        self.items = rng.normal(size=(self.ITEMS, self.DIM)).astype(np.float32)
        self.slope = rng.normal(size=self.DIM)
        label = {"rating": Label("rating", mean=3.0, std=2.0),
                 "click": Label("click", unit="click", minimum=0, maximum=1, threshold=1),
                 "weight": Label("weight", unit="weight", minimum=0, maximum=9, threshold=1)}[unit]
        self.spec = FeatureSpec(
            label=label, user_id=Feature("user_id", "categorical", "int64", vocabulary=(1, 2)),
            item_id=Feature("item_id", "categorical", "int64", vocabulary=tuple(range(self.ITEMS))),
            user_features=(Feature("age", "numeric", "float32", mean=(0.0,), std=(1.0,)),),
            item_features=(Feature("vector", "dense_vector", "float32", length=self.DIM, mean=(0.0,) * self.DIM,
                                   std=(1.0,) * self.DIM),))

    def draw(self, tasks: int, rng: np.random.Generator, *, support: int = 20, length=None) -> TaskBatch:
        """Draws tasks of disjoint support and query; `length` is drawn from 1 to `support` where it is None."""
        age = rng.normal(size=tasks)
        w = age[:, None] * self.slope + rng.normal(size=(tasks, self.DIM))
        rating = 3.0 + w @ self.items.T.astype(np.float64) + self.NOISE * rng.normal(size=(tasks, self.ITEMS))
        order = rng.permuted(np.tile(np.arange(self.ITEMS), (tasks, 1)), axis=1)
        if self.unit != "rating":
            chance = 1 / (1 + np.exp(-2 * (rating - 3.0)))
            rating = (rng.random(rating.shape) < chance).astype(float)
            # Support of positives alone, in random order; the query is whatever comes last.
            positives = np.take_along_axis(rating, order, 1) > 0
            head = np.argsort(~positives[:, :-self.QUERY], axis=1, kind="stable")
            order[:, :-self.QUERY] = np.take_along_axis(order[:, :-self.QUERY], head, 1)
        chosen, query = order[:, :support], order[:, -self.QUERY:]
        length = rng.integers(1, support + 1, tasks) if length is None else np.full(tasks, length)

        def side(rows):
            return ({"item_id": tf.constant(rows + 2, tf.int32), "vector": tf.constant(self.items[rows])},
                    tf.constant(np.take_along_axis(rating, rows, 1), tf.float32))

        (support_item, support_label), (query_item, query_label) = side(chosen), side(query)
        return TaskBatch(user={"age": tf.constant(age, tf.float32)}, support_item=support_item,
                         support_label=support_label, support_length=tf.constant(length, tf.int32),
                         query_item=query_item, query_label=query_label,
                         query_length=tf.fill([tasks], self.QUERY))

    def optimum(self, batch: TaskBatch) -> np.ndarray:
        """Returns the posterior means `[B, Q]` of the query's ratings under the true model, float64."""
        scores = []
        age, length = batch.user["age"].numpy().astype(np.float64), batch.support_length.numpy()
        for task, (n, prior) in enumerate(zip(length, age[:, None] * self.slope, strict=True)):
            z = batch.support_item["vector"].numpy()[task, :n].astype(np.float64)
            residual = batch.support_label.numpy()[task, :n] - 3.0 - z @ prior
            precision = np.eye(self.DIM) + z.T @ z / self.NOISE ** 2
            w = prior + np.linalg.solve(precision, z.T @ residual) / self.NOISE ** 2
            scores.append(3.0 + batch.query_item["vector"].numpy()[task] @ w)
        return np.stack(scores)


def encode(recommender: Recommender, batch: TaskBatch) -> dict[str, tf.Tensor]:
    """Returns the arguments of `adapt_and_score` but the labels of the query."""
    return {"user": recommender.encode_user(batch.user, tasks=tf.shape(batch.support_length)[0]),
            "support_item": recommender.encode_item(batch.support_item), "support_label": batch.support_label,
            "support_length": batch.support_length, "query_item": recommender.encode_item(batch.query_item)}


def scores(recommender: Recommender, batch: TaskBatch) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (adapted, unadapted) scores `[B, Q]`."""
    return recommender.adapt_and_score(**encode(recommender, batch))


def task_loss(recommender: Recommender, batch: TaskBatch, progress: float | tf.Tensor = 1.0) -> tf.Tensor:
    """Returns what the outer loop minimises, `[B]`."""
    return recommender.query_loss(**encode(recommender, batch), query_label=batch.query_label,
                                  query_length=batch.query_length, progress=progress)


def train(recommender: Recommender, family: Family, *, steps: int, rate: float, tasks: int = 32) -> None:
    """A short meta-training with Adam."""
    import keras

    optimizer = keras.optimizers.Adam(rate)
    variables = recommender.trainable_variables
    optimizer.build(variables)

    def step(batch, progress):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(task_loss(recommender, batch, progress))
        gradients = tape.gradient(loss, [v.value for v in variables],
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply([tf.convert_to_tensor(g) for g in gradients], variables)

    run = tf.function(step, autograph=False)
    rng = np.random.default_rng(7)
    batches = family.draw(tasks * steps, rng)
    for index in range(steps):
        batch = tf.nest.map_structure(lambda t, i=index: t[i * tasks:(i + 1) * tasks], batches)
        run(batch, tf.constant(index / steps, tf.float32))


def check_meta_gradient(built, batch) -> dict[str, float]:
    """Compares the gradient of the outer loss with finite differences (float64), a random direction a variable.

    Returns:
      the derivative along the direction, by the variable's path.
    """
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(task_loss(built, batch))
    loss = tf.function(lambda: tf.reduce_sum(task_loss(built, batch)), autograph=False)
    variables, derivatives = built.trainable_variables, {}
    rng = np.random.default_rng(0)
    for variable, gradient in zip(variables, tape.gradient(value, [v.value for v in variables]), strict=True):
        direction, start = rng.normal(size=variable.shape), variable.numpy()
        variable.assign(start + 1e-6 * direction)
        above = loss().numpy()
        variable.assign(start - 1e-6 * direction)
        difference = (above - loss().numpy()) / 2e-6
        variable.assign(start)
        derivatives[variable.path] = (tf.convert_to_tensor(gradient).numpy() * direction).sum()
        np.testing.assert_allclose(difference, derivatives[variable.path], rtol=2e-4, atol=2e-6, err_msg=variable.path)
    return derivatives
