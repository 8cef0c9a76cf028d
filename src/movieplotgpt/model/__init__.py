"""The network, its sizes, its cache, and the folder it lives in."""
