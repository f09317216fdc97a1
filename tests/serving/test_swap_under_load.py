"""Versions come and go under 32 clients, half gRPC, half REST: no failed request, no wrong answer, flat memory."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest

from tfmeta.serving import wire
from tfmeta.serving.model_manager import STATE_NAMES

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = 32
DAMAGES = ("graph", "variables", "warm_up", "empty")


@contextlib.contextmanager
def process(command, repository, **options):
    environment = {**os.environ, "PYTHONPATH": str(repository), "TF_CPP_MIN_LOG_LEVEL": "2"}
    running = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=repository,
                               env=environment, **options)
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdin, running.stdout, running.stderr):
            if stream is not None:
                stream.close()


def usage(pid: int) -> dict[str, float]:
    """Resident MB, threads and open files of a process; empty where /proc does not tell."""
    with contextlib.suppress(OSError):
        lines = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        return {"mb": int(lines["VmRSS"].split()[0]) / 1024, "threads": int(lines["Threads"]),
                "files": len(os.listdir(f"/proc/{pid}/fd"))}
    return {}


def wait_for_state(client, version, wanted, seconds=60.0):
    """Waits until GetModelStatus reports a state for a version of model m."""
    deadline = time.monotonic() + seconds
    while client.states("m").get(version) != wanted:
        assert time.monotonic() < deadline, client.states("m")
        time.sleep(0.05)


def swap_under_load(folder, repository, write_version, *, seconds, every, pause, options=()):
    """Runs the server, the clients and the swaps; returns the clients' report and the server's usage after each swap.

    A good version comes every `every` seconds; half-way to every second one comes a damaged one.
    """
    base = folder / "m"
    write_version(base, 1)
    write_version(folder / "n", 7)
    good, bad, used = [1], [], []
    log = folder / "server.log"
    serve = ["-m", "tfmeta", "serve", "--json", "--grpc-port", "0", "--rest-port", "0", "--poll-seconds", "0.2",
             "--model-base", f"m={base}", "--model-base", f"n={folder / 'n'}", *options]
    with log.open("w") as errors, process(serve, repository, stderr=errors) as server:
        started = server.stdout.readline()
        assert started, log.read_text()
        about = json.loads(started)
        asking = [str(HERE / "swap_clients.py"), about["grpc_address"], about["rest_address"], str(CLIENTS), str(pause)]
        with (Status(about["grpc_address"]) as client,
              process(asking, repository, stdin=subprocess.PIPE) as clients):
            assert clients.stdout.readline() == "asking\n"
            begun, swaps = time.monotonic(), 0
            while time.monotonic() - begun < seconds:
                swaps += 1
                version = good[-1] + 2
                if swaps % 2 == 0:
                    time.sleep(max(0.0, begun + (swaps - 0.5) * every - time.monotonic()))
                    bad.append(version - 1)
                    write_version(base, bad[-1], damage=DAMAGES[len(bad) % len(DAMAGES)])
                    wait_for_state(client, bad[-1], "END")
                time.sleep(max(0.0, begun + swaps * every - time.monotonic()))
                write_version(base, version)
                wait_for_state(client, version, "AVAILABLE")
                wait_for_state(client, good[-1], "END")
                # What is no longer served may go.
                shutil.rmtree(base / str(good[-1]))
                good.append(version)
                used.append(usage(server.pid))
            clients.stdin.close()
            report = json.loads(clients.stdout.read())
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, log.read_text()
    text = log.read_text()
    assert "Traceback" not in text
    # Each damaged version is told once.
    for version in bad:
        assert text.count(f"Version {version} of 'm' does not load") == 1
    report |= {"swaps": len(good) - 1, "damaged": len(bad), "used": used}
    print(json.dumps({k: v for k, v in report.items() if k != "versions"}))
    assert report["clients"] == CLIENTS
    assert report["failures"] == [] and report["wrong"] == []
    versions = {int(name[1:]): count for name, count in report["versions"].items() if name.startswith("m")}
    assert set(versions) == set(good) and not set(versions) & set(bad)
    assert sum(count for name, count in report["versions"].items() if name.startswith("n")) == report["versions"]["n7"]
    return report


class Status:
    """The states of a model's versions, by GetModelStatus."""

    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        self._call = self._channel.unary_unary(
            wire.STATUS_METHOD, request_serializer=wire.GetModelStatusRequest.SerializeToString,
            response_deserializer=wire.GetModelStatusResponse.FromString)

    def states(self, model):
        request = wire.GetModelStatusRequest()
        request.model_spec.name = model
        return {s.version: STATE_NAMES[s.state] for s in self._call(request, timeout=30).model_version_status}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()


def check_usage(used, *, megabytes, threads=4):
    """Asserts that from the first third of the swaps to the last nothing grew but by what an allocator keeps."""
    if not all(used):
        pytest.skip("no /proc: memory cannot be read")
    third = max(1, len(used) // 3)
    for name, limit in (("mb", megabytes), ("threads", threads), ("files", 4)):
        early, late = (np.median([u[name] for u in part]) for part in (used[third:2 * third], used[-third:]))
        assert late - early <= limit, (name, [round(u[name]) for u in used])


BATCHING = pytest.mark.parametrize("batching", [False, True], ids=["alone", "batching"])


def batching_options(repository, batching):
    return ["--batching-parameters-file",
            str(repository / "serving_config" / "batching_parameters.txt")] if batching else []


@BATCHING
def test_thirty_seconds(tmp_path, repository, write_version, batching):
    report = swap_under_load(tmp_path, repository, write_version, seconds=30, every=2.0, pause=0.2,
                             options=batching_options(repository, batching))
    assert report["swaps"] >= 10 and report["requests"] > 1000
    check_usage(report["used"], megabytes=8)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@BATCHING
def test_ten_minutes(tmp_path, repository, write_version, batching):
    """`TFMETA_SWAP_SECONDS` shortens it."""
    seconds = float(os.environ.get("TFMETA_SWAP_SECONDS", "600"))
    report = swap_under_load(tmp_path, repository, write_version, seconds=seconds, every=20.0, pause=0.0,
                             options=batching_options(repository, batching))
    assert report["swaps"] >= seconds // 20
    check_usage(report["used"], megabytes=8, threads=8)
