"""Towers in ONNX Runtime: queries are read without torch. Graphs are made once, kept in the cache, and checked."""
