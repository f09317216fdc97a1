"""Labels in models.config: canary, stable, the way back; and what a server makes of each edit."""

import json
import pathlib
import re

import hypothesis
import pytest
from hypothesis import strategies as st

from tfmeta import cli
from tfmeta.errors import ConfigError, ExportError, ServingError
from tfmeta.serving.model_config_file import read_model_config_file
from trainer.feedback import promotion
from trainer.feedback.promotion import promote, roll_back

HEAD = "# Who may edit this file: the release team.\n# Polled every 10 s.\n"
ENTRY = """model_config_list {{
  config {{
    name: "movies"
    base_path: "{base}"
    model_platform: "tensorflow"
    model_version_policy {{ {policy} }}
    {labels}
  }}
  config {{ name: "other" base_path: "{base}" model_platform: "tensorflow" }}
}}
"""


def write(folder, *, policy="specific { versions: 1 }", labels='version_labels { key: "stable" value: 1 }',
          versions=(1, 2, 3, 4)):
    base = folder / "movies"
    for version in versions:
        (base / str(version)).mkdir(parents=True, exist_ok=True)
    path = folder / "models.config"
    path.write_text(HEAD + ENTRY.format(base=base, policy=policy, labels=labels))
    return str(path)


def text(path):
    return pathlib.Path(path).read_text("utf-8")


def entry(path):
    return next(c for c in read_model_config_file(path) if c.name == "movies")


def give(path, version, label, **options):
    return promote(path, model="movies", version=version, label=label, check=False, **options)


def test_canary_then_stable_then_back(tmp_path):
    path = write(tmp_path)
    done = give(path, 2, "canary")
    assert (done.action, done.labels, done.versions) == ("labelled", {"stable": 1, "canary": 2}, (1, 2))
    done = give(path, 2, "stable")
    assert done.labels == {"stable": 2, "canary": 2, "previous": 1}
    assert entry(path).policy.versions == (1, 2), "the version before stays loaded"
    # A label that somebody has cannot move to a version that is not loaded: two edits.
    done = give(path, 3, "canary")
    assert (done.action, done.versions) == ("listed", (1, 2, 3))
    assert done.labels["canary"] == 2
    done = give(path, 3, "canary")
    assert (done.action, done.labels["canary"]) == ("labelled", 3)
    assert done.versions == (1, 2, 3), "no version of which a label is left goes"
    done = give(path, 3, "stable")
    assert done.labels == {"stable": 3, "canary": 3, "previous": 2}
    assert done.versions == (2, 3), "version 1 has lost its last label"
    done = roll_back(path, model="movies")
    assert (done.action, done.version, done.labels) == ("rolled_back", 2, {"stable": 2, "canary": 2})
    assert done.versions == (2,), "what was withdrawn is no longer loaded"
    assert text(path).startswith(HEAD)
    assert [c.name for c in read_model_config_file(path)] == ["movies", "other"]


def test_withdraw_a_canary(tmp_path):
    path = write(tmp_path)
    give(path, 2, "canary")
    done = roll_back(path, model="movies", label="canary")
    assert done.labels == {"stable": 1, "canary": 1}
    assert done.versions == (1,)


def test_again_changes_nothing(tmp_path):
    path = write(tmp_path)
    give(path, 2, "canary")
    before = text(path)
    assert give(path, 2, "canary").action == "unchanged"
    assert text(path) == before


def test_policy_latest_becomes_the_labelled_versions(tmp_path):
    path = write(tmp_path, policy="latest { num_versions: 2 }")
    assert give(path, 4, "canary").versions == (1, 4)


def test_policy_all_stays(tmp_path):
    path = write(tmp_path, policy="all { }", labels='version_labels { key: "canary" value: 1 }')
    done = give(path, 4, "canary")
    assert (done.action, done.versions) == ("labelled", None)
    assert entry(path).policy.kind == "all"


@pytest.mark.parametrize("call,words", [
    (lambda p: give(p, 9, "canary"), "has no version 9, only 1, 2, 3, 4"),
    (lambda p: give(p, 2, "stable"), "requires the label canary before"),
    (lambda p: promote(p, model="movie", version=2, label="canary", check=False), "Did you mean 'movies'"),
    (lambda p: roll_back(p, model="movies"), "requires a version to return to"),
    (lambda p: roll_back(p, model="movies", version=4), "requires a version that the server has loaded"),
])
def test_refusals(tmp_path, call, words):
    path = write(tmp_path)
    before = text(path)
    with pytest.raises(ServingError, match=words):
        call(path)
    assert text(path) == before


def test_unknown_label(tmp_path):
    with pytest.raises(ConfigError, match="canary, stable"):
        give(write(tmp_path), 2, "best")


def test_what_does_not_verify_gets_no_label(tmp_path, monkeypatch):
    from export.verify import Check

    path = write(tmp_path)
    before = text(path)
    monkeypatch.setattr(promotion, "verify", lambda directory: [Check("loads", False, "no graph", None)])
    with pytest.raises(ExportError, match="'loads': no graph"):
        promote(path, model="movies", version=2, label="canary")
    assert text(path) == before


def test_an_edit_in_between_is_not_lost(tmp_path):
    path = write(tmp_path)

    file = promotion._ConfigFile(path, "movies")
    pathlib.Path(path).write_text(text(path) + "# somebody else\n")
    file.relabel({"stable": 2})
    with pytest.raises(ServingError, match="changed by somebody else"):
        file.write()
    assert "somebody else" in text(path)


@hypothesis.given(st.lists(st.tuples(st.sampled_from(["canary", "stable", "back", "withdraw"]), st.integers(1, 4)),
                           max_size=8))
@hypothesis.settings(max_examples=60, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_the_order_labels_are_loaded_and_stable_is_there(tmp_path, actions):
    path = write(tmp_path)
    for action, version in actions:
        before = entry(path)
        try:
            if action in ("canary", "stable"):
                give(path, version, action)
            else:
                roll_back(path, model="movies", label="stable" if action == "back" else "canary")
        except ServingError:
            assert entry(path) == before
        after = entry(path)
        assert set(after.labels.values()) <= set(after.policy.versions)
        assert after.labels["stable"] in (1, 2, 3, 4)
        # Servers refuse an edit that moves a label to a version that was not listed before it.
        moved = {after.labels[name] for name in before.labels if after.labels.get(name, 0) != before.labels[name]
                 and name in after.labels}
        assert moved <= set(before.policy.versions)


class Servable:
    def __init__(self, name, version, path):
        self.version = version

    def close(self):
        pass


def test_a_server_follows_every_edit(tmp_path):
    from tfmeta.serving.lifecycle.config_follower import ConfigFollower
    from tfmeta.serving.model_manager import ModelManager

    path = write(tmp_path)
    manager = ModelManager(read_model_config_file(path), make_servable=Servable, warm_up=lambda servable, path: None,
                           allow_unavailable_labels=True, poll_seconds=0)
    try:
        manager.load()
        follower = ConfigFollower(manager, path, seconds=3600)

        def serving():
            follower.look()
            assert not follower._complaint
            answers = {}
            for label in entry(path).labels:
                with manager.lease("movies", label=label) as servable:
                    answers[label] = servable.version
            return answers

        assert serving() == {"stable": 1}
        for version in (2, 3):
            if give(path, version, "canary").action == "listed":
                serving()
                give(path, version, "canary")
            assert serving()["canary"] == version
            give(path, version, "stable")
            assert serving()["stable"] == version
        roll_back(path, model="movies")
        assert serving() == {"stable": 2, "canary": 2}
    finally:
        manager.close(grace=0.1)


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(promotion, "verify", lambda directory: [])
    path = write(tmp_path)
    options = ["promote", "--config", path, "--model", "movies"]
    assert cli.main([*options, "--version", "2", "--label", "canary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == {"stable": 1, "canary": 2}
    assert cli.main([*options, "--version", "2", "--label", "stable"]) == 0
    assert capsys.readouterr().out.startswith("Version 2 is stable of 'movies'")
    assert cli.main([*options, "--roll-back"]) == 0
    assert "back at version 1" in capsys.readouterr().out
    for wrong in (["--version", "9", "--label", "canary"], ["--version", "2"], ["--roll-back", "--server", "x:1"]):
        assert cli.main([*options, *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith("tfmeta: ")
        assert error.count("\n") == 1


def test_waiting_for_a_server_that_is_not_there():
    from trainer.feedback.promotion_wait import wait_until_available

    with pytest.raises(ServingError,
                       match=re.escape("version 2 of 'movies' AVAILABLE within 0.3 s; it said UNAVAILABLE")):
        wait_until_available("127.0.0.1:1", model="movies", version=2, seconds=0.3)


def test_waiting_for_a_server_that_loads_the_version(tmp_path, capsys, monkeypatch):
    """The command lists the version, waits until the server has it, and labels it."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    path = write(tmp_path, policy="specific { versions: 1 versions: 2 }",
                 labels='version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }')
    states = iter(["LOADING", "LOADING", "AVAILABLE"])

    class Service(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):
            assert request.model_spec.name == "movies"
            assert entry(path).policy.versions == (1, 2, 3), "listed before it is waited for"
            assert entry(path).labels["canary"] == 2
            reply = get_model_status_pb2.GetModelStatusResponse()
            reply.model_version_status.add(version=2, state="AVAILABLE")
            reply.model_version_status.add(version=3, state=next(states))
            return reply

    monkeypatch.setattr(promotion, "verify", lambda directory: [])
    server = grpc.server(ThreadPoolExecutor(1))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert cli.main(["promote", "--config", path, "--model", "movies", "--version", "3", "--label", "canary",
                         "--server", f"127.0.0.1:{port}", "--json"]) == 0
    finally:
        server.stop(None)
    assert json.loads(capsys.readouterr().out)["action"] == "labelled"
    assert entry(path).labels == {"stable": 1, "canary": 3}
    assert next(states, None) is None
