"""Reads the word lists and template files that lie in `data/`."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"


def _lines(name: str) -> list[str]:
    """The lines of a data file without blank lines and `# ` comments at its head."""
    return [line for line in (DATA / name).read_text("utf-8").splitlines() if line.strip()]


@cache
def sections(name: str) -> dict[str, tuple[str, ...]]:
    """A file of `[title]` lines, each followed by its own lines."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in _lines(name):
        if line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]") and "|" not in line:
            title = line[1:-1]
            found[title] = []
        else:
            found[title].append(line)
    return {key: tuple(lines) for key, lines in found.items()}


@cache
def wordings(title: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A section of wordings.txt: the templates of a first question, and those of a follow-up."""
    lines = sections("wordings.txt")[title]
    first = tuple(line for line in lines if not line.startswith("~ "))
    return first, tuple(line[2:] for line in lines if line.startswith("~ "))


@cache
def pairs(title: str) -> dict[str, str]:
    """A section of pairs.txt as a mapping from left to right."""
    cells = ";".join(sections("pairs.txt")[title]).split(";")
    return {left.strip(): right.strip() for left, right in (cell.split(" = ") for cell in cells)}


@cache
def names(title: str) -> tuple[str, ...]:
    """A section of names.txt: comma separated words, or one sentence a line."""
    lines = sections("names.txt")[title]
    if len(lines) > 1:
        return lines
    return tuple(dict.fromkeys(word.strip() for word in lines[0].split(",")))


@cache
def things() -> dict[str, tuple[str, ...]]:
    """Categories and the words in them."""
    table: dict[str, tuple[str, ...]] = {}
    for line in _lines("things.txt")[1:]:
        category, words = line.split(":")
        table[category] = tuple(word.strip() for word in words.split(","))
    return table


@dataclass(frozen=True)
class Use:
    """A thing, what it is used for, and one sentence that says what it is."""

    thing: str
    purpose: str
    sentence: str

    @property
    def subject(self) -> str:
        """The thing with its article, as the sentence has it: `a knife`, `soap`."""
        words = self.sentence.split(" ")
        start = 1 if words[0] in {"A", "An"} else 0
        head = words[0].lower() + " " if start else ""
        return head + self.thing


@cache
def uses() -> tuple[Use, ...]:
    """The rows of uses.txt."""
    return tuple(Use(*(cell.strip() for cell in line.split("|"))) for line in _lines("uses.txt")[1:])


@dataclass(frozen=True)
class Intent:
    """Something people ask a shop about a device: its label, the want in words, the answer, the wordings."""

    label: str
    want: str
    answer: str
    wordings: tuple[str, ...]


@cache
def intents() -> tuple[Intent, ...]:
    """The sections of support.txt."""
    found: list[tuple[list[str], list[str]]] = []
    for line in _lines("support.txt")[1:]:
        if line.startswith("[") and line.count(" | ") == 2 and line.endswith("]"):
            found.append(([cell.strip() for cell in line[1:-1].split(" | ")], []))
        else:
            found[-1][1].append(line)
    return tuple(Intent(label, want, answer, tuple(wordings)) for (label, want, answer), wordings in found)


@dataclass(frozen=True)
class Exchange:
    """A small talk topic: what people say, what the model says, and how it may go on."""

    name: str
    users: tuple[str, ...]
    answers: tuple[str, ...]
    follow_ups: tuple[tuple[str, str], ...]


@cache
def exchanges() -> dict[str, Exchange]:
    """The sections of chat.txt by name."""
    parts: dict[str, tuple[list[str], list[str], list[tuple[str, str]]]] = {}
    current: tuple[list[str], list[str], list[tuple[str, str]]] = ([], [], [])
    for line in _lines("chat.txt"):
        mark, text = line[0], line[2:]
        if mark == "#":
            current = parts[text] = ([], [], [])
        elif mark == "?":
            said, answer = text.split(" -> ")
            current[2].append((said, answer))
        else:
            (current[0] if mark == ">" else current[1]).append(text)
    return {
        name: Exchange(name, tuple(users), tuple(answers), tuple(follow_ups))
        for name, (users, answers, follow_ups) in parts.items()
    }


@dataclass(frozen=True)
class Told:
    """Something a user may tell the model and ask about later; `{v}` stands for it."""

    name: str
    wordings: tuple[str, ...]
    reply: str
    questions: tuple[str, ...]
    answer: str


@cache
def told() -> tuple[Told, ...]:
    """The sections of told.txt, the user's name first."""
    parts: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in _lines("told.txt"):
        mark, text = line[0], line[2:]
        if mark == "#":
            current = parts[text] = {">": [], "<": [], "?": [], "=": []}
        else:
            current[mark].append(text)
    return tuple(
        Told(name, tuple(lines[">"]), lines["<"][0], tuple(lines["?"]), lines["="][0]) for name, lines in parts.items()
    )


@dataclass(frozen=True)
class Style:
    """A system prompt and how sentences and single words are then said; `{text}` is the plain answer."""

    prompt: str
    sentence: str
    phrase: str


@cache
def styles() -> tuple[Style, ...]:
    """The rows of styles.txt."""
    return tuple(Style(*line.split(" => ")) for line in _lines("styles.txt")[1:])
