"""From a title to a plot."""
