"""What a failed rollout says: token scores, junctions, problem-level features, labels."""
