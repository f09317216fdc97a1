"""The pipeline for Kubeflow Pipelines v2 and Vertex AI Pipelines; importing it imports nothing of either."""
