"""Bounded test-time interventions: each fills a row of sampling parameters."""
