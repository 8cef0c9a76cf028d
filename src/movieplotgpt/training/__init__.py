"""Windows, optimizers, the loop, and what it needs to go on."""
