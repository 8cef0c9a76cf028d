"""An API and a page: what is asked over HTTP is written side by side."""
