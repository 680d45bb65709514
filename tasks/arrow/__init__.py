"""Arrow helpers that several stages share: batches of another size, and DuckDB over Arrow tables."""
