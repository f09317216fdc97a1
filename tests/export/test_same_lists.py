"""Which lists verification takes for the same."""

import importlib.util
import os

import numpy as np
import pytest

import export.verify


@pytest.fixture(scope="module")
def same_lists():
    path = os.path.join(os.path.dirname(export.verify.__file__), "verify_process.py")
    spec = importlib.util.spec_from_file_location("verify_process_lists", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *lists: module.same_lists(*lists, 1e-4)


@pytest.mark.parametrize(("received", "same"), [
    (["a", "b", "c", "d"], True), (["b", "a", "c", "d"], True), (["a", "c", "b", "d"], False),
    (["a", "b", "c", "e"], True), (["e", "b", "c", "d"], False), (["a", "a", "c", "d"], False)])
def test_only_items_that_score_alike_may_change_places(same_lists, received, same):
    expected = {"item_ids": np.array([list("abcd")], object), "scores": np.array([[3.0, 3.00001, 2.0, 1.0]])}
    assert same_lists(expected, {"item_ids": np.array([received], object)}) == same


def test_where_lists_run_out(same_lists):
    expected = {"item_ids": np.array([["a", "", ""]], object), "scores": np.array([[3.0, -np.inf, -np.inf]])}
    assert same_lists(expected, {"item_ids": np.array([["a", "", ""]], object)})
    assert not same_lists(expected, {"item_ids": np.array([["a", "b", ""]], object)})
    nothing = {"item_ids": np.array([["", ""]], object), "scores": np.full((1, 2), -np.inf)}
    assert not same_lists(nothing, {"item_ids": np.array([["a", ""]], object)})
