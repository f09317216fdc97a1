"""`tfmeta request`: asks a model server from the shell."""

import argparse
import os

from tfmeta.errors import ConfigError

HELP = "Ask a served model: scores, adaptation, recommendations, explanations (gRPC or REST)"

_EPILOG = """\
A request is given by options, or as JSON in FILE ('-' for standard input): an object, a list of them, or one a line,
each with some of the keys user, support, candidates, exclude and state:

  {"user": {"age": 30}, "support": [["p1", 5], ["p2", 2]], "candidates": ["p7", "p8"]}

What is asked follows from what is given, unless --method says it: candidates with a support are adapted and scored,
candidates alone scored, candidates with a state scored with it; without candidates the best of the catalogue are
recommended. Options stand for all rows of a file.

examples:
  tfmeta request --model movies --support p1=5 --support p2=2 --candidates p7 p8 p9
  tfmeta request --model movies --user age=30 --count 10
  tfmeta request --model movies --method explain requests.json --json
  tfmeta request --model movies --rest --address https://models.example.org --token-file token.txt requests.jsonl
  tfmeta request --model movies --method describe
"""

METHODS = ("score", "adapt_and_score", "adapt", "score_with_state", "recommend", "explain", "describe", "versions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("file", nargs="?", metavar="FILE", help="requests in JSON; '-' reads standard input")
    parser.add_argument("--model", required=True, help="name of the model on the server")
    parser.add_argument("--method", choices=METHODS, help="what to ask (default: see below)")
    request = parser.add_argument_group("the request")
    request.add_argument("--user", action="append", default=[], metavar="FEATURE=VALUE",
                         help="a feature of the user; values of a list are separated by '|'; repeat for more")
    request.add_argument("--support", action="append", default=[], metavar="ITEM=LABEL",
                         help="an interaction of the user, oldest first; clicks are the item alone; repeat for more")
    request.add_argument("--candidates", nargs="+", metavar="ITEM", help="items to score")
    request.add_argument("--exclude", nargs="+", metavar="ITEM", help="items that are not recommended")
    request.add_argument("--count", type=int, metavar="N", help="recommendations at most")
    request.add_argument("--accept-status", action="store_true",
                         help="show results of rows of which the server dropped, replaced or clamped values")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--version", type=int, metavar="N", help="version of the model (default: the latest)")
    model.add_argument("--label", help="label of the version, such as canary")
    server = parser.add_argument_group("the server")
    server.add_argument("--address", metavar="HOST:PORT",
                        help="its gRPC or REST endpoint (default: 127.0.0.1:8500, with --rest 127.0.0.1:8501)")
    server.add_argument("--rest", action="store_true", help="REST instead of gRPC")
    server.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds for each call (default 10)")
    server.add_argument("--attempts", type=int, default=5, metavar="N",
                        help="how often a request is sent while the server is unavailable (default 5)")
    server.add_argument("--wait", type=float, metavar="S", help="first wait up to so many seconds for the model")
    server.add_argument("--tls", action="store_true", help="encrypt, with the authorities that the system trusts")
    server.add_argument("--root-cert", metavar="FILE", help="encrypt, with the authorities of this PEM file")
    server.add_argument("--client-cert", metavar="FILE", help="certificate of this client (PEM)")
    server.add_argument("--client-key", metavar="FILE", help="its private key (PEM)")
    server.add_argument("--token-file", metavar="FILE",
                        help="a file with the bearer token (default: the variable TFMETA_TOKEN)")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="rows of a table shown (default 20)")


def run(args: argparse.Namespace) -> int:
    from tfmeta.serving.client import ClientOptions, RetryPolicy
    from tfmeta.serving.request_arguments import read_rows, to_arguments
    from tfmeta.serving.request_report import print_report

    options = ClientOptions(timeout=args.timeout, retry=RetryPolicy(attempts=args.attempts), token=_token(args),
                            tls=_tls(args))
    # Told before anything is asked.
    rows = read_rows(args) if args.method not in ("describe", "versions") else []
    with _client(args, options) as client:
        if args.wait:
            client.wait_until_available(timeout=args.wait)
        if args.method == "versions":
            result = client.versions()
        elif args.method == "describe":
            result = client.describe(version=args.version, label=args.label)
        else:
            description = client.describe(version=args.version, label=args.label)
            args.method, arguments = to_arguments(rows, description, method=args.method)
            if args.count is not None:
                if args.method != "recommend":
                    raise ConfigError(f"--count requires recommendations, received what asks for {args.method}.")
                arguments["count"] = args.count
            result = getattr(client, args.method)(**arguments, version=args.version, label=args.label,
                                                  accept_status=args.accept_status)
    print_report(args.method, args.model, result, as_json=getattr(args, "json", False), top=args.top)
    return 0


def _client(args: argparse.Namespace, options):
    if args.rest:
        from tfmeta.serving.client import RestClient

        return RestClient(args.address or "127.0.0.1:8501", model=args.model, options=options)
    from tfmeta.serving.client import Client

    return Client(args.address or "127.0.0.1:8500", model=args.model, options=options)


def _tls(args: argparse.Namespace):
    from tfmeta.serving.client import Tls

    if not (args.tls or args.root_cert or args.client_cert or args.client_key):
        return None
    return Tls(root_cert=args.root_cert, client_cert=args.client_cert, client_key=args.client_key)


def _token(args: argparse.Namespace) -> str | None:
    """The bearer token; never an option, because others can read a process's command line."""
    if not args.token_file:
        return os.environ.get("TFMETA_TOKEN") or None
    with open(args.token_file, encoding="utf-8", errors="replace") as file:
        token = file.read().strip()
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise ConfigError(f"--token-file requires one token of visible ASCII characters in '{args.token_file}'.")
    return token


