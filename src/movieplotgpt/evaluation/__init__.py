"""Likelihood beside compressors, titles, next sentences, the scorecard of samples, and the report made of them."""
