"""Fine-tune Phi-3 on your own chats, measure it, export it to ONNX, and compare them side by side.

Import levels: a module imports from its own level's listed order or from below, never from above.
`tests/test_levels.py` enforces this.

    L0  errors system paths events config hosted
                                               standard library, pydantic (psutil, filelock, yaml inside functions)
    L1  chat data                              prompt rendering; load, split, report
    L2  engines < evaluation < training export models that answer; scores; runs; builds
    L3  doctor store about admission jobs worker
                                               what is missing; the queue; words on a run; checks; start, watch, stop;
                                               what runs L2
        < archive builds compare_runs iterate sweeps conversations feedback presets votes janitor
          housekeeping
                                               runs as files, their builds, side by side, as a beginning, in numbers;
                                               chats as files, as training rows, their settings by name, which answers
                                               people prefer; limits of visitors' jobs and work; what takes room
        < conformance guardrails keys monitor  of an endpoint: is it right, what may pass, who may ask, how it goes
    L4  api server ui                          from Python; over HTTP; the page
    L5  cli __main__                           the command line
"""

__version__ = "0.1.0"
