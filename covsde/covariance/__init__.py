"""What every covariance limit shares: clocks, drifts, the neural covariance SDE."""
