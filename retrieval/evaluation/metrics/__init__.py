"""Numbers from ranks and captions: pure functions, and how sure their means are."""
