"""Version swaps, reloads, labels, limits and shutdown of a running server, through its own API."""

import concurrent.futures
import threading
import time

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfmeta.errors import ServingError
from tfmeta.io import filesystem
from tfmeta.serving import EmbeddedServer, tensor_codec
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.version_policy import VersionPolicy


class Stub:
    """The generated stubs, and short ways to use them."""

    def __init__(self, channel):
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)

    def score(self, item=1, *, name="m", version=None, label=None, timeout=10.0):
        """Returns (version, score), having checked that the answer is that version's."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        tensor_codec.encode(np.array([[item]]), request.inputs["item"])
        reply = self.prediction.Predict(request, timeout=timeout)
        number, score = reply.model_spec.version.value, reply.outputs["scores"].float_val[0]
        assert score == 1000 * number + item
        return number, score

    def status(self, name="m", version=None):
        """Returns [(version, state, code, message)]."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        reply = self.model.GetModelStatus(request, timeout=10)
        return [(s.version, s.State.Name(s.state), s.status.error_code, s.status.error_message)
                for s in reply.model_version_status]

    def states(self, name="m"):
        return [entry[:2] for entry in self.status(name)]

    def reload(self, text):
        request = text_format.Parse(f"config {{ {text} }}", model_management_pb2.ReloadConfigRequest())
        return self.model.HandleReloadConfigRequest(request, timeout=60)


@pytest.fixture
def serve(tmp_path):
    """`serve(models, **options)` starts a server and returns it with a stub."""
    running = []

    def start(models=None, **options):
        server = EmbeddedServer(models or {"m": str(tmp_path / "m")}, grpc_port=0, **{"poll_seconds": 0.05, **options})
        server.start()
        channel = grpc.insecure_channel(server.grpc_address)
        running.append((server, channel))
        return server, Stub(channel)

    yield start
    for server, channel in running:
        channel.close()
        server.stop(grace=1)


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refused(call, *args, **keywords):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **keywords)
    return caught.value.code().name, caught.value.details()


def test_versions_renamed_into_place_under_traffic(serve, tmp_path, write_version):
    write_version(tmp_path / "m", 1)
    server, stub = serve()
    stop, failures, answers = threading.Event(), [], []

    def ask(number):
        last = 0
        while not stop.is_set():
            try:
                version, _ = stub.score(number)
                assert version >= last
                last = version
                answers.append(version)
            except Exception as error:
                failures.append(error)
            time.sleep(0.005)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        for version, damage in enumerate(("", "graph", "", "warm_up", "variables", "empty", ""), 2):
            write_version(tmp_path / "m", version, damage=damage)
            wanted = "END" if damage else "AVAILABLE"
            wait_for(lambda v=version, w=wanted: (v, w) in stub.states() or failures)
        time.sleep(0.1)
        stop.set()
        for future in asking:
            future.result()
    assert failures == [] and set(answers) >= {1, 2, 4, 8} and not set(answers) & {3, 5, 6, 7}
    assert server.versions == {"m": 8}
    wait_for(lambda: dict(stub.states())[4] == "END")
    status = {entry[0]: entry[1:] for entry in stub.status()}
    assert list(status) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert status[8] == ("AVAILABLE", 0, "") and status[1] == status[4] == ("END", 0, "")
    for version, code, words in ((3, 2, "requires a SavedModel"), (7, 2, "requires a SavedModel"),
                                 (5, 9, 'Serving signature key "zzz" not found.')):
        assert status[version][:2] == ("END", code) and words in status[version][2]
    assert status[6][0] == "END" and status[6][1] != 0 and status[6][2]
    assert stub.status(version=5) == [(5, *status[5])]


def config(name, base, text=""):
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {text} }}'


def test_reload_and_labels(serve, tmp_path, write_version):
    for name in ("m", "b"):
        for version in (1, 2):
            write_version(tmp_path / name, version)
    (tmp_path / "none").mkdir()
    write_version(tmp_path / "bad", 1, damage="graph")
    _, stub = serve([ModelConfig("m", str(tmp_path / "m"))])
    empty = ("FAILED_PRECONDITION", "Cannot transition to requested config. It is only legal to transition from one "
                                    "ModelConfigList to another.")
    assert refused(stub.reload, "") == empty
    assert refused(stub.reload, "model_config_list {" + config("m", "relative") + "}") == (
        "INVALID_ARGUMENT", "Expected model m to have an absolute path or URI; got base_path()=relative")
    assert refused(stub.score, label="stable") == (
        "INVALID_ARGUMENT", "Unrecognized servable version label: stable")
    both = "model_version_policy { specific { versions: 1 versions: 2 } } "
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    listed = config("m", tmp_path / "m", both + labels)
    # Version 1 is not loaded yet: first the version, then its label.
    assert refused(stub.reload, "model_config_list {" + listed + "}") == (
        "FAILED_PRECONDITION", "Request to assign label to version 1 of model m, which is not currently available for "
                               "inference")
    reply = stub.reload("model_config_list {" + config("m", tmp_path / "m", both) + "}")
    assert reply.HasField("status") and reply.status.error_code == 0
    wait_for(lambda: stub.states() == [(2, "AVAILABLE"), (1, "AVAILABLE")])
    stub.reload("model_config_list {" + listed + config("b", tmp_path / "b") + "}")
    assert (stub.score(label="stable")[0], stub.score(label="canary")[0], stub.score()[0]) == (1, 2, 2)
    assert stub.score(name="b")[0] == 2
    assert refused(stub.score, label="other") == ("INVALID_ARGUMENT", "Unrecognized servable version label: other")
    # The whole list is replaced; what is dropped ends.
    stub.reload("model_config_list {" + config("b", tmp_path / "b") + "}")
    assert refused(stub.score) == ("NOT_FOUND", "Servable not found for request: Latest(m)")
    wait_for(lambda: stub.states() == [(2, "END"), (1, "END")])
    assert stub.states("b") == [(2, "AVAILABLE")]
    assert refused(stub.reload, "model_config_list {" + config("none", tmp_path / "none") + "}") == (
        "NOT_FOUND", f"Unable to find a numerical version path for servable none at: {tmp_path / 'none'}")
    assert stub.states("b") == [(2, "AVAILABLE")]
    code, message = refused(stub.reload, "model_config_list {" + config("b", tmp_path / "b")
                            + config("bad", tmp_path / "bad") + "}")
    assert code == "UNKNOWN" and message.startswith(
        "1 model(s) did not become available: {{{name: bad version: 1} due to error: UNKNOWN: ")
    assert stub.score(name="b")[0] == 2 and stub.states("bad") == [(1, "END")]


class Slow:
    """Has the interface of a servable, and answers when told to."""

    def __init__(self, servable, started, go):
        self._servable, self._started, self._go = servable, started, go
        self.name, self.version, self.path = servable.name, servable.version, servable.path
        self.signature_defs, self.signature = servable.signature_defs, servable.signature
        self.ran = 0

    def run(self, *args, **keywords):
        self.ran += 1
        self._started.release()
        assert self._go.wait(20)
        return self._servable.run(*args, **keywords)

    def close(self):
        self._servable.close()


@pytest.fixture
def slow(monkeypatch):
    """Makes every servable wait; returns (semaphore of started runs, event that lets them go, servables)."""
    from tfmeta.serving.lifecycle.servable_factory import ServableFactory

    started, go, made = threading.Semaphore(0), threading.Event(), []
    load = ServableFactory.__call__

    def call(self, name, version, path):
        made.append(Slow(load(self, name, version, path), started, go))
        return made[-1]

    monkeypatch.setattr(ServableFactory, "__call__", call)
    yield started, go, made
    go.set()


# Without batching a thread answers each request, with it an event loop all of them.
BOTH_WAYS = pytest.mark.parametrize("batching", [None, BatchingParameters(max_batch_size=4)], ids=["plain", "batching"])


@BOTH_WAYS
def test_more_requests_than_may_wait_are_refused(serve, tmp_path, write_version, slow, batching):
    started, go, made = slow
    write_version(tmp_path / "m", 1)
    _, stub = serve(threads=2, max_queued_requests=3, warm_up=False, batching=batching)
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        calls = [pool.submit(stub.score, number) for number in range(2)]
        for _ in calls:
            assert started.acquire(timeout=10)
        # Two run, three wait; of seven more, four are one too many.
        more = [pool.submit(stub.score, number) for number in range(7)]
        wait_for(lambda: sum(f.done() for f in more) == 4)
        errors = [f.exception() for f in more if f.done()]
        assert {e.code().name for e in errors} == {"RESOURCE_EXHAUSTED"}
        go.set()
        assert [f.result()[0] for f in calls] == [1, 1]
        assert sum(f.exception() is None for f in more) == 3
    assert made[0].ran == 5 and stub.score()[0] == 1


@BOTH_WAYS
def test_a_request_whose_deadline_passes_while_it_waits_is_not_run(serve, tmp_path, write_version, slow, batching):
    started, go, made = slow
    write_version(tmp_path / "m", 1)
    _, stub = serve(threads=1, warm_up=False, batching=batching)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(stub.score, timeout=20)
        assert started.acquire(timeout=10)
        assert refused(stub.score, timeout=0.2)[0] == "DEADLINE_EXCEEDED"
        go.set()
        assert first.result()[0] == 1
    assert stub.score()[0] == 1 and made[0].ran == 2


@BOTH_WAYS
def test_requests_in_flight_finish_when_the_server_stops(serve, tmp_path, write_version, slow, batching):
    started, go, _ = slow
    write_version(tmp_path / "m", 1)
    server, stub = serve(threads=2, warm_up=False, batching=batching)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(stub.score, number) for number in range(4)]
        for _ in range(2):
            assert started.acquire(timeout=10)
        time.sleep(0.2)  # The other two have arrived, and wait.
        stopping = pool.submit(server.stop, grace=20)
        time.sleep(0.2)
        assert not stopping.done()
        with grpc.insecure_channel(server.grpc_address) as channel:
            assert refused(Stub(channel).score, timeout=2)[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        go.set()
        stopping.result(20)
        assert [f.result()[0] for f in calls] == [1] * 4


@BOTH_WAYS
def test_a_message_over_the_limit(serve, tmp_path, write_version, batching):
    write_version(tmp_path / "m", 1)
    _, stub = serve(max_message_bytes=2000, batching=batching)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensor_codec.encode(np.zeros((1, 1000), np.int64), request.inputs["item"])
    code, message = refused(stub.prediction.Predict, request, timeout=10)
    assert code == "RESOURCE_EXHAUSTED" and "larger than max" in message
    assert stub.score()[0] == 1


def test_polling_can_be_switched_off(serve, tmp_path, write_version):
    others = set(threading.enumerate())  # Servers that tests share poll.
    write_version(tmp_path / "m", 1)
    server, stub = serve(poll_seconds=0)
    write_version(tmp_path / "m", 2)
    time.sleep(0.2)
    assert server.versions == {"m": 1} and stub.score()[0] == 1
    assert not any(t.name == "poll-versions" for t in set(threading.enumerate()) - others)


def test_a_changed_configuration_file_is_applied(serve, tmp_path, write_version, caplog):
    for version in (1, 2):
        write_version(tmp_path / "m", version)
    write_version(tmp_path / "fixed", 1)
    file = tmp_path / "models.config"

    def write(text):
        filesystem.write_text(str(file), "model_config_list {" + text + "}")

    def only(version, label=None):
        labels = f'version_labels {{ key: "{label}" value: {version} }}' if label else ""
        return config("m", tmp_path / "m", f"model_version_policy {{ specific {{ versions: {version} }} }} {labels}")

    write(only(1, "stable"))
    _, stub = serve({"fixed": str(tmp_path / "fixed")}, model_config_file=str(file), model_config_poll_seconds=0.05)
    assert stub.score(label="stable")[0] == 1 and stub.score(name="fixed")[0] == 1
    file.write_text("model_config_list { config }")
    wait_for(lambda: "is not applied" in caplog.text)
    write(only(2, "stable"))  # Not loaded yet: refused as a whole.
    wait_for(lambda: "which is not currently available" in caplog.text)
    assert stub.score(label="stable")[0] == 1
    write(only(2))
    wait_for(lambda: dict(stub.states()) == {2: "AVAILABLE", 1: "END"})
    write(only(2, "stable"))
    wait_for(lambda: caplog.text.count("is not applied") == 2 and "AVAILABLE" in dict(stub.states()).values())
    wait_for(lambda: _label_version(stub) == 2)
    assert stub.score(name="fixed")[0] == 1


def _label_version(stub):
    try:
        return stub.score(label="stable")[0]
    except grpc.RpcError as error:
        return error.code().name


def test_versions_on_another_file_system(serve, tmp_path, write_version):
    """As on an object store: saved_model.pb comes last, and what came before it is a version that does not load."""
    base = f"ram://{tmp_path.name}/m"
    first, second = write_version(tmp_path / "m", 1), write_version(tmp_path / "m", 2)
    filesystem.copy_tree(str(first), f"{base}/1", last=("saved_model.pb",))
    _, stub = serve({"m": base})
    assert stub.score()[0] == 1
    graph = filesystem.read_bytes(str(second / "saved_model.pb"))
    (second / "saved_model.pb").unlink()
    filesystem.copy_tree(str(second), f"{base}/2")
    wait_for(lambda: dict(stub.states()).get(2) == "END")
    assert stub.score()[0] == 1
    filesystem.write_bytes(f"{base}/2/saved_model.pb", graph)
    wait_for(lambda: dict(stub.states()) == {2: "AVAILABLE", 1: "END"})
    assert stub.score()[0] == 2


def test_batching_parameters_of_a_version_go_first(tmp_path, write_version):
    from tfmeta.serving.lifecycle.servable_factory import ServableFactory

    path, general = str(write_version(tmp_path / "m", 1)), BatchingParameters(max_batch_size=8)
    own = tmp_path / "m" / "1" / "batching_params.pbtxt"
    own.write_text("max_batch_size { value: 3 }")
    sizes = []
    for batching, per_model in ((None, False), (general, False), (general, True), (None, True)):
        servable = ServableFactory(batching, per_model=per_model)("m", 1, path)
        sizes.append(servable.parameters.max_batch_size if hasattr(servable, "parameters") else None)
        servable.close()
    assert sizes == [None, 8, 3, 3]
    own.write_text("max_batch_size { value: 0 }")
    with pytest.raises(ServingError, match="at least 1, received 0"):
        ServableFactory(None, per_model=True)("m", 1, path)


def test_several_versions_and_no_warm_up(serve, tmp_path, write_version):
    write_version(tmp_path / "m", 1)
    write_version(tmp_path / "m", 2, damage="warm_up")
    write_version(tmp_path / "m", 3)
    policy = VersionPolicy(kind="all")
    _, stub = serve([ModelConfig("m", str(tmp_path / "m"), policy, {"old": 2})], warm_up=False)
    assert [stub.score(version=v)[0] for v in (1, 2, 3)] == [1, 2, 3]
    assert stub.score(label="old")[0] == 2 and stub.score()[0] == 3
    with pytest.raises(ServingError, match="label to version 2 of model m"):
        serve([ModelConfig("m", str(tmp_path / "m"), policy, {"old": 2})])


@pytest.mark.parametrize(("options", "message"), [
    ({"threads": 0}, "threads of at least 1"), ({"max_queued_requests": -1}, "max_queued_requests of at least 0"),
    ({"poll_seconds": -1}, "poll_seconds of at least 0"), ({"max_message_bytes": 0}, "max_message_bytes"),
    ({"poll_seconds": float("nan")}, "poll_seconds")])
def test_options_out_of_range(options, message):
    with pytest.raises(ServingError, match=message):
        EmbeddedServer({"m": "x"}, **options)
