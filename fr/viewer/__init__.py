"""A local page over the attempts of a run: problems, attempts, tokens.

Attempts stay in their Parquet shards. DuckDB holds a table of single columns in memory;
a trace is one row, read where it lies. Nothing here imports jax.
"""
