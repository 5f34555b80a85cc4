"""Corpus -> encode -> commit, and what fills in captions later."""
