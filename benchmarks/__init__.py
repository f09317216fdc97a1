"""Programs that measure; each prints what it found and writes it to `benchmarks/results`."""
