"""What computations return: arrays with a status per path, statistics with standard errors, files."""
