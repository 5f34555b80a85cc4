"""Recall@k: metrics, benchmark manifests, running them and reporting the result."""
