"""Small exports of every kind that the page meets."""

import os
import shutil

import numpy as np
import pandas as pd

NUM_ITEMS = 40
_ADJECTIVES = ("Quiet", "Golden", "Last", "Hidden", "Northern", "Broken", "Electric", "Paper")
_NOUNS = ("Harbour", "Garden", "Letter", "Winter", "Machine")


def title(i: int) -> str:
    return f"{_ADJECTIVES[i % 8]} {_NOUNS[i // 8]}"


def make_items(*, integers: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = range(NUM_ITEMS)
    return pd.DataFrame({"item_id": [100 + i if integers else f"m{i}" for i in rows],
                         "genres": [list(rng.choice(["comedy", "crime", "drama"], 1 + i % 2)) for i in rows],
                         "year": rng.integers(1950, 2020, NUM_ITEMS).astype(float),
                         # A title may be missing, and any text.
                         "title": [None if i == 39 else "<b>Bold & \"quoted\"</b>" if i == 38 else title(i)
                                   for i in rows]})


def make_recommender(*, unit: str = "rating", model: str = "two_tower", scope: str = "user_vector",
                     integers: bool = False, title: str | None = "title"):
    from tfmeta.data.feature import Feature
    from tfmeta.data.feature_spec import FeatureSpec
    from tfmeta.data.label import Label
    from tfmeta.models.recommender import build_recommender

    label = {"rating": Label("rating", mean=3.4, std=1.1),
             "click": Label("click", unit="click", minimum=0, maximum=1, threshold=1),
             "weight": Label("plays", unit="weight", minimum=0, maximum=50, threshold=1)}[unit]
    ids = tuple(range(100, 130)) if integers else tuple(f"m{i}" for i in range(30))
    spec = FeatureSpec(
        label=label, user_id=Feature("user_id", "categorical", "int64", vocabulary=(1, 2)),
        item_id=Feature("movie_id", "categorical", "int64" if integers else "string", vocabulary=ids),
        user_features=(Feature("occupation", "categorical", "string", vocabulary=("artist", "farmer", "writer")),
                       Feature("age", "numeric", "float32", mean=(30.0,), std=(10.0,)),
                       Feature("region", "categorical", "int64", vocabulary=(1, 2, 3)),
                       Feature("likes", "multi_categorical", "string", length=2, vocabulary=("sea", "snow", "sun"))),
        item_features=(Feature("genres", "multi_categorical", "string", length=2,
                               vocabulary=("comedy", "crime", "drama")),
                       Feature("year", "numeric", "float32", mean=(1990.0,), std=(20.0,))), title=title)
    widths = {"two_tower": {"vector_dim": 4, "user_units": [5], "item_units": [5]}, "embedding": {"units": [6]}}
    recommender = build_recommender(spec, learner={"scope": scope, "inner_steps": 2},
                                    model={"name": model, "embedding_dim": 3, "use_item_id": True, **widths[model]})
    rng = np.random.default_rng(3)
    for variable in recommender.variables:
        rates = "log_inner_rate" in variable.path
        variable.assign((rng.normal(scale=0.4, size=variable.shape) + (np.log(0.1) if rates else 0)).astype("float32"))
    return recommender


def export(base: str, *, item_features: str = "catalogue", **options) -> str:
    from export.exporter import export_model

    return export_model(make_recommender(**options), items=make_items(integers=options.get("integers", False)),
                        model_base=base, item_features=item_features, support_bound=8, top_k=30, check=False,
                        batch_sizes=(1,))


def build_foreign_model(path: str) -> None:
    """A model of somebody else: one signature, nothing that describes it."""
    import tensorflow as tf

    class Double(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def double(self, x):
            return {"y": 2 * x}

    module = Double()
    tf.saved_model.save(module, path, signatures={"serving_default": module.double})


def build_models(directory: str) -> dict[str, str]:
    """Exports; returns model name -> base path.

    movies: ratings, titles, lists of the catalogue. clicks: integer ids, no lists, titles. plays: features of items
    come with the request. foreign: not of tfmeta.
    """
    bases = {name: os.path.join(directory, name) for name in ("movies", "clicks", "plays", "foreign")}
    export(bases["movies"])
    export(bases["clicks"], unit="click", model="embedding", scope="all", integers=True)
    export(bases["plays"], unit="weight", item_features="request")
    build_foreign_model(os.path.join(bases["foreign"], "1"))
    return bases


def build_cheap_models(directory: str) -> dict[str, str]:
    """One export, movies, and hand-made models that cost no export; returns model name -> base path.

    clicks: no lists, titles. bare: the same without titles. films: features of items come with the request.
    """
    from client_models import IDS, build_client_model, make_spec

    from export.items.item_titles import FILE, write_titles

    bases = {name: os.path.join(directory, name) for name in ("movies", "clicks", "bare", "films", "foreign")}
    export(bases["movies"])
    build_client_model(os.path.join(bases["bare"], "1"), unit="click")
    shutil.copytree(bases["bare"], bases["clicks"])
    extras = os.path.join(bases["clicks"], "1", "assets.extra")
    os.makedirs(extras, exist_ok=True)
    frame = pd.DataFrame({"item_id": IDS, "name": [title(i) for i in range(len(IDS))]})
    assert write_titles(os.path.join(extras, FILE), frame, feature_spec=make_spec("click"))
    build_client_model(os.path.join(bases["films"], "1"), by_id=False)
    build_foreign_model(os.path.join(bases["foreign"], "1"))
    return bases
