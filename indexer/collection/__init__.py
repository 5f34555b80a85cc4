"""What is stored: the catalog, vectors, media tokens, and the collection that holds them together."""
