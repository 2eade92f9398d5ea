"""Batched decoding with statistics and steering inside the loop; sees only token arrays and sources of rows."""
