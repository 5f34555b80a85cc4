"""Reports of a benchmark and of a comparison: text, Markdown, JSON, HTML."""
