"""Text files -> passages."""
