"""`python -m phi3tune` and the `phi3tune` command."""

import sys

from phi3tune.cli import main

if __name__ == "__main__":
    sys.exit(main())
