"""Pipelines: from raw interactions to a gated, exported model on engines that others operate."""
