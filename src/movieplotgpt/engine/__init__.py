"""Run a model folder without PyTorch: weights, graph, session, KV cache."""
