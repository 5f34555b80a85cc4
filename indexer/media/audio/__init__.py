"""Sound files -> windows of mono samples, decoded in blocks."""
