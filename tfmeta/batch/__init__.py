"""Batch scoring: the signatures of an exported model over files of any size, as an Apache Beam pipeline."""
