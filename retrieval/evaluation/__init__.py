"""Recall@k: metrics, benchmark manifests, running them and telling the result."""
