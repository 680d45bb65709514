"""Demo data, and what the pipeline documents about its files."""
