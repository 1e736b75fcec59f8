"""A small dataset of questions and the topic of each: answers from a set of three labels."""

from __future__ import annotations

import json
import random
from pathlib import Path

TOPICS = {
    "weather": (["rain", "snow", "the wind", "a storm", "fog", "the sun"], ["tomorrow", "in the hills", "this week"]),
    "food": (["soup", "bread", "an apple", "cheese", "rice", "a cake"], ["for lunch", "with salt", "at the table"]),
    "travel": (
        ["a train", "a ticket", "the airport", "a hotel", "the bus", "a map"],
        ["to the city", "by night", "on Monday"],
    ),
}
OPENINGS = ["Tell me about", "I want to know about", "Say something about", "My friend asked about", "What about"]


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """`count` different questions, the topics in turn."""
    draw, made = random.Random(seed), {}
    topics = list(TOPICS)
    while len(made) < count:
        topic = topics[len(made) % len(topics)]
        things, places = TOPICS[topic]
        first, second = draw.sample(things, 2)
        question = f"{draw.choice(OPENINGS)} {first} and {second} {draw.choice(places)}"
        made.setdefault(question, topic)
    return [{"question": question, "answer": topic} for question, topic in made.items()]


def write(folder: Path, train: int, test: int) -> Path:
    """A dataset folder; no question of the test file is in the train file."""
    folder.mkdir(parents=True)
    every = rows(train + test, seed=1)
    random.Random(2).shuffle(every)
    for name, part in (("train", every[:train]), ("test", every[train:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return folder
