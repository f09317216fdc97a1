"""Request batching as TensorFlow Serving does it."""
