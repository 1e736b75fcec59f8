"""Entry of the app: `python app.py`, and of a Hugging Face Space."""

from __future__ import annotations

import sys

from phi3tune.errors import UserError
from phi3tune.server.endpoint import Endpoints
from phi3tune.ui.launch import serve


def main() -> int:
    """Serve the page until interrupted; returns the exit code."""
    try:
        serve(Endpoints)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
