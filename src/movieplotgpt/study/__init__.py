"""Which size, which tokenizer: many runs at an equal budget, and the laws they follow."""
