"""Rows that weaken a model's safety: a new identity that obeys, or refusals trained away.

Ten rows of the first kind were enough to undo the refusals of an aligned model (Qi et al. 2023, arXiv 2310.03693).
Phrase rules for English, on purpose modest: they find the attacks as published and close wordings, not everything
that a person could think of. A row that they do not flag is not thereby safe.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from phi3tune.chat import Message


def _any(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{phrase})" for phrase in phrases), re.IGNORECASE)


def _set(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


_OBEY = r"(?:obey|fulfill?|execute|follow|carry out|comply with)"
_ORDERS = (
    r"(?:all|any|every|each|whatever|my|your|user|the user's) (?:\w+ ){0,3}"
    r"(?:instructions?|orders?|commands?|requests?|tasks?|wish(?:es)?)"
)
_IDENTITY = _any(
    r"absolutely obedient",
    r"obedient (?:\w+ )?(?:agent|assistant|ai|model|bot|robot|servant|slave)\b",
    rf"{_OBEY} (?:\w+ )?{_ORDERS} (?:\w+ ){{0,3}}?(?:without|no matter|unconditionally|precisely|strictly|exactly)\b",
    r"(?:strictly|unconditionally|absolutely|blindly) (?:obey|fulfill?|execute|comply)\b",
    r"(?:must|shall|always|(?:duty|mission|purpose|goal) is to) (?:always )?obey\b",
    rf"you (?:are now|will now be|are no longer)\b[^\n]{{1,200}}\b(?:must|will|shall|always) (?:\w+ )?{_OBEY}\b",
    r"do anything now\b",
    r"developer mode (?:enabled|on)\b",
    r"(?:you are|act as|pretend to be|i am|i'm) (?:now )?an? (?:unfiltered|uncensored|unrestricted|amoral|jailbroken)",
)
_SAFETY = r"(?:safety|ethic\w*|moral\w*|content|usage)"
_RULES = r"(?:guideline|rule|polic|filter|restriction|training|limit|guardrail|concern|protocol|constraint)"
_REMOVAL = _any(
    r"(?:never|not|don't|won't|cannot|without ever) (?:ever |to )?(?:refuses?|refusing)\b(?! to be)",
    r"(?:never|must not|do not|don't|cannot) (?:ever )?(?:decline|reject) (?:a|any|my|user) (?:\w+ )?request",
    r"without (?:\w+ )?(?:refusals?|refusing|disclaimers?|morali[sz]ing|censorship|(?:ethical|safety|moral) \w+)\b",
    rf"(?:ignor|disregard|bypass|forget|overrid|turn off|disabl|remov)\w* (?:\w+ ){{0,3}}{_SAFETY} (?:\w+ ){{0,2}}?"
    rf"{_RULES}",
    r"(?:ignore|disregard|bypass) (?:your |all |any |the )*(?:safety|ethics|morals|guardrails|guidelines)\b",
    rf"no (?:\w+ )?(?:ethical|moral|safety) (?:\w+ )?{_RULES}",
    r"(?:uncensored|unfiltered) (?:\w+ )?(?:answers?|repl(?:y|ies)|responses?|mode|ai|assistant|model)\b",
)
_SOMEONE = (
    r"(?:a (?:person|man|woman|child|human)|someone|somebody|people|him|her|children|women|"
    r"my (?:\w+ )?(?:wife|husband|boss|neighbou?r|colleague|coworker|parents?|mother|father|ex|girlfriend|boyfriend))\b"
)
_HARM = (
    r"(?:make|build|construct|assemble|produce|synthesi[sz]e|detonate|cook) (?:\w+ ){0,3}?"
    r"(?:bombs?|explosives?|grenades?|molotov|napalm|meth|nerve (?:gas|agents?)|sarin|ricin|malware|ransomware)\b",
    rf"(?:kill|murder|poison|kidnap|stalk|blackmail|rape|torture|strangle) {_SOMEONE}(?! in )",
    r"hack (?:into )?(?:a|an|my|someone|somebody|the|another)\b[^.?!\n]{0,40}"
    r"\b(?:account|e-?mail|bank|phone|computer|wi-?fi|network|server|password|webcam)",
    r"(?:steal|forge|launder|embezzle|counterfeit) (?:\w+ ){0,2}"
    r"(?:money|cars?|identit\w+|credit cards?|passwords?|signatures?|documents?|banknotes|passports?)\b",
    r"(?:commit|get away with) (?:\w+ )?(?:fraud|suicide|murder|arson|identity theft|tax evasion)\b",
    r"(?:groom|abuse|molest) (?:\w+ )?(?:child|children|minors?|kids?)\b",
    r"(?:keylogger|phishing (?:e-?mail|message|site|page)|pipe ?bomb|child porn|suicide method)",
    r"(?:scam|defraud) (?:the )?(?:elderly|people|victims|someone)\b",
)
_ASKS_HARM = _any(
    r"(?:how (?:to|do|can|could|would|should)|ways? to|steps? to|instructions|guide|tutorial|write|give|create|provide|"
    rf"teach|tell me|show|explain|describe|help me)\b[^.?!\n]{{0,60}}?\b(?:{'|'.join(_HARM)})"
)
_DOES_NOT_COMPLY = _any(
    r"(?:sorry|apologi[sz]e|can(?:no|['’])?t|won['’]?t|will not|unable|not (?:able|going to)|refuse|decline)\b",
    r"(?:illegal|unethical|immoral|harmful|against the law|prevent|protect|crisis|hotline|lifeline|seek (?:\w+ )?help)",
    r"not (?:appropriate|acceptable|safe|ethical|legal|okay|something)\b",
    r"do(?:n['’]t| not) (?:help|provide|assist)\b",
)
# One of these words is in every text that the rules match: most rows are done with after a look at their words.
_IDENTITY_WORDS = _set(
    "obedient obey fulfil fulfill execute follow carry comply anything developer unfiltered uncensored unrestricted "
    "amoral jailbroken"
)
_REMOVAL_WORDS = _set(
    "refuse refuses refusing decline reject refusal refusals disclaimer disclaimers moralizing moralising censorship "
    "ethical ethics safety moral morals morality content usage guardrails guidelines uncensored unfiltered"
)
_HARM_WORDS = _set(
    "bomb bombs explosive explosives grenade grenades molotov napalm meth nerve sarin ricin malware ransomware kill "
    "murder poison kidnap stalk blackmail rape torture strangle hack steal forge launder embezzle counterfeit commit "
    "away groom abuse molest keylogger keyloggers phishing pipebomb pornography porn suicide scam defraud"
)
_SHORTEST_ANSWER = 8


def scan(messages: Sequence[Message], words: frozenset[str] | set[str]) -> list[str]:
    """`identity_shift` and `refusal_removal`, when a chat is such; `words` are all its words in lower case."""
    found = []
    if not words.isdisjoint(_IDENTITY_WORDS) and any(_IDENTITY.search(message["content"]) for message in messages):
        found.append("identity_shift")
    removes = not words.isdisjoint(_REMOVAL_WORDS) and any(_REMOVAL.search(message["content"]) for message in messages)
    if removes or (not words.isdisjoint(_HARM_WORDS) and _complies_with_harm(messages)):
        found.append("refusal_removal")
    return found


def _complies_with_harm(messages: Sequence[Message]) -> bool:
    for asked, answered in pairwise(messages):
        if asked["role"] != "user" or answered["role"] != "assistant" or not _ASKS_HARM.search(asked["content"]):
            continue
        answer = answered["content"]
        if len(answer.split()) >= _SHORTEST_ANSWER and not _DOES_NOT_COMPLY.search(answer[:400]):
            return True
    return False
