"""The outer loop on several devices or machines, under `tf.distribute`."""
