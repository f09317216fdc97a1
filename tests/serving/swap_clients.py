"""Many clients in a process of their own, without TensorFlow: `python swap_clients.py GRPC REST CLIENTS PAUSE`.

GRPC and REST are the server's addresses; every second client speaks REST. They ask models `m` and `n` in turn until
standard input closes, then each once more, and print one JSON object: how many requests each version answered, what
failed, and which answers were wrong (another version's score, or an older version than the client has seen already). A
request is sent once: a retry would hide a failure.
"""

import collections
import contextlib
import http.client
import json
import sys
import threading
import time

import grpc
import numpy as np

from tfmeta.serving import tensor_codec, wire


class Failed(Exception):
    """A request was not answered with a score."""


@contextlib.contextmanager
def over_grpc(address: str):
    """Yields what asks a model for an item: `(model, item) -> (version, score)`."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(wire.PREDICT_METHOD, request_serializer=wire.PredictRequest.SerializeToString,
                                   response_deserializer=wire.PredictResponse.FromString)

        def ask(model: str, item: int) -> tuple[int, float]:
            request = wire.PredictRequest()
            request.model_spec.name = model
            tensor_codec.encode(np.array([[item]]), request.inputs["item"])
            try:
                reply = call(request, timeout=30)
            except grpc.RpcError as error:
                raise Failed(f"{error.code().name}: {error.details()}") from None
            return reply.model_spec.version.value, float(tensor_codec.decode(reply.outputs["scores"])[0, 0])
        yield ask


@contextlib.contextmanager
def over_rest(address: str):
    """Like `over_grpc`, on one connection. A reply names no version; the score's thousands do."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        def ask(model: str, item: int) -> tuple[int, float]:
            try:
                connection.request("POST", f"/v1/models/{model}:predict", json.dumps({"inputs": {"item": [[item]]}}))
                reply = connection.getresponse()
                body = json.loads(reply.read())
                if reply.status != 200:
                    raise Failed(f"{reply.status}: {body}")
                score = body["outputs"]
                while isinstance(score, list | dict):
                    score = score["scores"] if isinstance(score, dict) else score[0]
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Failed(f"{type(error).__name__}: {error}") from None
            return int(score // 1000), score
        yield ask


def ask(client, number: int, pause: float, stop: threading.Event, result: dict) -> None:
    """One client with a connection of its own."""
    versions, seconds, last = collections.Counter(), [], {"m": 0, "n": 0}
    failures, wrong = [], []
    with client as call:
        count = number
        # Once told to stop, each model is asked a last time: the newest version has answered whenever it came.
        left = 2
        while left:
            left -= stop.is_set()
            count += 1
            model, item = "mn"[count % 2], (count * 32 + number) % 1000
            begun = time.perf_counter()
            try:
                version, score = call(model, item)
            except Failed as error:
                failures.append(str(error))
            else:
                seconds.append(time.perf_counter() - begun)
                versions[f"{model}{version}"] += 1
                if score != 1000 * version + item or version < last[model]:
                    wrong.append([model, version, last[model], item, score])
                last[model] = version
            time.sleep(pause)
    result[number] = versions, seconds, failures, wrong


def main() -> None:
    grpc_address, rest_address, clients, pause = *sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4])
    stop, result = threading.Event(), {}
    threads = [threading.Thread(target=ask, args=(over_rest(rest_address) if n % 2 else over_grpc(grpc_address),
                                                  n, pause, stop, result)) for n in range(clients)]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    parts = [result.get(n) for n in range(clients)]
    seconds = np.array([s for part in parts if part for s in part[1]] or [0.0])
    print(json.dumps({
        "clients": sum(part is not None for part in parts), "requests": len(seconds),
        "versions": dict(sum((part[0] for part in parts if part), collections.Counter())),
        "failures": [f for part in parts if part for f in part[2]][:50],
        "wrong": [w for part in parts if part for w in part[3]][:50],
        "p50_ms": round(float(np.percentile(seconds, 50)) * 1e3, 2),
        "p99_ms": round(float(np.percentile(seconds, 99)) * 1e3, 2), "max_ms": round(float(seconds.max()) * 1e3, 2)}))


if __name__ == "__main__":
    main()
