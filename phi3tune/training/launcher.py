"""`python -m phi3tune.training.launcher`: torchrun, which also tells its supervisor what process ended first."""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from phi3tune.training.spread import Death, Message


def main() -> int:
    try:
        run(parse_args(sys.argv[1:]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.stdout.buffer.write(Message(death=Death(rank=rank, code=failure.exitcode)).line())
        sys.stdout.buffer.flush()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
