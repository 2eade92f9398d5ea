"""Batched decoding and scoring of token ids, with statistics and steering inside."""
