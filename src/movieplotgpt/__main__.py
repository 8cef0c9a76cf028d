"""``python -m movieplotgpt`` is the command ``movieplotgpt``."""

from __future__ import annotations

import sys

from movieplotgpt.cli import main

if __name__ == "__main__":
    sys.exit(main())
