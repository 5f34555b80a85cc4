"""Picture files -> one RGB picture, within limits of memory and time."""
