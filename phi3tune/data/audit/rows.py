"""The checks of one row after another: everything that can be said of a row alone."""

from __future__ import annotations

from phi3tune.data import formats
from phi3tune.data.audit import leftovers, personal, safety_rows
from phi3tune.data.audit.findings import Findings
from phi3tune.data.audit.spelling import Speller
from phi3tune.data.conversation import Conversation


class RowChecks:
    """Adds what it finds to `findings`; misspellings at the end, when the dataset's vocabulary is known."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._speller = Speller()

    def look(self, conversation: Conversation, words: list[str]) -> None:
        """A row; `words` are those of its prompt and its answer, as `words.of_row` gives them."""
        contents = [message["content"] for message in conversation.messages]
        text = "\n".join(contents)
        distinct = set(words)
        codes = [*personal.scan(text), *safety_rows.scan(conversation.messages, distinct)]
        if "<|" in text and formats.RESERVED.search(text):
            codes.append("reserved_token")
        if leftovers.is_mojibake(text):
            codes.append("mojibake")
        if leftovers.has_markup(contents):
            codes.append("leftover_markup")
        for code in codes:
            self._findings.add(code, conversation.file, conversation.row)
        if names := leftovers.placeholders(text):
            self._findings.add("placeholder", conversation.file, conversation.row, names)
        self._speller.look((conversation.file, conversation.row), contents, words, distinct)

    def finish(self) -> None:
        """Add the misspellings."""
        found: dict[tuple[str, tuple[str, int]], list[str]] = {}
        for kind, place, name in self._speller.found():
            found.setdefault((kind, place), []).append(name)
        for (code, place), names in found.items():
            self._findings.add(code, *place, names)
