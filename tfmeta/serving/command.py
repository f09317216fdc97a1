"""`tfmeta serve`: the embedded model server."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading

from tfmeta.errors import ServingError

HELP = "Serve SavedModels over TensorFlow Serving's gRPC and REST API (development, tests, small deployments)"

_EPILOG = """\
What it is for: development, tests and small deployments. One Python process answers with TensorFlow Serving's own
API, codes and messages. In production, run stock TensorFlow Serving on the same directories and files; clients need
no change.

examples:
  tfmeta serve --model-base movies=models/movies
  tfmeta serve --model-base movies=models/movies --model-base books=models/books --rest-port 8501
  tfmeta serve --model-config-file serving_config/models.config \\
               --batching-parameters-file serving_config/batching_parameters.txt
  tfmeta serve --model-base movies=models/movies --host 0.0.0.0 \\
               --tls-cert server.pem --tls-key server.key --token-file token.txt

New versions are picked up while it runs. SIGTERM and Ctrl-C finish the requests in flight; a second one does not wait.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    models = parser.add_argument_group("models (at least one)")
    models.add_argument("--model-base", action="append", default=[], metavar="NAME=DIR",
                        help="a model and its base path; the latest version in it is served; repeat for more models")
    models.add_argument("--model-config-file", metavar="FILE",
                        help="ModelServerConfig in text format, as the stock server takes it: models, version policies "
                             "and labels")
    models.add_argument("--model-config-file-poll-seconds", type=float, default=0.0, metavar="S",
                        help="time between two looks at that file, whose changes are applied; 0 never looks again "
                             "(default 0)")
    models.add_argument("--poll-seconds", type=float, default=1.0, metavar="S",
                        help="time between two looks for new versions; 0 never looks again (default 1)")
    models.add_argument("--allow-version-labels-for-unavailable-models", action="store_true",
                        help="let a label name a version that is not loaded yet, as the stock server's flag does")
    models.add_argument("--no-warm-up", action="store_true",
                        help="do not replay assets.extra/tf_serving_warmup_requests before a version serves")
    network = parser.add_argument_group("network")
    network.add_argument("--grpc-port", type=int, default=8500, help="port of the gRPC API; 0 picks a free one "
                                                                     "(default 8500)")
    network.add_argument("--rest-port", type=int, metavar="PORT",
                         help="port of the REST API; 0 picks a free one (default: no REST API)")
    network.add_argument("--no-page", action="store_true",
                         help="leave out the page at / of the REST port, on which people can try a model")
    network.add_argument("--host", default="127.0.0.1",
                         help="address to bind (default 127.0.0.1: this machine only); others require TLS and a token")
    network.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM), for gRPC and REST")
    network.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")
    network.add_argument("--tls-client-ca", metavar="FILE",
                         help="authorities (PEM); clients must then show a certificate of one of them")
    network.add_argument("--token-file", metavar="FILE",
                         help="a file with the secret that clients must send as 'Authorization: Bearer TOKEN'")
    network.add_argument("--insecure", action="store_true",
                         help="bind an address that others reach without TLS or without a token")
    work = parser.add_argument_group("work and limits")
    work.add_argument("--threads", type=int, metavar="N",
                      help="requests that run at the same time (default 4; under batching two batches' worth, 64 at "
                           "most)")
    work.add_argument("--max-queued-requests", type=int, default=256, metavar="N",
                      help="requests that may wait; more are refused with RESOURCE_EXHAUSTED (default 256)")
    work.add_argument("--max-message-mib", type=int, default=64, metavar="MIB",
                      help="largest request or reply (default 64)")
    work.add_argument("--grace-seconds", type=float, default=10.0, metavar="S",
                      help="how long requests in flight may take when the server stops (default 10)")
    work.add_argument("--batching-parameters-file", metavar="FILE",
                      help="merge concurrent requests by BatchingParameters in text format (default: no batching)")
    work.add_argument("--per-model-batching", action="store_true",
                      help="let batching_params.pbtxt in a version directory go before that file")
    work.add_argument("--enable-serialization-as-tensor-content", action="store_true",
                      help="write outputs as tensor_content instead of typed values, as the stock server's flag does")


def parse_model_bases(values: list[str]) -> dict[str, str]:
    """Parses `NAME=DIR` pairs; ServingError names one that is malformed or repeated."""
    bases: dict[str, str] = {}
    for value in values:
        name, sign, path = value.partition("=")
        if not (name and sign and path):
            raise ServingError(f"--model-base requires NAME=DIR, received '{value}'.")
        if name in bases:
            raise ServingError(f"--model-base requires different names, received '{name}' twice.")
        bases[name] = path
    return bases


def make_server(args: argparse.Namespace):
    """Returns the server that the arguments describe, not started; ServingError on arguments that do not fit."""
    from tfmeta.serving.batching.batching_parameters import BatchingParameters
    from tfmeta.serving.lifecycle.bearer_token import BearerToken
    from tfmeta.serving.lifecycle.tls_files import TlsFiles
    from tfmeta.serving.model_config import ModelConfig
    from tfmeta.serving.server import EmbeddedServer

    models = [ModelConfig(name=name, base_path=base) for name, base in parse_model_bases(args.model_base).items()]
    if not models and not args.model_config_file:
        raise ServingError("A server requires at least one model, received none. Pass --model-base NAME=DIR or "
                           "--model-config-file FILE.")
    if bool(args.tls_cert) != bool(args.tls_key) or (args.tls_client_ca and not args.tls_cert):
        raise ServingError("TLS requires --tls-cert and --tls-key together (--tls-client-ca is optional).")
    tls = TlsFiles(args.tls_cert, args.tls_key, args.tls_client_ca or "") if args.tls_cert else None
    return EmbeddedServer(
        models, model_config_file=args.model_config_file,
        model_config_poll_seconds=args.model_config_file_poll_seconds,
        grpc_port=args.grpc_port, rest_port=args.rest_port, host=args.host, threads=args.threads,
        max_queued_requests=args.max_queued_requests, max_message_bytes=args.max_message_mib << 20,
        tensor_content=args.enable_serialization_as_tensor_content, poll_seconds=args.poll_seconds,
        batching=BatchingParameters.read(args.batching_parameters_file) if args.batching_parameters_file else None,
        per_model_batching=args.per_model_batching, warm_up=not args.no_warm_up,
        allow_unavailable_labels=args.allow_version_labels_for_unavailable_models, tls=tls,
        token=BearerToken.read(args.token_file) if args.token_file else None, insecure=args.insecure,
        page=not args.no_page)


def _spare_the_collector() -> None:
    """Keeps what the imports left out of garbage collection: looking through it holds all requests up for 0.2 s."""
    import gc

    import tensorflow_serving.apis.prediction_service_pb2_grpc  # noqa: F401 - with TensorFlow

    gc.collect()
    gc.freeze()


def _prefer_throughput() -> None:
    """Asks Linux that a thread which wakes up does not interrupt one that computes.

    A request passes through several threads of the gRPC library, and each would take the processor from the one that
    runs Python or the model. Threads that are there already keep their policy.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(OSError):  # A sandbox may forbid it.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _return_freed_memory() -> None:
    """Lets a version's tensors go back to the system when it is unloaded, with glibc.

    Its allocator raises two thresholds to the largest block freed so far. After the first swap it would put a new
    version's tensors into heaps of its own, one for each thread that loads, and keep up to twice such a tensor at the
    end of each (mallopt(3), M_MMAP_THRESHOLD). Who sets thresholds in the environment keeps those.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    # From malloc.h. What requests allocate is mostly smaller, and stays as fast.
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 4 << 20)
    mallopt(m_trim_threshold, 8 << 20)


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tfmeta.serving").setLevel(logging.INFO)
    server = make_server(args)
    if args.model_base:
        from tfmeta.serving.model_manager import check_models

        # A wrong path is told before the seconds that TensorFlow takes.
        check_models(parse_model_bases(args.model_base))
    stop = threading.Event()

    def on_signal(*_):
        if stop.is_set():
            print("Stopped without waiting for requests in flight.", file=sys.stderr, flush=True)
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    _prefer_throughput()
    _return_freed_memory()
    _spare_the_collector()
    server.start()
    if getattr(args, "json", False):
        print(json.dumps({"grpc_address": server.grpc_address, "rest_address": server.rest_address or None,
                          "models": server.versions}), flush=True)
    else:
        for name, version in server.versions.items():
            print(f"Serving '{name}' version {version}", flush=True)
        print(f"gRPC on {server.grpc_address} (for development, tests and small deployments)", flush=True)
        if server.rest_address:
            address = f"http{'s' if args.tls_cert else ''}://{server.rest_address}/"
            print(f"REST on {address}v1/models/", flush=True)
            if not args.no_page:
                print(f"Page on {address}", flush=True)
    # The kernel may give a signal to another thread, which does not wake this one, where its handler is to run.
    while not stop.wait(timeout=0.5):
        pass
    print("Stopping: finishing requests in flight.", file=sys.stderr, flush=True)
    server.stop(grace=args.grace_seconds)
    return 0
