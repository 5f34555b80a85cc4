"""Dual encoders of transformers' CLAP."""
