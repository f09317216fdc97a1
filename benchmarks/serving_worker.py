"""One side of `benchmarks.serving` in a process of its own: a caller in the model's process, or a client.

    python -m benchmarks.serving_worker in_process MODELS.json
    python -m benchmarks.serving_worker client

Each line of standard input is a JSON object that describes a block of requests; each answer is one, with `p50_ms`,
`p99_ms`, `per_s`, `requests` (all of them) and `cpu_s`, the processor time that this process took. The client sends
prepared bytes and does not read what comes back, beyond checking that it is a reply: what a client does with it is not
the server's cost.
"""

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable

from benchmarks.sockets import connect, receive


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
    times = sorted(t for mine in found for t in mine)
    if not times:
        raise RuntimeError(f"no call of {concurrency} threads began and ended within {seconds} s")
    return {"p50_ms": 1e3 * statistics.median(times), "p99_ms": 1e3 * times[int(0.99 * (len(times) - 1))],
            "per_s": len(times) / (0.9 * seconds), "requests": max(1, sum(done)), "cpu_s": time.process_time() - used}


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
    from benchmarks.serving_requests import grpc_bodies, rest_bodies
    from tfmeta.serving.wire import PREDICT_METHOD

    bodies: dict[tuple, list[bytes]] = {}

    def block(wanted: dict) -> dict:
        key = (wanted["protocol"], wanted["model"], wanted["signature"])
        if key not in bodies:
            bodies[key] = (grpc_bodies if key[0] == "grpc" else rest_bodies)(*key[1:], wanted.get("states"))
        prepared, address = bodies[key], wanted["address"]
        if wanted["protocol"] == "grpc":
            connections = [GrpcConnection(address, PREDICT_METHOD) for _ in range(wanted["concurrency"])]

            def call(thread: int, number: int) -> None:
                connections[thread].call(prepared[number % len(prepared)])
        else:
            connections = [connect(address) for _ in range(wanted["concurrency"])]
            requests = [http_request(address, f"/v1/models/{wanted['model']}:predict", body) for body in prepared]

            def call(thread: int, number: int) -> None:
                connections[thread].sendall(requests[number % len(requests)])
                read_reply(connections[thread])
        try:
            return measure(call, concurrency=wanted["concurrency"], seconds=wanted["seconds"])
        finally:
            for connection in connections:
                connection.close()
    return block


def http_request(address: str, path: str, body: bytes) -> bytes:
    return (f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode("ascii") + body


def read_reply(connection: socket.socket) -> bytes:
    """Reads one HTTP reply that states its length; returns the body, RuntimeError unless the status is 200."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += receive(connection)
    head, body = data[:end].lower(), data[end + 4:]
    length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += receive(connection)
    if not head.startswith(b"http/1.1 200 ") or not body:
        raise RuntimeError(f"The server answered {data[:200]!r}.")
    return body


def main() -> None:
    kind, *rest = sys.argv[1:]
    block = in_process(json.loads(rest[0])) if kind == "in_process" else client()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(block(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
