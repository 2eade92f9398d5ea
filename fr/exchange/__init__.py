"""Rollouts of other engines: files that they write, read into a run and written."""
