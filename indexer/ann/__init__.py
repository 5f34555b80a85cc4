"""(Approximate) nearest neighbours: the FAISS index, its file, and how it is chosen and tuned."""
