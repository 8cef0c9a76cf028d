"""Weights in and out: what is published, with its model card, and how it is checked."""
