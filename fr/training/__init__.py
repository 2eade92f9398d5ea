"""Training on traces: data, losses, optimisation, checkpoints."""
