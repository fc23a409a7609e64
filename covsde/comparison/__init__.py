"""Results held against a reference: tables with z-scores, distances between laws, figures."""
