"""Metrics per task in NumPy, their chance floors and ceilings, and significance over users."""

from tfmeta.metrics.metric_set import LOWER_IS_BETTER, MetricSet, lower_is_better
from tfmeta.metrics.ranked_list import RankedList

__all__ = ["LOWER_IS_BETTER", "MetricSet", "RankedList", "lower_is_better"]
