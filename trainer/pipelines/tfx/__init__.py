"""The pipeline for TensorFlow Extended; importing this package, or `run_fn`, imports nothing of TFX."""
