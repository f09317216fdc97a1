"""The feedback loop: event log, drift, refresh and promotion."""
