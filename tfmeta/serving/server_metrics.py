"""What a server counts, in Prometheus' format."""

from collections.abc import Callable

import prometheus_client
from prometheus_client.core import GaugeMetricFamily

# Seconds; from a small score to a request that waited for its whole deadline.
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
UNKNOWN = "unknown"
# Signature of a request that ran none.
NONE = "none"


class ServerMetrics:
    """Counters and histograms per model, version and signature, in a registry of their own.

    `tfmeta_serving_requests_total` (labels `model`, `version`, `signature`, `api`, `code`),
    `tfmeta_serving_request_seconds` (without `code`), `tfmeta_serving_batch_rows`, `tfmeta_serving_batch_requests`,
    `tfmeta_serving_batch_filled_rows_total` and `tfmeta_serving_queue_requests` (per signature, where requests are
    merged), `tfmeta_serving_model_version` (the version that answers by default), and the process's own.

    Args:
      loaded: returns model name -> the version that answers requests without one.
    """

    content_type = prometheus_client.CONTENT_TYPE_LATEST

    def __init__(self, *, loaded: Callable[[], dict[str, int]] | None = None):
        self.registry = registry = prometheus_client.CollectorRegistry()
        where = ("model", "version", "signature")
        self._requests = prometheus_client.Counter(
            "tfmeta_serving_requests", "Requests by status code", (*where, "api", "code"), registry=registry)
        self._seconds = prometheus_client.Histogram(
            "tfmeta_serving_request_seconds", "Seconds from a parsed request to its reply", (*where, "api"),
            buckets=_SECONDS, registry=registry)
        self._rows = prometheus_client.Histogram(
            "tfmeta_serving_batch_rows", "Rows of the batches that ran, before they were filled up", where,
            buckets=_ROWS, registry=registry)
        self._merged = prometheus_client.Histogram(
            "tfmeta_serving_batch_requests", "Requests of the batches that ran", where, buckets=_ROWS,
            registry=registry)
        self._filled = prometheus_client.Counter(
            "tfmeta_serving_batch_filled_rows", "Rows that filled batches up to an allowed size", where,
            registry=registry)
        self._queue = prometheus_client.Gauge(
            "tfmeta_serving_queue_requests", "Requests that wait for a batch", where, registry=registry)
        prometheus_client.ProcessCollector(registry=registry)
        if loaded is not None:
            registry.register(_LoadedVersions(loaded))
        # Looking labels up costs several times what counting does.
        self._found: dict[tuple, tuple] = {}

    def request(self, model: str, version: int | str, signature: str, *, api: str, code: str, seconds: float) -> None:
        """Counts a request. What a client invented (an unknown model, say) is to be passed as `UNKNOWN`."""
        key = (model, version, signature, api, code)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = (self._requests.labels(*key).inc, self._seconds.labels(*key[:-1]).observe)
        found[0]()
        found[1](seconds)

    def batching(self, model: str, version: int, signature: str) -> tuple[Callable, Callable]:
        """Returns what a `Batcher` of this signature takes as `observe` and `depth`."""
        where = (model, version, signature)
        rows, merged, filled = (m.labels(*where) for m in (self._rows, self._merged, self._filled))

        def observe(requests: int, count: int, batch: int) -> None:
            merged.observe(requests)
            rows.observe(count)
            if batch > count:
                filled.inc(batch - count)
        return observe, self._queue.labels(*where).inc

    def page(self) -> bytes:
        """Returns the text that Prometheus reads."""
        return prometheus_client.generate_latest(self.registry)


class _LoadedVersions:
    def __init__(self, loaded: Callable[[], dict[str, int]]):
        self._loaded = loaded

    def collect(self):
        family = GaugeMetricFamily("tfmeta_serving_model_version", "Version that answers by default",
                                   labels=("model",))
        for model, version in self._loaded().items():
            family.add_metric((model,), version)
        yield family
