"""`recommend` and `adapt_and_recommend` against a sort of the whole catalogue."""

import numpy as np
import pytest
from export_cases import NUM_ITEMS, make_items
from list_cases import LISTS, WITHOUT_INDEX, concrete, eager, make, make_context, make_inputs

from export.signatures import adapt_and_recommend, recommend

SLOW = ("maml-cosine", "ridge-click", "bayesian", "meta_emb", "joint", "maml-all", "ordinal-embedding")
CASES = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
                                         for name in LISTS])
ITEM = "movie_id"


def whole_catalogue(context, inputs):
    """Returns (unadapted, adapted) scores of every item of the catalogue `[B, I]`, by the recommender itself."""
    import tensorflow as tf

    from export.signatures import adapt_and_score

    ids = make_items(plain=context.items.ids.dtype == tf.int64)["item_id"].to_numpy()
    query = np.tile(ids.astype(object if ids.dtype != np.int64 else np.int64), (len(inputs["exclude_length"]), 1))
    scores = eager(adapt_and_score, context)({**inputs, f"query_{ITEM}": query})
    return scores["base_scores"], scores["scores"], ids


def expected_list(scores, ids, excluded, count):
    """The best ids of one user and their scores; equal scores in the catalogue's order."""
    order = sorted((i for i in range(len(ids)) if ids[i] not in excluded), key=lambda i: (-scores[i], i))[:count]
    return [ids[i] for i in order], scores[order]


def excluded_ids(inputs, i, *, support):
    gone = set(inputs["exclude_item"][i, :max(inputs["exclude_length"][i], 0)].tolist())
    seen = inputs[f"support_{ITEM}"][i, :max(inputs["support_length"][i], 0)] if support else np.array([])
    return gone | set(seen.tolist())


def decode(values):
    return [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]


@CASES
def test_lists_are_those_of_a_sort(float64, name):
    """In float64, so that nothing but equal scores is near; every other K is larger than the catalogue."""
    recommender = make(name)
    top_k = (3, NUM_ITEMS + 4)[list(LISTS).index(name) % 2]
    context = make_context(recommender, top_k=top_k, retrieval="exact")
    as_graph = name in ("ordinal_ridge", "tanp")
    inputs = make_inputs(recommender)
    base, adapted, ids = whole_catalogue(context, inputs)
    for module, scores, support in ((recommend, base, False), (adapt_and_recommend, adapted, True)):
        found = (concrete if as_graph else eager)(module, context)(inputs)
        assert found["item_ids"].shape == found["scores"].shape == (4, top_k)
        assert not found["status"].any()
        for i in range(4):
            expected, values = expected_list(scores[i], ids, excluded_ids(inputs, i, support=support), top_k)
            count = found["item_count"][i]
            assert count == len(expected) and decode(found["item_ids"][i])[:count] == expected
            np.testing.assert_allclose(found["scores"][i, :count], values, rtol=1e-6)
            assert (np.diff(found["scores"][i, :count]) <= 0).all()
            assert set(decode(found["item_ids"][i])[count:]) <= {""}
            assert (found["scores"][i, count:] == -np.inf).all()
    assert np.abs(adapted - base).max() > 1e-4 or name == "joint"


@pytest.mark.parametrize("name", ["ridge", "bayesian-click", "maml-all"])
def test_chunks_change_nothing(name):
    import tensorflow as tf

    from export.retrieval.retriever import Retriever

    recommender = make(name)
    context = make_context(recommender)
    user = recommender.encode_user(
        context.users({k.removeprefix("user_").replace("_code", "-code"): tf.constant(v) for k, v in
                       make_inputs(recommender).items() if k.startswith("user_")}), tasks=tf.constant(4))
    excluded = tf.constant([[0, 1], [5, NUM_ITEMS], [NUM_ITEMS, NUM_ITEMS], [11, 11]])
    lists = [Retriever(recommender, context.items, top_k=5, chunk=chunk).recommend(user, excluded=excluded)
             for chunk in (5, NUM_ITEMS)]
    for key in ("item_ids", "item_count"):
        np.testing.assert_array_equal(lists[0][key], lists[1][key])
    np.testing.assert_allclose(lists[0]["scores"], lists[1]["scores"], rtol=1e-6)


def test_which_models_have_lists():
    from export.retrieval.retriever import is_available

    for name in LISTS:
        recommender = make(name)
        assert is_available(recommender, retrieval="exact") and not is_available(recommender, retrieval="none")
        assert is_available(recommender, retrieval="auto") == (name not in WITHOUT_INDEX or name == "bayesian-click")


@pytest.mark.parametrize("name", ["ordinal_ridge", "maml-head"])
def test_empty_support_is_the_unadapted_list_bit_for_bit(name):
    recommender = make(name)
    context = make_context(recommender, top_k=6, retrieval="exact")
    inputs = make_inputs(recommender)
    empty = {**inputs, "support_length": np.zeros(4, np.int32)}
    plain = eager(recommend, context)(inputs)
    adapted = eager(adapt_and_recommend, context)(empty)
    for key, value in plain.items():
        np.testing.assert_array_equal(adapted[key], value)


def test_odd_lists(float64):
    """Lengths out of range, unknown and repeated ids, integer ids, and everything excluded."""
    recommender = make("ridge", plain=True)
    context = make_context(recommender, plain=True, top_k=4)
    run = eager(adapt_and_recommend, context)
    inputs = make_inputs(recommender, plain=True, length=3)
    _, adapted, ids = whole_catalogue(context, inputs)
    inputs["exclude_item"] = np.array([[2**62, -1, 5], [7, 7, 7], [1, 2, 3], [1, 2, 3]])
    inputs["exclude_length"] = np.array([3, 2, 9, -4], np.int32)
    found = run(inputs)
    assert found["status"].tolist() == [0, 0, 8, 8]
    inputs["exclude_length"] = np.array([3, 2, 3, 0], np.int32)
    for i in range(4):
        expected, _ = expected_list(adapted[i], ids, excluded_ids(inputs, i, support=True), 4)
        assert found["item_ids"][i].tolist() == expected
    everything = {**inputs, "exclude_item": np.tile(np.arange(NUM_ITEMS), (4, 1)),
                  "exclude_length": np.array([NUM_ITEMS, NUM_ITEMS - 1, NUM_ITEMS, 0], np.int32)}
    found = eager(recommend, context)(everything)
    assert found["item_count"].tolist() == [0, 1, 0, 4]
    assert found["item_ids"][0].tolist() == [-1] * 4 and found["item_ids"][1].tolist() == [NUM_ITEMS - 1, -1, -1, -1]
    assert (found["scores"][0] == -np.inf).all() and np.isfinite(found["scores"][3]).all()


def test_seen_items_are_left_out_whatever_became_of_their_rows():
    """A dropped label, or a place before the bound, does not make an item new."""
    recommender = make("ridge")
    context = make_context(recommender, top_k=NUM_ITEMS)
    inputs = make_inputs(recommender, width=NUM_ITEMS - 1, length=NUM_ITEMS - 1)
    ids = make_items()["item_id"].to_numpy(object)
    inputs[f"support_{ITEM}"] = np.tile(ids[:-1], (4, 1))
    inputs["support_label"][0, 2] = np.nan
    inputs["exclude_length"] = np.zeros(4, np.int32)
    found = eager(adapt_and_recommend, context)(inputs)
    assert found["item_count"].tolist() == [1] * 4 and set(decode(found["item_ids"][:, 0])) == {ids[-1]}
    assert found["status"].tolist() == [1, 0, 0, 0]


def test_equal_items_rank_in_the_catalogues_order():
    """Four items outside the vocabulary with the same content."""
    from export.items.catalogue_items import CatalogueItems
    from export.signatures.context import SignatureContext

    recommender = make("ordinal_ridge")
    items = make_items()
    twins = items.iloc[[0] * 4].assign(item_id=["z", "b", "y", "a"])
    context = make_context(recommender)
    context = SignatureContext(recommender=recommender, users=context.users, items=CatalogueItems(recommender, twins),
                               support_bound=8, top_k=3)
    inputs = {**make_inputs(recommender), "exclude_item": np.full((4, 1), "z", object),
              "exclude_length": np.array([0, 1, 0, 1], np.int32)}
    found = eager(recommend, context)(inputs)
    assert [decode(row) for row in found["item_ids"]] == [["z", "b", "y"], ["b", "y", "a"]] * 2


@pytest.mark.parametrize("name", ["maml", "maml-all"])
def test_adaptation_beyond_the_floats_gives_the_unadapted_list(name):
    """Rates that no float survives, for the two users that have a support."""
    recommender = make(name)
    for variable in recommender.variables:
        if "log_inner_rate" in variable.path:
            variable.assign(np.full(variable.shape, 80.0, np.float32))
    context = make_context(recommender, top_k=6, retrieval="exact")
    inputs = make_inputs(recommender)
    inputs["support_length"][:2] = 0
    adapted = eager(adapt_and_recommend, context)(inputs)
    base, _, ids = whole_catalogue(context, inputs)
    for i in range(4):
        _, values = expected_list(base[i], ids, excluded_ids(inputs, i, support=i > 1), 6)
        np.testing.assert_allclose(adapted["scores"][i, :adapted["item_count"][i]], values, rtol=1e-5)
    assert not adapted["status"].any() and not np.isnan(adapted["scores"]).any()


def test_diverse_lists(float64):
    """The greedy choice among the 4 K best, by the served function; a weight of next to nothing changes no order."""
    from test_scan import mmr

    recommender = make("ridge")
    inputs = make_inputs(recommender)
    plain = eager(adapt_and_recommend, make_context(recommender, top_k=2))(inputs)
    faint = eager(adapt_and_recommend, make_context(recommender, top_k=2, diversity=1e-9))(inputs)
    np.testing.assert_array_equal(plain["item_ids"], faint["item_ids"])
    context = make_context(recommender, top_k=2, diversity=0.6)
    found = concrete(adapt_and_recommend, context)(inputs)
    _, adapted, ids = whole_catalogue(context, inputs)
    vectors = dict(zip(ids, context.items.table.numpy()[:-1, :-1], strict=True))
    score = [dict(zip(ids, row, strict=True)) for row in adapted]
    changed = 0
    for i in range(4):
        pool, values = expected_list(adapted[i], ids, excluded_ids(inputs, i, support=True), 8)
        expected = [pool[j] for j in mmr(values.astype(float), np.array([vectors[p] for p in pool]), 2, 0.6)]
        assert decode(found["item_ids"][i]) == expected
        np.testing.assert_allclose(found["scores"][i], [score[i][e] for e in expected], rtol=1e-6)
        changed += expected != decode(plain["item_ids"][i])
    assert changed
