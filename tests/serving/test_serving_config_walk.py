"""The canary and the way back of serving_config/README.md, step by step, on the embedded server with these files."""

import json
import time
import urllib.error
import urllib.request

import pytest

from tfmeta.serving import EmbeddedServer
from tfmeta.serving.batching.batching_parameters import BatchingParameters

POLL = 0.1


@pytest.fixture
def config(repository, tmp_path, write_version):
    """models.config on a base path with versions 1 and 2; `edit` does what an operator does."""
    folder = repository / "serving_config"
    base, file = tmp_path / "recommender", tmp_path / "models.config"
    for version in (1, 2):
        write_version(base, version)
    file.write_text((folder / "models.config").read_text("utf-8").replace("/models/recommender", str(base)), "utf-8")

    def edit(old, new):
        text = file.read_text("utf-8")
        assert old in text
        growing = file.with_suffix(".new")
        growing.write_text(text.replace(old, new), "utf-8")
        growing.replace(file)

    parameters = BatchingParameters.read(str(folder / "batching_parameters.txt"))
    with EmbeddedServer(model_config_file=str(file), model_config_poll_seconds=POLL, poll_seconds=POLL, grpc_port=0,
                        rest_port=0, batching=parameters, allow_unavailable_labels=True) as server:
        yield server, base, edit


def ask(server, label=None):
    """Returns the version that answers: the model scores 1000 * version + item."""
    where = f"/labels/{label}" if label else ""
    url = f"http://{server.rest_address}/v1/models/recommender{where}:predict"
    with urllib.request.urlopen(urllib.request.Request(url, b'{"inputs": {"item": [[1]]}}'), timeout=10) as reply:
        return int(json.load(reply)["outputs"][0][0]) // 1000


def states(server):
    with urllib.request.urlopen(f"http://{server.rest_address}/v1/models/recommender", timeout=10) as reply:
        return {int(s["version"]): s["state"] for s in json.load(reply)["model_version_status"]}


def until(check, wanted, seconds=30.0):
    limit = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except urllib.error.HTTPError as error:
            found = error.code
        if found == wanted:
            return
        assert time.monotonic() < limit, (found, wanted)
        time.sleep(POLL / 2)


def test_canary_and_back(config, write_version):
    server, base, edit = config
    assert (ask(server, "stable"), ask(server, "canary")) == (1, 2)
    assert ask(server) == 2, "a request without a label gets the highest version, which is the canary"
    # Load the next version: nobody gets it by a label.
    edit("versions: 1\n", "versions: 3\n")
    edit('"stable" value: 1', '"stable" value: 2')
    until(lambda: ask(server, "stable"), 2)
    write_version(base, 3)
    until(lambda: states(server).get(3), "AVAILABLE")
    until(lambda: states(server).get(1), "END")
    # Try it, promote it, and go back.
    edit('"canary" value: 2', '"canary" value: 3')
    until(lambda: ask(server, "canary"), 3)
    assert ask(server, "stable") == 2
    edit('"stable" value: 2', '"stable" value: 3')
    until(lambda: ask(server, "stable"), 3)
    edit('"stable" value: 3', '"stable" value: 2')
    until(lambda: ask(server, "stable"), 2)
    assert ask(server, "canary") == 3


def test_a_version_that_does_not_load_leaves_the_others(config, write_version):
    server, base, edit = config
    write_version(base, 3, damage="graph")
    edit("versions: 1\n", "versions: 1\n        versions: 3\n")
    until(lambda: states(server).get(3), "END")
    assert (ask(server, "stable"), ask(server, "canary")) == (1, 2)


def test_metrics_are_where_monitoring_config_says(config, repository):
    server, _, _ = config
    assert ask(server, "stable") == 1
    text = (repository / "serving_config" / "monitoring.config").read_text("utf-8")
    path = text.split('path: "')[1].split('"')[0]
    with urllib.request.urlopen(f"http://{server.rest_address}{path}", timeout=10) as reply:
        page = reply.read().decode()
    assert 'tfmeta_serving_requests_total{api="rest",code="OK",model="recommender"' in page
