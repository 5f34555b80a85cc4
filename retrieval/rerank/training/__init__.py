"""Training a reranker from a recipe file."""
