"""W1 in other systems, each a worker process of its own (see `benchmarks.live_system`)."""
