"""``python generate.py --input "..."``: ``movieplotgpt generate`` from a checkout, without installing it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from movieplotgpt.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
