"""Read the rows of tables: delimited text, JSON and parquet."""
