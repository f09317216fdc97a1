"""Item embeddings and catalogues in files."""

import numpy as np
import pandas as pd
import pytest
from export_cases import make_items
from list_cases import eager, make, make_context, make_inputs

from tfmeta.errors import ExportError


def user_vector(recommender, state):
    """The user's vector and bias in a state `[B, P]`, as the documentation says where they lie."""
    from export.user_state import UserState

    fast = UserState(recommender).unflatten(state)
    if "user_vector" in fast:
        return fast["user_vector"].numpy(), fast["user_bias"].numpy()[:, 0]
    head = fast["mean" if "mean" in fast else "weights"].numpy()
    return head[:, :-1], head[:, -1] + (fast["bias"].numpy()[:, 0] if "bias" in fast else 0)


@pytest.mark.parametrize("name", ["maml", "ordinal_ridge", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("ridge-click", "bayesian", "lwa"))])
def test_an_index_elsewhere_reproduces_scores(tmp_path, name):
    """From the file and a user state alone: embedding . vector + bias + user's bias, then the label's unit."""
    from export.retrieval import embeddings
    from export.signatures import adapt, adapt_and_score

    recommender = make(name)
    context = make_context(recommender)
    path = str(tmp_path / "vectors.parquet")
    embeddings.write(path, recommender, make_items())
    frame = pd.read_parquet(path)
    assert list(frame.columns) == ["item_id", "embedding", "bias"]
    assert frame["item_id"].tolist() == make_items()["item_id"].tolist()
    assert frame["embedding"].iloc[0].dtype == frame["bias"].dtype == np.float32
    inputs = make_inputs(recommender)
    state = eager(adapt, context)(inputs)["user_state"]
    vector, bias = user_vector(recommender, state)
    output = vector @ np.stack(frame["embedding"]).T + frame["bias"].to_numpy() + bias[:, None]
    ids = np.tile(frame["item_id"].to_numpy(object), (4, 1))
    scores = eager(adapt_and_score, context)({**inputs, "query_movie_id": ids})["scores"]
    expected = np.asarray(recommender.to_score(recommender.learner.from_output(output)))
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_integer_ids_and_cosine(tmp_path):
    from export.retrieval import embeddings

    recommender = make("maml-cosine", plain=True)
    embeddings.write(str(tmp_path / "v"), recommender, make_items(plain=True))
    frame = pd.read_parquet(tmp_path / "v")
    assert frame["item_id"].dtype == np.int64
    np.testing.assert_allclose(np.linalg.norm(np.stack(frame["embedding"]), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["maml-head", "bayesian-click", "tanp"])
def test_models_without_an_index_have_no_embeddings(tmp_path, name):
    from export.exporter import export_model

    with pytest.raises(ExportError, match="require a model whose scores are products"):
        export_model(make(name), items=make_items(), model_base=str(tmp_path / "m"),
                     item_embeddings=str(tmp_path / "v"))
    assert not list(tmp_path.iterdir())


def test_catalogues_in_files(tmp_path):
    from export.items.item_file import read_items

    spec = make("ridge").feature_spec
    items = make_items()
    path = str(tmp_path / "items.parquet")
    items.assign(title="x").rename(columns={"item_id": "movie_id"}).to_parquet(path)
    frame = read_items(path, feature_spec=spec)
    assert frame["item_id"].tolist() == items["item_id"].tolist()
    items.drop(columns="plot").to_parquet(path)
    with pytest.raises(ExportError, match="'plot' is missing"):
        read_items(path, feature_spec=spec)
    with pytest.raises(ExportError, match="is none"):
        read_items(str(tmp_path), feature_spec=spec)
    (tmp_path / "text").write_text("item_id,plot\n")
    with pytest.raises(ExportError, match="requires Parquet"):
        read_items(str(tmp_path / "text"), feature_spec=spec)


def test_a_new_catalogue_encodes_as_the_old_one_did(tmp_path):
    """Known items keep their representation, whatever their row; unknown ids are still content-free."""
    import tensorflow as tf

    from export.items.catalogue_items import CatalogueItems
    from export.items.item_file import read_items

    recommender = make("ridge")
    new = pd.concat([make_items(seed=1).assign(item_id=[f"new{i}" for i in range(12)]), make_items()])
    path = str(tmp_path / "items.parquet")
    new.to_parquet(path)
    frame = read_items(path, feature_spec=recommender.feature_spec)
    before, after = CatalogueItems(recommender, make_items()), CatalogueItems(recommender, frame)
    assert after.shape[0] == 24
    np.testing.assert_allclose(after.table[12:24], before.table[:12], rtol=1e-6, atol=1e-7)
    assert after.rows(tf.constant(["m0", "new3", "m99"])).numpy().tolist() == [12, 3, 24]
