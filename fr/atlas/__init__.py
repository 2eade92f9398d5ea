"""The atlas: what would have rescued a failed trace, from where, at what cost."""
