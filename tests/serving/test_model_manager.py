"""Versions, states, leases and labels, with servables that only remember what happened to them."""

import gc
import logging
import os
import threading
import time

import pytest

from tfmeta.errors import ServingError
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.model_manager import STATE_NAMES, ModelManager
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.version_policy import VersionPolicy


class FakeServable:
    """What a version directory's file `content` says: `bad` does not load."""

    def __init__(self, name, version, path):
        with open(os.path.join(path, "content"), encoding="utf-8") as file:
            self.content = file.read()
        if self.content == "bad":
            raise ServingError(f"Model '{name}' is damaged.")
        if self.content == "odd":
            raise KeyError("a damaged file raises what it likes")
        self.name, self.version, self.path, self.closed = name, version, path, False

    def close(self):
        assert not self.closed
        self.closed = True


def put(base, version, content="good"):
    """Renames a version directory into place."""
    directory = base / f".{version}.tmp"
    directory.mkdir(parents=True)
    (directory / "content").write_text(content)
    target = base / str(version)
    if target.exists():
        (target / "content").write_text(content)
        (directory / "content").unlink()
        directory.rmdir()
    else:
        directory.rename(target)


@pytest.fixture
def make(tmp_path, monkeypatch):
    # What is collected here is all that the other tests of the process have left.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    managers = []

    def build(configs=None, **options):
        options = {"make_servable": FakeServable, "warm_up": lambda servable, path: None, **options}
        manager = ModelManager(configs or {"m": str(tmp_path / "m")}, **options)
        managers.append(manager)
        manager.load()
        return manager

    yield build
    for manager in managers:
        manager.close(grace=0.1)


def states(manager, name="m"):
    return [(version, STATE_NAMES[state]) for version, state, _ in manager.states(name)]


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def answer(manager, **spec):
    with manager.lease("m", **spec) as servable:
        assert not servable.closed
        return servable.version


@pytest.mark.parametrize(("policy", "chosen"), [
    (VersionPolicy(), {9}), (VersionPolicy(count=2), {5, 9}), (VersionPolicy(count=7), {1, 5, 9}),
    (VersionPolicy(kind="all"), {1, 5, 9}), (VersionPolicy(kind="specific", versions=(1, 4)), {1})])
def test_policies(policy, chosen):
    assert policy.choose([5, 9, 1]) == chosen
    assert policy.choose([]) == set()


@pytest.mark.parametrize(("values", "message"), [
    ({"kind": "newest"}, "'latest', 'all' or 'specific', received 'newest'"), ({"count": 0}, "at least 1 version"),
    ({"kind": "specific"}, "version numbers"), ({"kind": "specific", "versions": (-1,)}, "version numbers")])
def test_policies_refuse(values, message):
    with pytest.raises(ServingError, match=message):
        VersionPolicy(**values)


def test_a_new_version_replaces_the_old_after_its_last_lease(make, tmp_path):
    put(tmp_path / "m", 1)
    manager = make()
    first = manager.lease("m")
    old = first.servable
    put(tmp_path / "m", 2)
    manager.poll()
    assert answer(manager) == 2 and manager.loaded() == {"m": 2}
    assert states(manager) == [(2, "AVAILABLE"), (1, "UNLOADING")] and not old.closed
    with pytest.raises(RequestError, match=r"NOT_FOUND: Servable not found for request: Specific\(m, 1\)"):
        manager.lease("m", version=1)
    first.release()
    first.release()
    wait_for(lambda: old.closed)
    assert states(manager) == [(2, "AVAILABLE"), (1, "END")]
    manager.poll()
    assert states(manager) == [(2, "AVAILABLE"), (1, "END")]


def test_a_version_is_listed_while_it_loads(make, tmp_path):
    """The names and numbers of states are those of the API."""
    from tensorflow_serving.apis import get_model_status_pb2

    assert {name: number for number, name in STATE_NAMES.items()} == {
        name: number for name, number in get_model_status_pb2.ModelVersionStatus.State.items() if number}
    seen = []

    def load(name, version, path):
        if version == 2:
            seen.append(states(manager))
            seen.append(answer(manager))
        return FakeServable(name, version, path)

    put(tmp_path / "m", 1)
    manager = make(make_servable=load, warm_up=lambda servable, path: servable.version == 2 and seen.append(
        states(manager)))
    put(tmp_path / "m", 2)
    manager.poll()
    assert seen == [[(2, "LOADING"), (1, "AVAILABLE")], 1, [(2, "LOADING"), (1, "AVAILABLE")]]
    wait_for(lambda: states(manager) == [(2, "AVAILABLE"), (1, "END")])


def test_all_latest_two_and_specific(make, tmp_path):
    for version in (1, 2, 3):
        put(tmp_path / "m", version)
    base = str(tmp_path / "m")
    assert states(make([ModelConfig("m", base, VersionPolicy(kind="all"))])) == [
        (3, "AVAILABLE"), (2, "AVAILABLE"), (1, "AVAILABLE")]
    manager = make([ModelConfig("m", base, VersionPolicy(kind="specific", versions=(1, 2)))])
    assert states(manager) == [(2, "AVAILABLE"), (1, "AVAILABLE")]
    assert (answer(manager), answer(manager, version=1)) == (2, 1)
    manager = make([ModelConfig("m", base, VersionPolicy(count=2))])
    put(tmp_path / "m", 7)
    manager.poll()
    wait_for(lambda: states(manager) == [(7, "AVAILABLE"), (3, "AVAILABLE"), (2, "END")])


@pytest.mark.parametrize("content", ["bad", "odd"])
def test_a_damaged_version_disturbs_nothing_and_is_retried_when_it_changes(make, tmp_path, caplog, content):
    put(tmp_path / "m", 1)
    put(tmp_path / "other", 1)
    manager = make({"m": str(tmp_path / "m"), "other": str(tmp_path / "other")})
    put(tmp_path / "m", 2, content)
    put(tmp_path / "other", 2)
    with caplog.at_level(logging.ERROR, logger="tfmeta.serving"):
        for _ in range(4):
            manager.poll()
    assert manager.loaded() == {"m": 1, "other": 2} and answer(manager) == 1
    (_, state, error), (_, old, none) = manager.states("m")
    assert (STATE_NAMES[state], error[0]) == ("END", "UNKNOWN") and "damaged" in error[1]
    assert STATE_NAMES[old] == "AVAILABLE" and none is None
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1 and "Version 2 of 'm' does not load" in caplog.text
    # Written again, and then left alone for one look.
    put(tmp_path / "m", 2, "mended")
    manager.poll()
    assert answer(manager) == 1
    manager.poll()
    assert answer(manager) == 2


def test_a_directory_that_is_still_being_written_is_left_alone(make, tmp_path):
    put(tmp_path / "m", 1)
    loads = []

    def load(name, version, path):
        loads.append(version)
        return FakeServable(name, version, path)

    manager = make(make_servable=load)
    put(tmp_path / "m", 2, "bad")
    for growth in range(5):
        manager.poll()
        (tmp_path / "m" / "2" / "content").write_text("ba" + "d" * (growth + 2))
    assert loads == [1, 2]
    manager.poll()
    manager.poll()
    assert loads == [1, 2, 2] and answer(manager) == 2


def test_a_failed_warm_up_is_a_failed_load(make, tmp_path):
    put(tmp_path / "m", 1)
    made = []

    def warm_up(servable, path):
        made.append(servable)
        if servable.version == 2:
            raise RequestError("FAILED_PRECONDITION", 'Serving signature key "zzz" not found.')

    manager = make(warm_up=warm_up)
    put(tmp_path / "m", 2)
    manager.poll()
    assert manager.states("m")[0][1:] == (50, ("FAILED_PRECONDITION", 'Serving signature key "zzz" not found.'))
    assert answer(manager) == 1 and made[1].closed


def test_after_a_restart_the_newest_version_that_loads_serves(make, tmp_path, caplog):
    for version, content in ((1, "good"), (2, "good"), (3, "bad")):
        put(tmp_path / "m", version, content)
    with caplog.at_level(logging.WARNING, logger="tfmeta.serving"):
        manager = make()
    assert states(manager) == [(3, "END"), (2, "AVAILABLE")]
    assert "Version 2 of 'm' serves until a later one loads" in caplog.text
    put(tmp_path / "m", 4)
    manager.poll()
    wait_for(lambda: states(manager) == [(4, "AVAILABLE"), (3, "END"), (2, "END")])


def test_nothing_loads(make, tmp_path):
    put(tmp_path / "m", 1, "bad")
    with pytest.raises(ServingError, match=r"Model 'm' requires a version that loads.*version 1: .*damaged"):
        make()
    put(tmp_path / "n", 1)
    with pytest.raises(ServingError, match="No version is there that its policy asks for"):
        make([ModelConfig("n", str(tmp_path / "n"), VersionPolicy(kind="specific", versions=(4,)))])


@pytest.mark.parametrize(("configs", "message"), [
    ([], "at least one model"), ({"": "x"}, "requires a name"), ({"m": "nowhere"}, "numeric version directories"),
    ([ModelConfig("a", "{base}"), ModelConfig("a", "{base}")], "'a' twice")])
def test_wrong_models(configs, message, tmp_path):
    put(tmp_path / "m", 1)
    if isinstance(configs, list):
        configs = [ModelConfig(c.name, str(tmp_path / "m")) for c in configs]
    with pytest.raises(ServingError, match=message):
        ModelManager(configs)


def test_an_empty_or_missing_base_path_keeps_what_serves(make, tmp_path, caplog):
    put(tmp_path / "m", 1)
    manager = make()
    (tmp_path / "m").rename(tmp_path / "away")
    with caplog.at_level(logging.WARNING, logger="tfmeta.serving"):
        manager.poll()
        manager.poll()
        (tmp_path / "m").mkdir()
        manager.poll()
    assert answer(manager) == 1
    assert caplog.text.count("No versions of 'm' found") == 1
    (tmp_path / "m").rmdir()
    (tmp_path / "away").rename(tmp_path / "m")
    manager.poll()
    assert states(manager) == [(1, "AVAILABLE")]


def test_going_back_to_an_older_version(make, tmp_path):
    put(tmp_path / "m", 1)
    manager = make()
    put(tmp_path / "m", 2)
    manager.poll()
    wait_for(lambda: states(manager)[1] == (1, "END"))
    (tmp_path / "m" / "2").rename(tmp_path / "gone")
    manager.poll()
    assert answer(manager) == 1
    wait_for(lambda: states(manager) == [(2, "END"), (1, "AVAILABLE")])


def test_leases_of_many_threads_never_see_a_closed_servable(make, tmp_path):
    put(tmp_path / "m", 1)
    manager = make(poll_seconds=0.002)
    stop, problems, answered = threading.Event(), [], [0] * 8

    def ask(number):
        last = 0
        while not stop.is_set():
            try:
                with manager.lease("m") as servable:
                    if servable.closed or servable.version < last:
                        problems.append((servable.version, last))
                    last = servable.version
                    answered[number] += 1
                    if servable.closed:
                        problems.append(servable.version)
                time.sleep(0.0002)
            except RequestError as error:
                problems.append(str(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for version in range(2, 30):
        put(tmp_path / "m", version, "bad" if version % 5 == 0 else "good")
        time.sleep(0.01)
    wait_for(lambda: answer(manager) == 29)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == [] and min(answered) > 0
    wait_for(lambda: [s for _, s in states(manager)] == ["AVAILABLE", *["END"] * (len(states(manager)) - 1)])


def test_labels(make, tmp_path):
    for version in (1, 2, 3):
        put(tmp_path / "m", version)
    base = str(tmp_path / "m")
    both = VersionPolicy(kind="specific", versions=(1, 2))

    def config(policy=both, **labels):
        return [ModelConfig("m", base, policy, labels)]

    manager = make(config(stable=1, canary=2))
    assert (answer(manager, label="stable"), answer(manager, label="canary")) == (1, 2)
    assert manager.states("m", label="canary") == [(2, 30, None)]
    for name, label in (("m", "other"), ("nope", "stable")):
        with pytest.raises(RequestError, match=f"INVALID_ARGUMENT: Unrecognized servable version label: {label}"):
            manager.lease(name, label=label)
    with pytest.raises(RequestError) as caught:
        manager.reload(config(VersionPolicy(kind="all"), stable=1, canary=3))
    assert caught.value.code == "FAILED_PRECONDITION"
    assert caught.value.message == ("Request to assign label to version 3 of model m, which is not currently "
                                    "available for inference")
    # Refused as a whole: nothing has changed.
    assert states(manager) == [(2, "AVAILABLE"), (1, "AVAILABLE")] and answer(manager, label="canary") == 2
    manager.reload(config(VersionPolicy(kind="all"), stable=1, canary=2))
    manager.reload(config(VersionPolicy(kind="specific", versions=(2, 3)), stable=2, canary=3))
    assert (answer(manager, label="stable"), answer(manager, label="canary")) == (2, 3)
    # A version that its label outlives is not found, as any other.
    manager.reload(config(VersionPolicy(), stable=2))
    with pytest.raises(RequestError, match=r"Specific\(m, 2\)"):
        manager.lease("m", label="stable")
    with pytest.raises(ServingError, match=r"version 1 of model m, which is not .* allow labels"):
        make(config(VersionPolicy(), stable=1))


def test_labels_for_unavailable_versions(make, tmp_path):
    put(tmp_path / "m", 1)
    config = ModelConfig("m", str(tmp_path / "m"), VersionPolicy(kind="all"), {"stable": 1, "canary": 2})
    manager = make([config], allow_unavailable_labels=True)
    with pytest.raises(RequestError, match=r"NOT_FOUND.*Specific\(m, 2\)"):
        manager.lease("m", label="canary")
    put(tmp_path / "m", 2)
    manager.poll()
    assert answer(manager, label="canary") == 2
    # A label in use does not move to where nothing answers, even so.
    with pytest.raises(RequestError, match="FAILED_PRECONDITION: Request to assign label to version 3"):
        manager.reload([ModelConfig("m", config.base_path, config.policy, {"stable": 3})])


def test_reload_replaces_the_whole_list(make, tmp_path):
    for name in ("m", "b", "c"):
        put(tmp_path / name, 1)
    put(tmp_path / "broken", 4, "bad")
    configs = {name: ModelConfig(name, str(tmp_path / name)) for name in ("m", "b", "c", "broken", "empty")}
    manager = make([configs["m"], configs["b"]])
    manager.reload([configs["m"], configs["c"]])
    assert manager.loaded() == {"c": 1, "m": 1}
    wait_for(lambda: states(manager, "b") == [(1, "END")])
    with pytest.raises(RequestError, match=r"Latest\(b\)"):
        manager.lease("b")
    manager.poll()
    assert states(manager, "b") == [(1, "END")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError) as caught:
        manager.reload([configs["empty"]])
    assert (caught.value.code, caught.value.message) == (
        "NOT_FOUND", f"Unable to find a numerical version path for servable empty at: {tmp_path / 'empty'}")
    assert manager.loaded() == {"c": 1, "m": 1}
    with pytest.raises(RequestError) as caught:
        manager.reload([configs["m"], configs["broken"]])
    assert caught.value.code == "UNKNOWN" and caught.value.message == (
        "1 model(s) did not become available: {{{name: broken version: 4} due to error: UNKNOWN: "
        "Model 'broken' is damaged.}, }")
    assert manager.loaded() == {"m": 1}
    manager.reload([configs["b"]])
    assert manager.loaded() == {"b": 1}
    manager.reload([])
    assert manager.loaded() == {}


def test_another_base_path_with_the_same_version_number(make, tmp_path):
    put(tmp_path / "m", 1, "old")
    put(tmp_path / "new", 1, "new")
    manager = make()
    with manager.lease("m") as old:
        manager.reload([ModelConfig("m", str(tmp_path / "new"))])
        with manager.lease("m") as servable:
            assert servable.content == "new"
        assert not old.closed
    wait_for(lambda: old.closed)
    assert states(manager) == [(1, "AVAILABLE")]


def test_closing_waits_for_leases(make, tmp_path):
    others = set(threading.enumerate())  # Servers that tests share poll.
    put(tmp_path / "m", 1)
    manager = make(poll_seconds=0.01)
    lease = manager.lease("m")
    threading.Timer(0.1, lease.release).start()
    begun = time.monotonic()
    manager.close(grace=5)
    assert 0.08 < time.monotonic() - begun < 3 and lease.servable.closed
    assert states(manager) == [(1, "END")] and manager.loaded() == {}
    with pytest.raises(RequestError, match="UNAVAILABLE"):
        manager.reload([])
    started = set(threading.enumerate()) - others
    assert not [t for t in started if t.name.startswith("poll-versions") and t.is_alive()]


def test_a_load_that_ends_after_the_server_is_not_published(tmp_path):
    put(tmp_path / "m", 1)
    inside, go, made = threading.Event(), threading.Event(), []

    def load(name, version, path):
        if version == 2:
            inside.set()
            go.wait(10)
        made.append(FakeServable(name, version, path))
        return made[-1]

    manager = ModelManager({"m": str(tmp_path / "m")}, make_servable=load, warm_up=lambda *_: None, poll_seconds=0.01)
    manager.load()
    put(tmp_path / "m", 2)
    assert inside.wait(5)
    manager.close(grace=0.05)
    go.set()
    wait_for(lambda: len(made) == 2 and made[1].closed)
    assert made[0].closed and states(manager) == [(2, "END"), (1, "END")]
