"""The arguments of `tfmeta serve`."""

import argparse
import logging
import os
import signal
import threading
import time

import pytest

from tfmeta import cli
from tfmeta.errors import ServingError
from tfmeta.serving import command
from tfmeta.serving.server import EmbeddedServer


def parse(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def made(monkeypatch):
    """What `EmbeddedServer` is made with, and the server itself."""
    seen = {}
    original = EmbeddedServer.__init__

    def record(self, models, **options):
        seen.update(options, models=models)
        original(self, models, **options)

    monkeypatch.setattr(EmbeddedServer, "__init__", record)
    return seen


def test_every_option_arrives(made, tmp_path, repository):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    batching = repository / "serving_config" / "batching_parameters.txt"
    command.make_server(parse(
        "--model-base", "a=/a", "--model-config-file", "x.config", "--grpc-port", "1", "--rest-port", "2", "--host",
        "::", "--model-config-file-poll-seconds", "4", "--threads", "3",
        "--max-queued-requests", "5", "--max-message-mib", "7", "--poll-seconds", "0.5",
        "--batching-parameters-file", str(batching), "--per-model-batching", "--no-warm-up", "--tls-cert", "c",
        "--tls-key", "k", "--tls-client-ca", "ca", "--token-file", str(token),
        "--allow-version-labels-for-unavailable-models", "--enable-serialization-as-tensor-content",
        "--no-page"))
    assert [(m.name, m.base_path) for m in made["models"]] == [("a", "/a")]
    assert made["batching"].pad_variable_length_inputs and made["batching"].max_batch_size > 1
    assert (made["tls"].certificate, made["tls"].key, made["tls"].client_ca) == ("c", "k", "ca")
    assert made["token"].accepts("Bearer 0123456789abcdef")
    plain = {"model_config_file": "x.config", "model_config_poll_seconds": 4, "grpc_port": 1,
             "rest_port": 2, "host": "::", "threads": 3, "max_queued_requests": 5,
             "max_message_bytes": 7 << 20, "poll_seconds": 0.5, "per_model_batching": True, "warm_up": False,
             "allow_unavailable_labels": True, "tensor_content": True, "insecure": False, "page": False}
    assert {name: made[name] for name in plain} == plain


def test_defaults_are_safe(made):
    command.make_server(parse("--model-base", "a=/a"))
    assert made["host"] == "127.0.0.1" and made["rest_port"] is None and not made["insecure"]
    assert made["poll_seconds"] == 1.0 and made["warm_up"] and made["batching"] is None and made["token"] is None
    assert made["page"]


@pytest.mark.parametrize(("words", "message"), [
    ((), "at least one model, received none. Pass --model-base NAME=DIR or --model-config-file FILE"),
    (("--model-base", "a=/a", "--tls-cert", "c"), "--tls-cert and --tls-key together"),
    (("--model-base", "a=/a", "--tls-client-ca", "c"), "--tls-cert and --tls-key together"),
    (("--model-base", "a=/a", "--host", "0.0.0.0"), "can be reached from other machines"),
    (("--model-base", "a"), "NAME=DIR"), (("--model-base", "a=/a", "--threads", "0"), "threads of at least 1"),
    (("--model-base", "a=/a", "--max-message-mib", "0"), "max_message_bytes of at least 1"),
])
def test_arguments_that_do_not_fit(words, message):
    with pytest.raises(ServingError, match=message):
        command.make_server(parse(*words))


def test_help_says_what_it_is_for(capsys):
    assert cli.main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    assert "for: development, tests and small deployments" in text and "examples:" in text
    assert "In production, run stock" in text
    assert cli.main(["serve", "--model-base", "a=/nowhere"]) == 2
    assert "numeric version directories" in capsys.readouterr().err


def test_a_second_signal_does_not_wait(monkeypatch, capfd, tmp_path):
    class Exit(BaseException):
        pass

    def leave(code):
        raise Exit(code)

    def stop(self, *, grace):
        assert grace == 10.0
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    monkeypatch.setattr(command, "_spare_the_collector", lambda: None)
    monkeypatch.setattr(command, "_prefer_throughput", lambda: None)
    monkeypatch.setattr(EmbeddedServer, "start", lambda self: timer.start())
    monkeypatch.setattr(EmbeddedServer, "stop", stop)
    monkeypatch.setattr(os, "_exit", leave)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    level = logging.getLogger("tfmeta.serving").level
    (tmp_path / "1").mkdir()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(Exit) as caught:
            command.run(parse("--model-base", f"a={tmp_path}"))
    finally:
        timer.join()
        logging.getLogger("tfmeta.serving").setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.args == (1,)
    assert "Stopped without waiting" in capfd.readouterr().err
