"""What every run shares: what is decided before it, chunks, checkpoints, the grid of layer time, metadata."""
