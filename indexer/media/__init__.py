"""One file -> segments: pixels, windows of sound, passages of text. Knows nothing of models, SQL or FAISS."""
