"""The steps of a pipeline, the same on every engine: functions of artifacts (`path`, `metadata`) and parameters."""
