"""`python -m recipes.phi3_nano --out DIR` remakes phi3-nano; `python -m recipes.phi3_nano score DIR` measures one."""

import argparse
import json
import shutil
from itertools import islice
from pathlib import Path

import torch

from .card import write_card
from .corpus import test_rows, training_stream
from .score import by_skill, score_folder
from .tokenizer import rendered, save_tokenizer, train_tokenizer
from .train import Plan, train

_TOKENIZER_TEXTS = 60_000


def make(out: Path, plan: Plan) -> None:
    """Builds everything in a sibling folder and moves it into place when it is complete."""
    building = out.with_name(out.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    (building / "skills").mkdir(parents=True)
    rows = test_rows(plan.seed)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (building / "skills" / "test.jsonl").write_text(lines, "utf-8")
    texts = (rendered(messages) for messages in islice(training_stream(plan.seed), _TOKENIZER_TEXTS))
    tokenizer = train_tokenizer(texts)
    save_tokenizer(tokenizer, building)
    trained = train(tokenizer, building, plan)
    write_card(building, plan, trained, score_folder(building))
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)


def main(argv: list[str] | None = None) -> int:
    """The command line of the recipe."""
    parser = argparse.ArgumentParser(prog="python -m recipes.phi3_nano", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder that the model is written to; an old one is replaced")
    parser.add_argument("--seed", type=int, default=Plan.seed, help="seed of text, weights and order")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="optimizer steps")
    parser.add_argument("--eval-every", type=int, default=Plan.eval_every, help="steps between two measurements")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    commands = parser.add_subparsers(dest="command")
    score = commands.add_parser("score", help="print the share of exact answers per skill as JSON")
    score.add_argument("folder", type=Path)
    score.add_argument("--wrong", action="store_true", help="also list the rows answered wrongly")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.command == "score":
        scored = score_folder(arguments.folder)
        result: dict[str, object] = {"skills": by_skill(scored)}
        if arguments.wrong:
            result["wrong"] = [row for row in scored if not row["exact"]]
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return 0
    if arguments.out is None:
        parser.error("--out DIR is needed: the folder that the model is written to")
    make(arguments.out, Plan(seed=arguments.seed, steps=arguments.steps, eval_every=arguments.eval_every))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
