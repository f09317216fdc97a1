"""Recommenders of many learners on the small catalogue, and random tasks for signatures built without an export."""

import numpy as np
import tensorflow as tf
from export_cases import BOUND, make_items, make_spec

# id -> (learner, model, unit of the label)
TWO_TOWER = {"name": "two_tower", "embedding_dim": 3, "vector_dim": 4, "user_units": [5], "item_units": [5]}
COSINE = {**TWO_TOWER, "similarity": "cosine"}
EMBEDDING = {"name": "embedding", "embedding_dim": 3, "units": [6], "use_item_id": True}
LISTS = {
    "maml": ({"name": "maml", "scope": "user_vector", "inner_steps": 2}, TWO_TOWER, "rating"),
    "maml-cosine": ({"name": "maml", "scope": "user_vector", "inner_steps": 2}, COSINE, "click"),
    "cavia": ({"name": "cavia", "inner_steps": 2}, TWO_TOWER, "rating"),
    "ridge": ({"name": "ridge"}, TWO_TOWER, "rating"),
    "ridge-click": ({"name": "ridge"}, TWO_TOWER, "click"),
    "ordinal_ridge": ({"name": "ordinal_ridge"}, TWO_TOWER, "rating"),
    "bayesian": ({"name": "bayesian"}, TWO_TOWER, "rating"),
    "bayesian-click": ({"name": "bayesian", "covariance": "full"}, TWO_TOWER, "click"),
    "meta_emb": ({"name": "meta_emb"}, TWO_TOWER, "weight"),
    "lwa": ({"name": "lwa"}, TWO_TOWER, "rating"),
    "joint": ({"name": "joint", "scope": "user_vector"}, TWO_TOWER, "rating"),
    # Without an index.
    "maml-all": ({"name": "maml", "scope": "all", "inner_steps": 2}, TWO_TOWER, "rating"),
    "maml-head": ({"name": "maml", "scope": "head", "inner_steps": 2}, EMBEDDING, "click"),
    "ordinal-embedding": ({"name": "ordinal_ridge", "scope": "last_layer"}, EMBEDDING, "rating"),
    "tanp": ({"name": "tanp", "units": 4, "latent_dim": 3, "decoder_units": [4], "clusters": 2}, TWO_TOWER, "rating"),
}
WITHOUT_INDEX = ("bayesian-click", "maml-all", "maml-head", "ordinal-embedding", "tanp")


def make(name: str, *, plain: bool = False, seed: int = 0):
    """Returns the recommender of a case, every weight random."""
    from tfmeta.models.recommender import build_recommender

    learner, model, unit = LISTS[name]
    recommender = build_recommender(make_spec(unit, plain=plain), model=model, learner=learner)
    rng = np.random.default_rng(seed)
    for variable in recommender.variables:
        noise = rng.normal(scale=0.3, size=variable.shape)
        small = any(part in variable.path for part in ("rate", "log_", "cut"))
        variable.assign((variable.numpy() + (0.1 * noise if small else noise)).astype(variable.dtype))
    return recommender


def make_context(recommender, *, plain: bool = False, **options):
    from export.items.catalogue_items import CatalogueItems
    from export.signatures.context import SignatureContext
    from tfmeta.data.feature_transform import FeatureTransform

    return SignatureContext(
        recommender=recommender, users=FeatureTransform(recommender.feature_spec.user_features),
        items=CatalogueItems(recommender, make_items(plain=plain)), support_bound=BOUND, **options)


def concrete(module, context):
    """Returns a signature as a function of arrays."""
    run = module.build(context)
    function = tf.function(lambda **inputs: run(inputs), autograph=False).get_concrete_function(
        **module.input_specs(context))

    def call(inputs):
        specs = function.structured_input_signature[1]
        return {k: v.numpy() for k, v in function(**{k: tf.constant(inputs[k], s.dtype)
                                                     for k, s in specs.items()}).items()}

    return call


def eager(module, context):
    """The same without a graph: cheaper where it is the numbers that matter."""
    run, specs = module.build(context), module.input_specs(context)
    return lambda inputs: {k: v.numpy() for k, v in run({k: tf.constant(inputs[k], s.dtype)
                                                         for k, s in specs.items()}).items()}


def make_inputs(recommender, *, plain: bool = False, batch: int = 4, width: int = 5, query: int = 6, exclude: int = 3,
                length=None, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns the inputs of every signature that reads a catalogue."""
    from export.sample_requests import as_inputs, draw_items, random_raw

    rng = np.random.default_rng(seed)
    spec = recommender.feature_spec
    ids = {spec.item_id.name: make_items(plain=plain)["item_id"].to_numpy(np.int64 if plain else object)}
    label = rng.integers(spec.label.minimum, min(spec.label.maximum, 5), (batch, width), endpoint=True)
    length = rng.integers(1, width + 1, batch) if length is None else np.full(batch, length)
    inputs = as_inputs(user=random_raw(spec.user_features, (batch,), rng),
                       query=draw_items(ids, (batch, query), rng), support=draw_items(ids, (batch, width), rng),
                       label=label.astype(np.float32), length=length.astype(np.int32))
    return inputs | {"exclude_item": draw_items(ids, (batch, exclude), rng)[spec.item_id.name],
                     "exclude_length": rng.integers(0, exclude + 1, batch).astype(np.int32)}
