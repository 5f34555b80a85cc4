"""Training of dual encoders from recipe files."""
