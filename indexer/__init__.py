"""Media in, collection out: corpus, decoding, encoders, and the collection on disk."""
