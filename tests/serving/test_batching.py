"""Request batching: queueing, merging, splitting and failing, on plain functions and on a served model."""

import concurrent.futures
import pathlib
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.errors import DataError, ServingError
from tfmeta.serving.batching.batch_threads import BatchThreads
from tfmeta.serving.batching.batched_servable import BatchedServable
from tfmeta.serving.batching.batcher import Batcher
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.batching.merge import merge, split
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.servable import Servable

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Gate:
    """A model that doubles its input and, while closed, holds the calls that reach it."""

    def __init__(self):
        self.open = threading.Event()
        self.calls: list[np.ndarray] = []
        self.entered = threading.Semaphore(0)

    def __call__(self, values):
        self.calls.append(values[0].copy())
        self.entered.release()
        assert self.open.wait(20)
        if np.isnan(values[0]).any():
            raise RequestError("INVALID_ARGUMENT", f"row {int(np.flatnonzero(np.isnan(values[0]).any(1))[0])} is NaN")
        return [values[0] * 2]


def batcher_of(run, *, threads=None, **parameters):
    parameters = BatchingParameters(**{"num_batch_threads": 1, **parameters})
    return Batcher(run, tensors=("x:0",), parameters=parameters,
                   threads=threads or BatchThreads(parameters.num_batch_threads))


def wait_until(condition):
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def submit(pool, batcher, array, **more):
    return pool.submit(batcher.run, [np.asarray(array, np.float32)], rows=len(array), **more)


def queued(batcher):
    return sum(len(b.tasks) for b in batcher._batches)


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(64) as made:
        yield made


def held(pool, gate, batcher):
    """Submits one request that runs and is held at the gate."""
    first = submit(pool, batcher, [[0.0]])
    assert gate.entered.acquire(timeout=20)
    return first


def test_requests_that_wait_are_merged_rounded_up_and_split(pool):
    gate = Gate()
    batcher = batcher_of(gate, max_batch_size=8, allowed_batch_sizes=(1, 4, 8))
    first = held(pool, gate, batcher)
    others = []
    for i, rows in enumerate((1, 3, 2)):
        others.append(submit(pool, batcher, [[i + 1.0]] * rows))
        wait_until(lambda n=i + 1: queued(batcher) == n)
    gate.open.set()
    np.testing.assert_array_equal(first.result(20)[0], [[0]])
    for i, rows in enumerate((1, 3, 2)):
        np.testing.assert_array_equal(others[i].result(20)[0], [[2 * (i + 1)]] * rows)
    # The last request's first row fills up.
    np.testing.assert_array_equal(gate.calls[1].ravel(), [1, 2, 2, 2, 3, 3, 3, 3])
    assert len(gate.calls) == 2


def test_a_batch_that_fails_fails_all_its_requests_with_one_message_and_no_other(pool):
    gate = Gate()
    batcher = batcher_of(gate, max_batch_size=3)
    first = held(pool, gate, batcher)
    merged = []
    for i, value in enumerate((1.0, np.nan, 2.0, 3.0)):
        merged.append(submit(pool, batcher, [[value]]))
        wait_until(lambda n=i + 1: queued(batcher) == n)
    gate.open.set()
    assert first.result(20)
    for future in merged[:3]:
        with pytest.raises(RequestError, match="INVALID_ARGUMENT: row 1 is NaN"):
            future.result(20)
    np.testing.assert_array_equal(merged[3].result(20)[0], [[6]])


def test_limits(pool):
    gate = Gate()
    batcher = batcher_of(gate, max_batch_size=2, max_enqueued_batches=2)
    with pytest.raises(RequestError, match="INVALID_ARGUMENT: Task size 3 is larger than maximum input batch size 2"):
        batcher.run([np.zeros((3, 1))], rows=3)
    futures = [held(pool, gate, batcher)]
    for n in range(1, 5):
        futures.append(submit(pool, batcher, [[1.0]]))
        wait_until(lambda n=n: queued(batcher) == n)
    with pytest.raises(RequestError, match="RESOURCE_EXHAUSTED: The batch scheduling queue to which this task was "
                                           "submitted is full"):
        batcher.run([np.zeros((1, 1))], rows=1)
    gate.open.set()
    assert all(f.result(20) for f in futures)
    assert [len(c) for c in gate.calls] == [1, 2, 2]


def test_work_whose_deadline_passed_is_not_run(pool):
    gate = Gate()
    batcher = batcher_of(gate)
    first = held(pool, gate, batcher)
    late = submit(pool, batcher, [[5.0]], deadline=time.monotonic() - 1)
    wait_until(lambda: queued(batcher) == 1)
    good = submit(pool, batcher, [[6.0]], deadline=time.monotonic() + 60)
    wait_until(lambda: queued(batcher) == 2)
    gate.open.set()
    assert first.result(20)
    with pytest.raises(RequestError, match="DEADLINE_EXCEEDED"):
        late.result(20)
    np.testing.assert_array_equal(good.result(20)[0], [[12]])
    assert not any((c == 5).any() for c in gate.calls)


def test_an_unforeseen_error_wakes_everyone_and_frees_the_slot(pool):
    gate = Gate()

    def run(values):
        if values[0].max() > 1:
            raise ZeroDivisionError("oh")
        return gate(values)

    batcher = batcher_of(run)
    first = held(pool, gate, batcher)
    bad = [submit(pool, batcher, [[9.0]]) for _ in range(3)]
    wait_until(lambda: queued(batcher) == 3)
    gate.open.set()
    assert first.result(20)
    for future in bad:
        with pytest.raises(RequestError, match="INTERNAL: ZeroDivisionError: oh"):
            future.result(20)
    assert submit(pool, batcher, [[1.0]]).result(20)


@pytest.mark.parametrize("pad", [True, False])
def test_requests_of_differing_width_fit_together_if_they_are_padded(pool, pad):
    gate = Gate()
    batcher = batcher_of(gate, pad_variable_length_inputs=pad)
    first = held(pool, gate, batcher)
    merged = []
    for n, values in enumerate(([[1.0, 2.0]], [[3.0]]), 1):
        merged.append(submit(pool, batcher, values))
        wait_until(lambda n=n: queued(batcher) == n)
    gate.open.set()
    assert first.result(20)
    if pad:
        assert [f.result(20)[0].tolist() for f in merged] == [[[2, 4]], [[6, 6]]]
    else:
        for future in merged:
            with pytest.raises(RequestError, match="FAILED_PRECONDITION: Tensors with name 'x:0' from different tasks"):
                future.result(20)
        assert len(gate.calls) == 1 and submit(pool, batcher, [[3.0]]).result(20)[0].tolist() == [[6]]


def test_a_lone_request_does_not_wait_for_the_timeout():
    begun = time.monotonic()
    batcher_of(lambda values: values, batch_timeout_micros=5_000_000).run([np.zeros((1, 1))], rows=1)
    assert time.monotonic() - begun < 2


def test_requests_beside_another_wait_for_the_timeout_or_a_full_batch(pool):
    for count, least, most in ((2, 0.2, 20), (4, 0, 0.25)):
        gate = Gate()
        batcher = batcher_of(gate, num_batch_threads=2, batch_timeout_micros=300_000, max_batch_size=4)
        first = held(pool, gate, batcher)
        # A second slot is free, but the batch stays open.
        begun = time.monotonic()
        others = [submit(pool, batcher, [[1.0]]) for _ in range(count)]
        assert gate.entered.acquire(timeout=20)
        assert least < time.monotonic() - begun < most
        assert len(gate.calls[-1]) == count
        gate.open.set()
        assert all(f.result(20) for f in (first, *others))


def test_queues_of_a_model_share_the_slots_in_turn(pool):
    gate = Gate()
    threads = BatchThreads(1)
    one, two = (batcher_of(gate, threads=threads, max_batch_size=1) for _ in range(2))
    futures = [held(pool, gate, one)]
    for n in range(1, 4):
        futures.append(submit(pool, one, [[1.0]]))
        wait_until(lambda n=n: queued(one) == n)
    futures.append(submit(pool, two, [[2.0]]))
    wait_until(lambda: queued(two) == 1)
    gate.open.set()
    assert all(f.result(20) for f in futures)
    assert [int(c[0, 0]) for c in gate.calls].index(2) <= 2


@pytest.mark.parametrize(("threads", "timeout", "size"), [(1, 0, 1000), (2, 0, 3), (3, 200, 4), (2, 2000, 64)])
def test_many_threads_get_their_own_answers(pool, threads, timeout, size):
    def run(values):
        assert len(values[0]) <= size
        return [values[0] * 2]

    batcher = batcher_of(run, num_batch_threads=threads, batch_timeout_micros=timeout, max_batch_size=size,
                         max_enqueued_batches=1000)

    def client(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            value = rng.normal(size=(int(rng.integers(1, min(4, size + 1))), 2))
            np.testing.assert_array_equal(batcher.run([value], rows=len(value))[0], value * 2)
        return True

    assert all(pool.map(client, range(24)))
    assert not batcher._batches and batcher._threads.idle


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5),
       st.integers(0, 3))
def test_merge_and_split_are_inverse(shapes, surplus):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in shapes]
    rows = sum(s[0] for s in shapes) + surplus
    merged, = merge([[a] for a in arrays], rows=rows, pad=True, tensors=("x:0",))
    assert len(merged) == rows
    parts = split([merged], [s[0] for s in shapes], rows=rows)
    for array, (part,) in zip(arrays, parts, strict=True):
        inside = (slice(None), slice(array.shape[1]), slice(array.shape[2]))
        np.testing.assert_array_equal(part[inside], array)
        padded = np.ones(part.shape, bool)
        padded[inside] = False
        assert (part[padded] == array.flat[0]).all()
    for row in merged[rows - surplus:]:
        np.testing.assert_array_equal(row, merged[rows - surplus - shapes[-1][0]])


def test_merge_without_padding_and_strings():
    one, two = np.array([[b"a", b"b"]], object), np.array([[b"c"]], object)
    with pytest.raises(RequestError, match="Tensors with name 'x:0' from different tasks have different shapes"):
        merge([[one], [two]], rows=2, pad=False, tensors=("x:0",))
    merged, = merge([[one], [two]], rows=3, pad=True, tensors=("x:0",))
    assert merged.tolist() == [[b"a", b"b"], [b"c", b"c"], [b"c", b"c"]]
    with pytest.raises(RequestError, match="0 dimensions"):
        split([np.float32(1)], [1], rows=1)
    with pytest.raises(RequestError, match="does not equal the sum"):
        split([np.zeros(3)], [1, 1], rows=2)


def test_parameters():
    found = BatchingParameters.read(str(ROOT / "serving_config" / "batching_parameters.txt"))
    assert found.pad_variable_length_inputs and found.allowed_batch_sizes[-1] == found.max_batch_size
    assert BatchingParameters.parse("") == BatchingParameters()
    parsed = BatchingParameters.parse("""max_batch_size { value: 8 }  # rows
        batch_timeout_micros { value: 5 } max_enqueued_batches { value: 7 } num_batch_threads { value: 3 }
        thread_pool_name { value: "p" } allowed_batch_sizes: [2, 8] pad_variable_length_inputs: true""")
    assert parsed == BatchingParameters(8, 5, 7, 3, (2, 8), True, "p")
    assert [parsed.round_up(n) for n in (1, 2, 3, 8)] == [2, 2, 8, 8]
    for text, message in [("max_batch_size: 3", "text format"), ("colour: 3", "colour"),
                          ("max_batch_size { value: 0 }", "'max_batch_size' requires at least 1, received 0"),
                          ("max_batch_size { value: 4 } allowed_batch_sizes: 2", r"must be max_batch_size \(4\)"),
                          ("max_batch_size { value: 4 } allowed_batch_sizes: [4, 2]", "ascending")]:
        with pytest.raises(ServingError, match=message):
            BatchingParameters.parse(text)
    with pytest.raises(DataError, match="does not exist"):
        BatchingParameters.read("nowhere.txt")


@pytest.fixture(scope="module")
def batched(small_model_base):
    made = BatchedServable(Servable("small", 3, f"{small_model_base}/3"), BatchingParameters(
        max_batch_size=16, num_batch_threads=1, allowed_batch_sizes=(1, 4, 16), pad_variable_length_inputs=True))
    yield made
    made.close()


def adapt_inputs(width, query, label):
    return {"support_item_id": np.full((1, width), b"1", object), "query_item_id": np.full((1, query), b"3", object),
            "support_label": np.full((1, width), label, np.float32), "support_length": np.array([width], np.int32)}


def test_a_served_model_answers_under_merging_as_alone(batched, pool):
    def client(i):
        for j in range(12):
            width, query, label = 1 + (i + j) % 5, 1 + (i * j) % 7, float(i)
            out = batched.run("adapt_and_score", adapt_inputs(width, query, label))
            # Surplus columns come from padding and are the client's to drop.
            np.testing.assert_array_equal(out["scores"][:, :query], [[103 + label] * query])
            assert out["status"].shape == (1,)
        return True

    assert all(pool.map(client, range(16)))


def test_one_queue_for_each_signature_and_set_of_outputs(batched):
    """All of a model share the slots; which order the outputs were asked for in makes no difference."""
    wanted = [("scores", "status"), ("status", "scores"), ("status",), ()]
    results = [batched.run("adapt_and_score", adapt_inputs(2, 3, 1.0), outputs) for outputs in wanted]
    assert [sorted(r) for r in results] == [["scores", "status"], ["scores", "status"], ["status"],
                                            ["base_scores", "scores", "status"]]
    batched.run("score", {"query_item_id": adapt_inputs(2, 3, 1.0)["query_item_id"]})
    queues = [batched._batchers[batched.servable.call("adapt_and_score", outputs)] for outputs in wanted]
    queues.append(batched._batchers[batched.servable.call("score")])
    assert queues[0] is queues[1] and len(set(queues)) == 4
    assert len({q._threads for q in queues}) == 1


@pytest.fixture(scope="module")
def on_examples(tmp_path_factory):
    """A servable whose signature parses tf.Example: it doubles the number `x`."""
    import tensorflow as tf

    def parse(examples):
        found = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})
        return {"scores": 2 * found["x"]}

    path = str(tmp_path_factory.mktemp("examples") / "1")
    function = tf.function(parse).get_concrete_function(tf.TensorSpec([None], tf.string, "examples"))
    tf.saved_model.save(tf.Module(), path, signatures={"serving_default": function})
    made = BatchedServable(Servable("examples", 1, path), BatchingParameters(max_batch_size=64, num_batch_threads=1))
    yield made
    made.close()


def test_bytes_that_are_no_example_run_alone(on_examples, pool):
    """A merged batch would fail all its requests."""
    import tensorflow as tf

    def ask(value):
        content = b"\xff\xff" if value is None else tf.train.Example(features=tf.train.Features(feature={
            "x": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))})).SerializeToString()
        return on_examples.run("", {"examples": np.array([content], object)})["scores"]

    call = on_examples.servable.call("")
    assert [call.rows([np.array(v, object)]) for v in ([b""], [b"", b""], [b"\xff"], [b"", b"\xff"])] == [1, 2, 0, 0]
    asked = [(i, pool.submit(ask, None if i % 3 == 0 else float(i))) for i in range(60)]
    for i, future in asked:
        if i % 3:
            assert future.result(20).tolist() == [2 * i]
        else:
            with pytest.raises(RequestError, match=r"INVALID_ARGUMENT: .*Could not parse example"):
                future.result(20)


def test_a_request_that_contradicts_the_signature_runs_alone(batched):
    call = batched.servable.call("adapt_and_score")
    good = adapt_inputs(2, 3, 1.0)
    assert call.rows(call.values(good)) == 1
    for change in ({"support_label": np.zeros((1, 3), np.float32)}, {"support_label": np.zeros((1, 2, 1), np.float32)},
                   {"support_length": np.array([1, 2], np.int32)}, {"support_length": np.array(1, np.int32)}):
        assert call.rows(call.values({**good, **change})) == 0
    with pytest.raises(RequestError, match="INVALID_ARGUMENT"):
        batched.run("adapt_and_score", {**good, "support_label": np.zeros((1, 2, 1), np.float32)})
    with pytest.raises(RequestError, match=r"Expects arg\[3\] to be int32 but int64 is provided"):
        batched.run("adapt_and_score", {**good, "support_length": np.array([1])})
