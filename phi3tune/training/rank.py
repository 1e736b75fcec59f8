"""`python -m phi3tune.training.rank ORDER`: one of the processes of a run, started by torchrun."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

from phi3tune.errors import UserError
from phi3tune.events import Event
from phi3tune.paths import Workspace
from phi3tune.training import spread
from phi3tune.training.run import DATASET_RECORD, train_here

# Lines of a pipe up to this size are written in one piece (POSIX: PIPE_BUF is at least 512, 4,096 on Linux).
REASON_CHARACTERS = 400


class Pipe:
    """The reporter of a process: process 0 passes events on, the others keep them to themselves.

    Ends this process when the supervisor is gone: nobody would hold the run's lock any more.
    """

    def __init__(self, output: int, rank: int) -> None:
        self._output = output
        self._tells = rank == 0
        self._stop = False

    def emit(self, event: Event) -> None:
        if self._tells:
            self.send(spread.Message(event=event))

    def send(self, message: spread.Message) -> None:
        left = message.line()
        while left:
            left = left[os.write(self._output, left) :]

    def stop_requested(self) -> bool:
        return self._stop

    def listen(self) -> None:
        """Wait for words of the supervisor, on the input that all processes of this machine have in common."""
        # Not `sys.stdin`: its buffer must not be locked when the interpreter ends.
        while os.read(0, len(spread.STOP)) == spread.STOP:
            self._stop = True
        os._exit(1)


def main() -> int:
    rank, first_here = int(os.environ["RANK"]), os.environ["LOCAL_RANK"] == "0"
    # What libraries print goes to the log, beside their warnings.
    pipe = Pipe(os.dup(1), rank)
    os.dup2(2, 1)
    if first_here:
        threading.Thread(target=pipe.listen, daemon=True).start()
    order = spread.parse_order(Path(sys.argv[1]))
    try:
        from phi3tune.training import processes

        processes.begin()
        resume = bool(processes.agreed(order.resume)[0])  # a machine that joins cannot know
        if resume:
            processes.share(order.run_dir, DATASET_RECORD, "events.jsonl")
        result = train_here(order.config, order.run_dir, Workspace(order.workspace), pipe, resume=resume)
        processes.end()
    except UserError as error:
        pipe.send(spread.Message(reason=spread.Reason(rank=rank, reason=str(error), user_error=True)))
        return 1
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:REASON_CHARACTERS]}"
        pipe.send(spread.Message(reason=spread.Reason(rank=rank, reason=reason)))
        return 1
    if first_here:
        pipe.send(spread.Message(result=result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
