"""The drift report: what it says, as JSON and as a page."""

import dataclasses
import json
from typing import Any

from trainer.feedback.cold_share import ColdShare
from trainer.feedback.feature_drift import FeatureDrift
from trainer.feedback.gain_trend import GainTrend
from trainer.feedback.label_drift import LabelDrift
from trainer.feedback.population_stability import MODERATE, SHIFTED


@dataclasses.dataclass(frozen=True)
class DriftReport:
    """Two windows compared.

    Attributes:
      reference, current: `users, items, interactions, first, last` of each window.
      features: users' features, then items'; those of items over what users interacted with.
      label: None where a window has no interactions.
      cold: what of the current window the reference has not seen.
      gain: how the gain from adaptation went, or None.
      verdict: `none`, `moderate` or `shifted`: the worst of the parts.
      reasons: the parts behind the verdict in words, the worst first; of `none` the nearest to one.
      alpha: share of quiet comparisons of windows in which anything is called moderate or shifted.
    """

    reference: dict[str, Any]
    current: dict[str, Any]
    features: tuple[FeatureDrift, ...]
    label: LabelDrift | None
    cold: ColdShare
    gain: GainTrend | None
    verdict: str
    reasons: tuple[str, ...]
    alpha: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        return {"verdict": self.verdict, "reasons": list(self.reasons),
                "thresholds": {"moderate": MODERATE, "shifted": SHIFTED, "alpha": self.alpha},
                "reference": self.reference, "current": self.current,
                "features": [dataclasses.asdict(f) for f in self.features],
                "label": None if self.label is None else dataclasses.asdict(self.label),
                "cold": {**dataclasses.asdict(self.cold), "excess": self.cold.excess},
                "gain": None if self.gain is None else dataclasses.asdict(self.gain)}

    def to_json(self) -> str:
        """Returns the report as JSON text; the same windows give the same text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)

    def write_html(self, path: str) -> str:
        """Writes one self-contained page and returns its path; an existing file is replaced."""
        from trainer.feedback.drift_page import write_drift_page

        return write_drift_page(path, self)
