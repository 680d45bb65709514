"""Parquet files, split by month, and the manifest that lists them."""
