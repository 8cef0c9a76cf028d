"""From sources to token arrays."""
