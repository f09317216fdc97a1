"""A feature specification, a model and a learner as one Keras model."""

import importlib
import inspect
import typing

import keras
import tensorflow as tf

from tfmeta import config
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.task_batch import TaskBatch
from tfmeta.errors import ConfigError, suggest
from tfmeta.learners.learner import Learner
from tfmeta.learners.task_tensors import Catalogue, Query, Support
from tfmeta.models.default_learner import default_learner
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel

# Name in a configuration -> where the class is. A new model or learner is one file and one line here.
MODELS = {
    "two_tower": "tfmeta.models.two_tower:TwoTower",
    "embedding": "tfmeta.models.embedding_model:EmbeddingModel",
}
LEARNERS = {
    "maml": "tfmeta.learners.maml:MAML",
    "anil": "tfmeta.learners.anil:ANIL",
    "boil": "tfmeta.learners.boil:BOIL",
    "reptile": "tfmeta.learners.reptile:Reptile",
    "meta_sgd": "tfmeta.learners.meta_sgd:MetaSGD",
    "maml_plus_plus": "tfmeta.learners.maml_plus_plus:MAMLPlusPlus",
    "cavia": "tfmeta.learners.cavia:CAVIA",
    "low_rank": "tfmeta.learners.low_rank:LowRankAdaptation",
    "ridge": "tfmeta.learners.ridge:Ridge",
    "ordinal_ridge": "tfmeta.learners.ordinal_ridge:OrdinalRidge",
    "bayesian": "tfmeta.learners.bayesian:Bayesian",
    "joint": "tfmeta.learners.joint:Joint",
    "fine_tune": "tfmeta.learners.fine_tune:FineTune",
    "dropout_net": "tfmeta.learners.dropout_net:DropoutNet",
    "meta_emb": "tfmeta.learners.meta_emb:MetaEmb",
    "mwuf": "tfmeta.learners.mwuf:MWUF",
    "tanp": "tfmeta.learners.tanp:TaNP",
    "set_encoder": "tfmeta.learners.set_encoder:SetEncoder",
    "lwa": "tfmeta.learners.lwa:LWA",
    "nlba": "tfmeta.learners.nlba:NLBA",
    "mamo": "tfmeta.learners.mamo:MAMO",
}


@keras.saving.register_keras_serializable("tfmeta")
class Recommender(keras.Model):
    """Scores items for users, with or without adapting to their interactions first.

    Features are transformed ones (`FeatureTransform`); labels and scores are in the data set's own unit: ratings on
    their scale (not clipped), probabilities for clicks, an unbounded preference for weights.

    Args:
      feature_spec: of the data.
      learner: owns the model.
    """

    def __init__(self, feature_spec: FeatureSpec, learner: Learner, **kwargs):
        super().__init__(name="recommender", **kwargs)
        self.feature_spec = feature_spec
        self.learner = learner
        if learner.over_catalogue and not learner.has_index:
            raise ConfigError(f"'learner.outer_loss' softmax requires a learner and a model whose scores are products "
                              "of a user's and an item's vector, such as ridge with two_tower, received "
                              f"'{learner.name}' with '{learner.model.name}' and scope '{learner.model.scope}'. Use "
                              "pairwise.")
        self.built = True

    @property
    def model(self):
        return self.learner.model

    def encode_user(self, features: dict[str, tf.Tensor], *, tasks: tf.Tensor) -> tf.Tensor:
        """Transformed user features `[B, ...]` -> `[B, Du]` float32; `tasks` is B, for users without features."""
        return self.model.encode_user(features, tasks=tasks)

    def encode_item(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Transformed item features `[..., ...]` -> `[..., Di]` float32."""
        return self.model.encode_item(features)

    def score(self, user: tf.Tensor, query_item: tf.Tensor) -> tf.Tensor:
        """Unadapted scores: `[B, Du]`, `[B, Q, Di]` -> `[B, Q]` float32."""
        return self.predict_scores(self.learner.init(user), user, query_item)

    def adapt(self, user: tf.Tensor, *, support_item: tf.Tensor, support_label: tf.Tensor,
              support_length: tf.Tensor) -> Fast:
        """Adapts to support sets.

        Args:
          user: `[B, Du]`.
          support_item: `[B, S, Di]` float32, encoded.
          support_label: `[B, S]` float32, the label's own unit.
          support_length: `[B]` int32, real rows.

        Returns:
          fast weights, name -> `[B, ...]` float32.
        """
        support = self.make_support(user, support_item, support_label, support_length)
        return self.learner.adapt(self.learner.init(user), support)

    def predict_scores(self, fast: Fast, user: tf.Tensor, query_item: tf.Tensor) -> tf.Tensor:
        """Scores under given fast weights: `[B, Q]` float32."""
        return self.to_score(self.learner.predict(fast, Query(user=user, item=query_item)).output)

    def adapt_and_score(self, user: tf.Tensor, *, support_item: tf.Tensor, support_label: tf.Tensor,
                        support_length: tf.Tensor, query_item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (adapted scores, unadapted scores), both `[B, Q]`.

        They are equal bit for bit for an empty support, and for a task whose adaptation left the range of floats.
        """
        base = self.score(user, query_item)
        fast = self.adapt(user, support_item=support_item, support_label=support_label,
                          support_length=support_length)
        adapted = self.predict_scores(fast, user, query_item)
        usable = tf.reduce_all(tf.math.is_finite(adapted), axis=1, keepdims=True)
        return tf.where((support_length[:, None] > 0) & usable, adapted, base), base

    def adapt_and_median(self, user: tf.Tensor, *, support_item: tf.Tensor, support_label: tf.Tensor,
                         support_length: tf.Tensor, query_item: tf.Tensor) -> tf.Tensor:
        """Returns the adapted predictive medians `[B, Q]` in the label's own unit; arguments as in `adapt_and_score`.

        Only for learners with `has_median`. The medians are unadapted where the adapted scores are.
        """
        query = Query(user=user, item=query_item)
        base = self.learner.predict(self.learner.init(user), query)
        fast = self.adapt(user, support_item=support_item, support_label=support_label,
                          support_length=support_length)
        adapted = self.learner.predict(fast, query)
        usable = tf.reduce_all(tf.math.is_finite(adapted.output), axis=1, keepdims=True)
        return self.to_score(tf.where((support_length[:, None] > 0) & usable, adapted.median, base.median))

    def query_loss(self, user: tf.Tensor, *, support_item: tf.Tensor, support_label: tf.Tensor,
                   support_length: tf.Tensor, query_item: tf.Tensor, query_label: tf.Tensor,
                   query_length: tf.Tensor, progress: tf.Tensor | float = 1.0,
                   catalogue: Catalogue | None = None) -> tf.Tensor:
        """Returns the outer loss of each task `[B]` float32.

        Arguments as in `adapt_and_score`; `progress` as in `Learner.task_loss`; `catalogue` where
        the learner's loss is `over_catalogue`.
        """
        return self.learner.task_loss(
            self.make_support(user, support_item, support_label, support_length),
            Query(user=user, item=query_item, catalogue=catalogue), target=self.to_target(query_label),
            length=query_length, progress=tf.cast(progress, self.variable_dtype))

    def batch_loss(self, batch: TaskBatch) -> tf.Tensor:
        """Returns the outer loss of each task `[B]` of a meta-batch of features."""
        user = self.encode_user(batch.user, tasks=tf.shape(batch.query_length)[0])
        return self.query_loss(
            user, support_item=self.encode_item(batch.support_item), support_label=batch.support_label,
            support_length=batch.support_length, query_item=self.encode_item(batch.query_item),
            query_label=batch.query_label, query_length=batch.query_length)

    def call(self, batch: TaskBatch) -> tf.Tensor:
        """Returns the adapted scores `[B, Q]` of a meta-batch of features."""
        user = self.encode_user(batch.user, tasks=tf.shape(batch.query_length)[0])
        return self.adapt_and_score(
            user, support_item=self.encode_item(batch.support_item), support_label=batch.support_label,
            support_length=batch.support_length, query_item=self.encode_item(batch.query_item))[0]

    def make_support(self, user: tf.Tensor, item: tf.Tensor, label: tf.Tensor, length: tf.Tensor) -> Support:
        """Returns a support as learners read it, its padding cleaned before anything is computed with it."""
        mask = tf.sequence_mask(length, tf.shape(label)[1])
        return Support(user=user, item=tf.math.multiply_no_nan(item, tf.cast(mask, item.dtype)[..., None]),
                       target=self.to_target(tf.where(mask, label, tf.zeros_like(label))), length=length)

    def to_target(self, label: tf.Tensor) -> tf.Tensor:
        """Labels in their own unit -> target units (standardised for ratings, unchanged otherwise)."""
        info = self.feature_spec.label
        label = tf.cast(label, self.variable_dtype)
        return (label - info.mean) / info.std if info.unit == "rating" else label

    def to_score(self, output: tf.Tensor) -> tf.Tensor:
        """Target units -> scores: what `Learner.score_unit` says, ratings on their own scale."""
        info = self.feature_spec.label
        if info.unit == "rating":
            return output * info.std + info.mean
        return tf.sigmoid(output) if self.learner.score_unit == "probability" else output

    def get_config(self) -> dict:
        """Returns what `build_recommender` needs, JSON-able."""
        names = {path.split(":")[1]: name for name, path in {**MODELS, **LEARNERS}.items()}
        return {"feature_spec": config.to_dict(self.feature_spec),
                "model": {"name": names[type(self.model).__name__], **self.model.get_config()},
                "learner": {"name": names[type(self.learner).__name__], "scope": self.model.scope,
                            **self.learner.get_config()},
                "seed": self.model.seed}

    @classmethod
    def from_config(cls, config_: dict) -> "Recommender":
        spec = config.parse(FeatureSpec, config_["feature_spec"], where="feature_spec")
        return build_recommender(spec, model=config_["model"], learner=config_["learner"], seed=config_["seed"])


def build_recommender(feature_spec: FeatureSpec, *, model: dict | None = None, learner: dict | None = None,
                      seed: int = 0) -> Recommender:
    """Builds a recommender with all its variables.

    Args:
      feature_spec: of the data.
      model: `{"name": one of MODELS, ...hyper-parameters}`; default two_tower.
      learner: `{"name": one of LEARNERS, "scope": which weights adapt, ...}`; without a name `default_learner`
        chooses: `ordinal_ridge` for ratings and `ridge` for clicks and weights where the model has a linear head, as
        two_tower has, else `maml`. The default scope is the first one of the learner's that the model has, the
        model's first where the learner takes any.
      seed: of all initial values.

    Raises:
      ConfigError: on an unknown name, key or scope, or a value out of range.
    """
    chosen, model_options = model_class(model)
    if "name" not in (learner or {}):
        learner = default_learner(feature_spec.label, model_class=chosen, model=model_options, learner=learner or {})
    learner_class, learner_options = _resolve(LEARNERS, learner, "learner")
    scope = learner_options.pop("scope", None) or _default_scope(learner_class, chosen, learner, model)
    _check_options(chosen, model_options, "model", reserved=("feature_spec", "scope", "seed"))
    _check_options(learner_class, learner_options, "learner", reserved=("model",))
    built = chosen(feature_spec, scope=scope, seed=seed, **model_options)
    return Recommender(feature_spec, learner_class(built, **learner_options))


def model_class(model: dict | None) -> tuple[type[MetaModel], dict]:
    """Returns the class and the other options of `{"name": one of MODELS, ...}`; two_tower without a name.

    Raises:
      ConfigError: on an unknown name.
    """
    return _resolve(MODELS, {"name": "two_tower", **(model or {})}, "model")


def _default_scope(learner_class, model_class, learner: dict, model: dict | None) -> str:
    usable = [s for s in learner_class.SCOPES or model_class.SCOPES if s in model_class.SCOPES]
    if not usable:
        raise ConfigError(f"Learner '{learner['name']}' requires a model with a scope of "
                          f"{', '.join(learner_class.SCOPES)}, received model "
                          f"'{(model or {}).get('name', 'two_tower')}', which has {', '.join(model_class.SCOPES)}.")
    return usable[0]


def _resolve(registry: dict[str, str], options: dict, where: str):
    options = dict(options)
    name = options.pop("name")
    if name not in registry:
        raise ConfigError(f"'{where}.name' received '{name}'.{suggest(name, registry)}")
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute), options


def _check_options(cls: type, options: dict, where: str, *, reserved: tuple[str, ...]) -> None:
    """Checks names and types of a constructor's keyword options, converting in place what YAML writes loosely."""
    hints = typing.get_type_hints(cls.__init__)
    known = [p.name for p in inspect.signature(cls.__init__).parameters.values()
             if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in (*reserved, "name")]
    for key in options:
        if key not in known:
            raise ConfigError(f"Unknown key '{where}.{key}'.{suggest(key, ['name', *known])}")
        options[key] = config.convert(hints[key], options[key], where=f"{where}.{key}")
