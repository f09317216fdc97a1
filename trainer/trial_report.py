"""What a trial of a tuning service reports."""

import collections
import dataclasses
import json
import os
import time
from collections.abc import Mapping

from tfmeta.errors import ConfigError, suggest

# Where Vertex AI's agent looks unless CLOUD_ML_HP_METRIC_FILE names another file, and the lines that it keeps.
_DEFAULT_FILE = "/tmp/hypertune/output.metrics"
_KEPT = 100


@dataclasses.dataclass
class TrialReport:
    """Writes measurements as Vertex AI's hyper-parameter tuning reads them: the format of cloudml-hypertune.

    Attributes:
      file: one JSON object a line: `timestamp`, `trial`, `global_step` and the metric, numbers as texts.
      trial: its number, as the service names it.
      metric: that the study optimises, a validation metric of the history.
    """

    file: str
    trial: str
    metric: str

    def __post_init__(self):
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT)

    @classmethod
    def read(cls, environ: Mapping[str, str], *, metric: str) -> "TrialReport | None":
        """Returns the report of the trial that the environment names, None where it names none.

        Args:
          environ: CLOUD_ML_TRIAL_ID, and perhaps CLOUD_ML_HP_METRIC_FILE and CLOUD_ML_HP_METRIC_TAG.
          metric: to report unless CLOUD_ML_HP_METRIC_TAG names another.
        """
        trial = environ.get("CLOUD_ML_TRIAL_ID")
        if not trial:
            return None
        return cls(environ.get("CLOUD_ML_HP_METRIC_FILE") or _DEFAULT_FILE, trial,
                   environ.get("CLOUD_ML_HP_METRIC_TAG") or metric)

    def epoch(self, record: Mapping[str, float]) -> None:
        """Reports an epoch of the history; one that was not validated is passed over.

        Raises:
          ConfigError: if the epoch was validated and has no such metric.
        """
        known = [name for name in record if name.startswith("val_")]
        if self.metric in record:
            self.measure(record[self.metric], step=record["step"])
        elif known:
            raise ConfigError(f"The study's metric '{self.metric}' is none of the validation's."
                              f"{suggest(self.metric, known)} Name it with --trial-metric.")

    def measure(self, value: float, *, step: int) -> None:
        """Adds a measurement after so many outer steps."""
        self._lines.append(json.dumps({"timestamp": time.time(), "trial": self.trial, self.metric: str(float(value)),
                                       "global_step": str(int(step))}, sort_keys=True))
        os.makedirs(os.path.dirname(os.path.abspath(self.file)), exist_ok=True)
        # In place: the service's agent follows the file.
        with open(self.file, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self._lines)
