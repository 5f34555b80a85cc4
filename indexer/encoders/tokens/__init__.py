"""Media tokens for rerankers: their format, and what makes them."""
