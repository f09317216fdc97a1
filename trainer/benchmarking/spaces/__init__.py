"""Search spaces: `common.yaml` for all suites, one file for each suite on top of it."""
