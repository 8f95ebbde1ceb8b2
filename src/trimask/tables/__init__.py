"""Rows of tables, in whatever way a file writes them: separators, JSON, parquet."""
