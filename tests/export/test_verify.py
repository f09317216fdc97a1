"""Verification must fail where it should."""

import argparse
import importlib.util
import json
import os
import shutil

import numpy as np
import pytest
from export_cases import FAST

import export.verify
from tfmeta.errors import ExportError


@pytest.fixture(scope="module")
def process():
    """The script of the second process, as a module."""
    path = os.path.join(os.path.dirname(export.verify.__file__), "verify_process.py")
    spec = importlib.util.spec_from_file_location("verify_process_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(path, function):
    """Saves `function(x)` as all three signatures; x is float32 [B, N]."""
    import tensorflow as tf

    module = tf.Module()
    module.counter = tf.Variable(0.0)
    module.run = tf.function(lambda x: function(module, x),
                             input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    concrete = module.run.get_concrete_function()
    tf.saved_model.save(module, str(path), signatures={
        "score": concrete, "adapt_and_score": concrete, "serving_default": concrete})
    return str(path)


def _outputs(tf, scores):
    return {"scores": scores, "status": tf.zeros(tf.shape(scores)[:1], tf.int32)}


def _plain(tf, module, x):
    return _outputs(tf, x * 2.0)


def _assertion(tf, module, x):
    with tf.control_dependencies([tf.debugging.assert_all_finite(x, "finite")]):
        return _outputs(tf, tf.identity(x))


def _condition(tf, module, x):
    def inner():
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x < 9), [x])]):
            return x * 1.0
    return _outputs(tf, tf.cond(tf.reduce_any(x > 3), inner, lambda: x))


def _random(tf, module, x):
    return _outputs(tf, x + tf.random.normal(tf.shape(x), seed=1))


def _stateless_random(tf, module, x):
    return _outputs(tf, x + tf.random.stateless_normal(tf.shape(x), [1, 2]))


def _assign(tf, module, x):
    with tf.control_dependencies([module.counter.assign_add(1.0)]):
        return _outputs(tf, x + module.counter)


def _gradient(tf, module, x):
    return _outputs(tf, tf.custom_gradient(lambda v: (v * 2.0, lambda upstream: upstream))(x))


def _python(tf, module, x):
    scores = tf.numpy_function(lambda v: v, [x], tf.float32)
    return _outputs(tf, tf.reshape(scores, tf.shape(x)))


@pytest.mark.parametrize(("function", "message"), [
    (_plain, None), (_assertion, "CheckNumerics"), (_condition, "Assert"), (_random, "Random"),
    (_stateless_random, "Random"), (_assign, "AssignAddVariableOp"), (_python, "PyFunc"),
    (_gradient, "gradient that is not saved")])
def test_operations(process, tmp_path, function, message):
    import tensorflow as tf

    graph = process.read_meta_graph(save(tmp_path / "m", lambda m, x: function(tf, m, x)))
    if message is None:
        process.check_operations(graph)
    else:
        with pytest.raises(process.Failure, match=message):
            process.check_operations(graph)


@pytest.mark.parametrize(("function", "message"), [
    (_plain, None),
    (lambda tf, m, x: {"scores": x, "status": tf.reduce_max(x)}, "'status' .* received a scalar"),
    (lambda tf, m, x: {"scores": x, "status": tf.zeros([3])}, "'status' .* free batch axis"),
    (lambda tf, m, x: {"scores": x}, "lacks the output 'status'")])
def test_shapes(process, tmp_path, function, message):
    import tensorflow as tf

    graph = process.read_meta_graph(save(tmp_path / "m", lambda m, x: function(tf, m, x)))
    if message is None:
        process.check_shapes(graph)
    else:
        with pytest.raises(process.Failure, match=message):
            process.check_shapes(graph)


class Fake:
    """A model that answers from a table of functions."""

    def __init__(self, **functions):
        self._functions = functions

    def __call__(self, signature, inputs):
        return self._functions[signature](inputs)


def golden_of(**outputs):
    inputs = {"x": np.ones((2, 3), np.float32), "support_length": np.array([1, 2], np.int32)}
    return {"tolerance": 1e-4, "default": "score",
            "cases": [{"name": "a case", "signature": "adapt_and_score", "in": inputs, "out": outputs}]}


@pytest.mark.parametrize(("value", "message"), [
    (np.full((2, 3), 1.00001, np.float32), None), (np.full((2, 3), 1.01, np.float32), "differs by up to 0.01"),
    (np.full((2, 3), np.nan, np.float32), "not finite"),
    (np.full((2, 3), -np.inf, np.float32), "not finite"), (np.ones((2, 2), np.float32), r"float32\[2, 2\] instead of"),
    (np.ones((2, 3), np.float64), "float64")])
def test_replay(process, value, message):
    golden = golden_of(scores=np.ones((2, 3), np.float32))
    model = Fake(adapt_and_score=lambda _: {"scores": value})
    if message is None:
        assert process.replay(model, golden) == pytest.approx(1e-5, rel=0.1)
    else:
        with pytest.raises(process.Failure, match=message):
            process.replay(model, golden)


def test_an_infinity_may_be_the_answer(process):
    expected = np.array([[1, -np.inf]], np.float32)
    golden = golden_of(scores=expected)
    assert process.replay(Fake(adapt_and_score=lambda _: {"scores": expected}), golden) == 0
    for wrong in (np.inf, np.nan, 1.0):
        other = np.array([[1, wrong]], np.float32)
        with pytest.raises(process.Failure, match="not finite"):
            process.replay(Fake(adapt_and_score=lambda _, o=other: {"scores": o}), golden)


def test_strings_of_any_bytes_come_back(process, tmp_path):
    from export import golden

    texts = np.array([[b"", b"\x00"], ["\u00e9", b"\xff\x00"]], object)
    numbers = np.arange(3, dtype=np.int32)
    case = golden.GoldenCase("a case", "score", {"x": texts, "n": numbers}, {"scores": np.ones(2, np.float32)})
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / golden.FILE).write_bytes(
        golden.to_bytes([case, case], tolerance=1e-4, default_signature="score"))
    index = process.read_golden(str(tmp_path))
    assert [c["name"] for c in index["cases"]] == ["a case"] * 2
    for read in index["cases"]:
        assert read["in"]["x"].tolist() == [[b"", b"\x00"], ["\u00e9".encode(), b"\xff\x00"]]
        np.testing.assert_array_equal(read["in"]["n"], numbers)


def test_status_must_be_equal(process):
    golden = golden_of(status=np.array([0, 1], np.int32))
    with pytest.raises(process.Failure, match=r"'status' is \[0, 0\] instead of \[0, 1\]"):
        process.replay(Fake(adapt_and_score=lambda _: {"status": np.array([0, 0], np.int32)}), golden)


def test_empty_support_must_match_to_the_last_bit(process):
    ones = np.ones((2, 3), np.float32)
    near = np.nextafter(ones, np.float32(2))
    golden = golden_of(scores=ones)
    good = {"scores": ones, "base_scores": ones}
    process.check_empty(Fake(adapt_and_score=lambda _: good, score=lambda _: {"scores": ones}), golden)
    with pytest.raises(process.Failure, match="bit for bit"):
        process.check_empty(Fake(adapt_and_score=lambda _: {**good, "scores": near},
                                 score=lambda _: {"scores": ones}), golden)


def test_blocked_packages_cannot_be_imported(process):
    finder = process._Blocker(["tfmeta"])
    with pytest.raises(ModuleNotFoundError, match="must load without it"):
        finder.find_spec("tfmeta.serving")
    assert finder.find_spec("tfmeta_other") is None


def test_command_reports_a_damaged_model(exports, tmp_path, capsys):
    """Other weights under the same graph: the answers on record no longer hold."""
    from export.commands import verify as command

    first, second = (exports[c] for c in (FAST[0], FAST[3]))
    damaged = tmp_path / "1"
    shutil.copytree(first.path, damaged)
    shutil.copy(os.path.join(second.path, "assets.extra", "golden.npz"), damaged / "assets.extra" / "golden.npz")
    assert command.run(argparse.Namespace(model=str(damaged), json=True)) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert not result["passed"]
    failed = [c["name"] for c in result["checks"] if not c["passed"]]
    assert "TensorFlow 1 session: golden requests" in failed
    assert captured.err.count("\n") == 1 and "golden requests" in captured.err


def test_missing_directory():
    with pytest.raises(ExportError, match="does not exist"):
        export.verify.verify("no/such/model")


def test_table(reports):
    text = export.verify.format_table(reports[FAST[1]])
    assert text.count(" ok") == 13 and "FAILED" not in text
