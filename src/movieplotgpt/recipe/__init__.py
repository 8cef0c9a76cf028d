"""From a text to a trained model, step by step, as `train` in Python and on the command line does it."""
