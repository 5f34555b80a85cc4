"""Groups of items that are there twice or nearly so."""
