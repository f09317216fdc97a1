"""The benchmark of every learner and reference with one tuning budget: `tfmeta benchmark`."""
