"""The catalog: what a collection knows of items and segments, in SQLite; and the filters that ``--where`` writes."""
