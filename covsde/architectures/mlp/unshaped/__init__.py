"""Two inputs through unshaped (leaky) ReLU MLPs."""
