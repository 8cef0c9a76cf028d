"""Likelihood beside compressors, title lift, and the report made of them."""
