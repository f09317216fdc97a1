"""`tfmeta serve`: the embedded model server."""

import argparse
import json
import signal
import sys
import threading

from tfmeta.errors import ServingError

HELP = "Serve SavedModels over TensorFlow Serving's gRPC and REST API (development, tests, small deployments)"

_EPILOG = """\
For development, tests and small deployments: no batching and no authentication. In production, run stock
TensorFlow Serving on the same directories; clients need no change.

examples:
  tfmeta serve --model-base movies=models/movies
  tfmeta serve --model-base movies=models/movies --model-base books=models/books --grpc-port 0
  tfmeta serve --model-base movies=models/movies --rest-port 8501
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--model-base", action="append", required=True, metavar="NAME=DIR",
                        help="a model and its base path; the latest version in it is served; repeat for more models")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port of the gRPC API; 0 picks a free one")
    parser.add_argument("--rest-port", type=int, metavar="PORT",
                        help="port of the REST API; 0 picks a free one (default: no REST API)")
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to bind (default: this machine only; there is no authentication)")
    parser.add_argument("--threads", type=int, default=4, help="requests that run at the same time (default 4)")
    parser.add_argument("--enable-serialization-as-tensor-content", action="store_true",
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


def run(args: argparse.Namespace) -> int:
    from tfmeta.serving.server import EmbeddedServer

    server = EmbeddedServer(parse_model_bases(args.model_base), grpc_port=args.grpc_port, rest_port=args.rest_port,
                            host=args.host, threads=args.threads,
                            tensor_content=args.enable_serialization_as_tensor_content)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    if getattr(args, "json", False):
        print(json.dumps({"grpc_address": server.grpc_address, "rest_address": server.rest_address or None,
                          "models": server.versions}), flush=True)
    else:
        for name, version in server.versions.items():
            print(f"Serving '{name}' version {version}", flush=True)
        print(f"gRPC on {server.grpc_address} (for development, tests and small deployments)", flush=True)
        if server.rest_address:
            print(f"REST on http://{server.rest_address}/v1/models/", flush=True)
    stop.wait()
    print("Stopping: finishing requests in flight.", file=sys.stderr, flush=True)
    server.stop()
    return 0
