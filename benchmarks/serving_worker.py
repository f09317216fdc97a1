"""One side of `benchmarks.serving` in a process of its own: a caller in the model's process, or a client.

    python -m benchmarks.serving_worker in_process MODELS.json
    python -m benchmarks.serving_worker client

Each line of standard input is a JSON object that describes a block of requests; each answer is one, with `p50_ms`,
`p99_ms`, `per_s`, `requests` (all of them) and `cpu_s`, the processor time that this process took. The client sends
prepared bytes over all its connections from one thread and does not read what comes back, beyond checking that it is a
reply: what a client does with it is not the server's cost.
"""

import json
import selectors
import statistics
import sys
import threading
import time
from collections.abc import Callable


def measure(call: Callable[[int, int], None], *, concurrency: int, seconds: float) -> dict[str, float]:
    """Calls from several threads, each one after another, for a while; the first tenth does not count in times.

    Args:
      call: takes the thread's number and a running number.
      concurrency: threads.
      seconds: of the block.
    """
    # The first call to a signature builds its graph.
    call(0, 0)
    found: list[list[float]] = [[] for _ in range(concurrency)]
    done = [0] * concurrency
    failed: list[BaseException] = []
    begin = time.perf_counter() + 0.05
    counted, end = begin + seconds / 10, begin + seconds

    def run(thread: int) -> None:
        mine, number = found[thread], thread
        time.sleep(max(0.0, begin - time.perf_counter()))
        try:
            now = time.perf_counter()
            while now < end:
                call(thread, number)
                after = time.perf_counter()
                if now >= counted:
                    mine.append(after - now)
                done[thread] += 1
                now, number = after, number + concurrency
        except BaseException as error:
            failed.append(error)

    used = time.process_time()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return _summary([t for mine in found for t in mine], seconds=end - counted, requests=sum(done), began_cpu=used)


def measure_connections(connections: list, bodies: list[bytes], *, seconds: float) -> dict[str, float]:
    """Requests over several connections, over each one after another; the first tenth does not count in times.

    The block is longer where no request would begin and end in what counts of it. One thread waits for all replies: a
    thread for each connection would take processor time from the server, for being woken and for Python's lock.

    Args:
      connections: have `send(body)`, `receive() -> reply or None` and `fileno()`.
      bodies: of the requests, sent in turn.
      seconds: of the block.

    Raises:
      RuntimeError: if a request fails, or no reply comes for a minute.
    """
    # The first request to a signature builds its graph.
    connections[0].send(bodies[0])
    while connections[0].receive() is None:
        pass
    times: list[float] = []
    done = 0
    began = [0.0] * len(connections)
    used, begin = time.process_time(), time.perf_counter()
    counted, end = begin + seconds / 10, begin + seconds
    with selectors.DefaultSelector() as selector:
        for i, connection in enumerate(connections):
            selector.register(connection, selectors.EVENT_READ, i)
            began[i] = time.perf_counter()
            connection.send(bodies[i % len(bodies)])
        number = waiting = len(connections)
        while waiting:
            ready = selector.select(timeout=60)
            if not ready:
                raise RuntimeError("The server did not answer for 60 s.")
            for key, _ in ready:
                connection, i = key.fileobj, key.data
                if connection.receive() is None:
                    continue
                now = time.perf_counter()
                done += 1
                if began[i] >= counted:
                    times.append(now - began[i])
                if now < end or not times:
                    began[i], end = now, max(end, now)
                    connection.send(bodies[number % len(bodies)])
                    number += 1
                else:
                    waiting -= 1
    return _summary(times, seconds=end - counted, requests=done, began_cpu=used)


def _summary(times: list[float], *, seconds: float, requests: int, began_cpu: float) -> dict[str, float]:
    if not times:
        raise RuntimeError(f"no request began and ended within {seconds} s")
    times.sort()
    return {"p50_ms": 1e3 * statistics.median(times), "p99_ms": 1e3 * times[int(0.99 * (len(times) - 1))],
            "per_s": len(times) / seconds, "requests": max(1, requests),
            "cpu_s": time.process_time() - began_cpu}


def in_process(models: dict[str, str]) -> Callable[[dict], dict]:
    """Returns what answers blocks by calling the signatures here: the limit of any server in Python."""
    from benchmarks.serving_requests import arrays
    from tfmeta.quiet import quiet_tensorflow
    from tfmeta.serving.servable import Servable

    quiet_tensorflow()
    servables = {name: Servable(name, 1, path) for name, path in models.items()}

    def block(wanted: dict) -> dict:
        servable, signature = servables[wanted["model"]], wanted["signature"]
        inputs = arrays(signature, wanted.get("states"))
        return measure(lambda thread, number: servable.run(signature, inputs[number % len(inputs)]),
                       concurrency=wanted["concurrency"], seconds=wanted["seconds"])
    return block


def client() -> Callable[[dict], dict]:
    """Returns what answers blocks by sending requests to a server."""
    from benchmarks.grpc_connection import GrpcConnection
    from benchmarks.http_connection import HttpConnection
    from benchmarks.serving_requests import grpc_bodies, rest_bodies
    from tfmeta.serving.wire import PREDICT_METHOD

    bodies: dict[tuple, list[bytes]] = {}

    def block(wanted: dict) -> dict:
        key = (wanted["protocol"], wanted["model"], wanted["signature"])
        if key not in bodies:
            bodies[key] = (grpc_bodies if key[0] == "grpc" else rest_bodies)(*key[1:], wanted.get("states"))
        prepared, address = bodies[key], wanted["address"]
        count = wanted["concurrency"]
        if wanted["protocol"] == "grpc":
            connections = [GrpcConnection(address, PREDICT_METHOD) for _ in range(count)]
        else:
            connections = [HttpConnection(address, f"/v1/models/{wanted['model']}:predict") for _ in range(count)]
        try:
            return measure_connections(connections, prepared, seconds=wanted["seconds"])
        finally:
            for connection in connections:
                connection.close()
    return block


def main() -> None:
    kind, *rest = sys.argv[1:]
    block = in_process(json.loads(rest[0])) if kind == "in_process" else client()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(block(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
