"""The rows that a training draws: manifests as rows, pairs, features of locked towers, prototypes of classes."""
