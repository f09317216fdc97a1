"""A loaded version whose runs for the page are counted."""

import time
from typing import Any

import numpy as np

from tfmeta.serving.request_error import RequestError
from tfmeta.serving.server_metrics import ServerMetrics

API = "page"


class CountedServable:
    """Stands for a servable during one request of the page; it has all that the servable has.

    Args:
      servable: a loaded version.
      metrics: where each run is counted under its signature, or None.

    Attributes:
      servable: as given.
      code: status code of the last run, None before the first.
    """

    def __init__(self, servable, *, metrics: ServerMetrics | None):
        self.servable, self._metrics = servable, metrics
        self.code: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.servable, name)

    def run(self, signature: str, inputs: dict[str, np.ndarray], **options) -> dict[str, np.ndarray]:
        """Runs a signature as the servable does."""
        begun, self.code = time.perf_counter(), "INTERNAL"
        try:
            outputs = self.servable.run(signature, inputs, **options)
            self.code = "OK"
            return outputs
        except RequestError as error:
            self.code = error.code
            raise
        finally:
            if self._metrics is not None:
                self._metrics.request(self.servable.name, self.servable.version, signature, api=API, code=self.code,
                                      seconds=time.perf_counter() - begun)
