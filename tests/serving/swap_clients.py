"""Many clients in a process of their own, without TensorFlow: `python swap_clients.py ADDRESS CLIENTS PAUSE`.

They ask models `m` and `n` in turn until standard input closes, then each once more, and print one JSON object: how
many requests each version answered, what failed, and which answers were wrong (another version's score, or an older
version than the client has seen already). A request is sent once: a retry would hide a failure.
"""

import collections
import json
import sys
import threading
import time

import grpc
import numpy as np

from tfmeta.serving import tensor_codec, wire


def ask(address: str, number: int, pause: float, stop: threading.Event, result: dict) -> None:
    """One client with a connection of its own."""
    versions, seconds, last = collections.Counter(), [], {"m": 0, "n": 0}
    failures, wrong = [], []
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(wire.PREDICT_METHOD, request_serializer=wire.PredictRequest.SerializeToString,
                                   response_deserializer=wire.PredictResponse.FromString)
        count = number
        # Once told to stop, each model is asked a last time: the newest version has answered whenever it came.
        left = 2
        while left:
            left -= stop.is_set()
            count += 1
            model, item = "mn"[count % 2], (count * 32 + number) % 1000
            request = wire.PredictRequest()
            request.model_spec.name = model
            tensor_codec.encode(np.array([[item]]), request.inputs["item"])
            begun = time.perf_counter()
            try:
                reply = call(request, timeout=30)
            except grpc.RpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
            else:
                seconds.append(time.perf_counter() - begun)
                version = reply.model_spec.version.value
                score = float(tensor_codec.decode(reply.outputs["scores"])[0, 0])
                versions[f"{model}{version}"] += 1
                if score != 1000 * version + item or version < last[model]:
                    wrong.append([model, version, last[model], item, score])
                last[model] = version
            time.sleep(pause)
    result[number] = versions, seconds, failures, wrong


def main() -> None:
    address, clients, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    stop, result = threading.Event(), {}
    threads = [threading.Thread(target=ask, args=(address, n, pause, stop, result)) for n in range(clients)]
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
