"""What a person forgot in a text: placeholders, wrongly decoded characters, markup."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_NAME_WORDS = (
    r"your|my|insert|enter|name|company|customer|client|recipient|sender|date|address|city|state|country|title|"
    r"product|email|e-mail|phone|number|position|job|organi[sz]ation|manager|user|link|url|amount|zip|street|todo|tbd"
)
_BRACES = re.compile(r"\{\{\s*[\w.\- ]{1,40}\s*\}\}|\$\{[A-Za-z_]\w{1,39}\}")
_BRACED = re.compile(r"(?<![\w{$\\}])\{[A-Za-z][\w ]{1,29}\}(?!\})")
_BRACKETS = re.compile(rf"\[(?:the |a )?(?:{_NAME_WORDS})\b[^\[\]\n]{{0,40}}\](?!\()", re.IGNORECASE)
_ANGLES = re.compile(
    rf"<(?:(?:YOUR|INSERT|ENTER|MY)[_ ])?[A-Z]{{2,}}(?:[_ ][A-Z0-9]+)*>|<(?:{_NAME_WORDS})(?:[ _-][\w _-]{{1,40}})?>"
)
_WORDS = re.compile(
    r"\bTODO\b(?! *(?:lists?|apps?|items?)\b)|\bFIXME\b|\bXXX+\b|\b[Ll]orem ipsum\b|%\([A-Za-z_]\w{1,39}\)s"
)
_WORD_PARTS = ("TODO", "FIXME", "XXX", "orem ipsum", "%(")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]{2}|[ÃÂâ] |�")
_TAGS = (
    "a|abbr|article|b|big|blockquote|body|br|button|center|code|dd|div|dl|dt|em|font|footer|form|h[1-6]|head|header|hr|"
    "html|i|iframe|img|input|label|li|link|meta|nav|ol|option|p|pre|s|script|section|select|small|span|strike|strong|"
    "style|sub|sup|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video"
)
_HTML = re.compile(
    rf"</?(?:{_TAGS})(?:\s+[a-z-]+\s*=[^<>]{{0,300}})?\s*/?>|<!--|<!doctype|"
    r"&(?:amp|lt|gt|quot|apos|nbsp|ndash|mdash|hellip|rsquo|lsquo|rdquo|ldquo|bull|copy|euro|#\d{2,6}|#x[0-9a-f]{2,5});",
    re.IGNORECASE,
)
_BBCODE = re.compile(
    r"\[/(?:b|i|u|s|url|img|quote|code|color|size|list|center)\]|\[(?:url|img|color|size|quote)=[^\]\n]{1,200}\]",
    re.IGNORECASE,
)
_ABOUT_CODE = re.compile(
    r"\b(?:html\d?|css|xml|xhtml|svg|markup|web ?sites?|web ?pages?|web|tags?|bbcode|code|javascript|script|php|jsx|"
    r"react|program|function|entity|entities|regex|python|sql|java|templates?|format|string|variables?)\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"[;{}][ \t]*$|^[ \t]*(?:def|class|import|from|if|for|while|else|try)\b[^\n]*:[ \t]*$|</\w|\w\(\)|\w\.\w+\("
    r"|^[ \t]*(?:return|import|var|let|const|public|SELECT|INSERT|UPDATE|CREATE)\b",
    re.MULTILINE,
)
_HTML_NAMES = re.compile(rf"</?(?:{_TAGS}|doctype)\b", re.IGNORECASE)
_MODEL_TOKENS = {"<PAD>", "<EOS>", "<BOS>", "<UNK>", "<MASK>", "<SEP>", "<CLS>"}


def placeholders(text: str) -> set[str]:
    """Fields of a template that nobody filled in, and text that stands for other text, as they are written.

    `{name}` counts only where the text is not about code.
    """
    patterns = [_BRACES] if "{" in text else []
    patterns += [_BRACKETS] if "[" in text else []
    patterns += [_ANGLES] if "<" in text else []
    patterns += [_WORDS] if any(part in text for part in _WORD_PARTS) else []
    if not patterns:
        return set()
    text = prose(text)
    if "{" in text and not looks_like_code(text):
        patterns.append(_BRACED)
    found = {match[0] for pattern in patterns for match in pattern.finditer(text)}
    return {name for name in found if name not in _MODEL_TOKENS and not _HTML_NAMES.fullmatch(name[:-1])}


def is_mojibake(text: str) -> bool:
    """Text that was decoded with the wrong encoding, by ftfy's rule, or that lost characters in decoding."""
    if text.isascii() or not _NOT_ASCII.search(text):
        return False
    from ftfy.badness import is_bad

    return "�" in text or bool(is_bad(text))


def has_markup(contents: Iterable[str]) -> bool:
    """HTML or BBCode in the text of a chat that is not about such things; what stands between backticks is code."""
    contents = list(contents)
    if not any("<" in text or "&" in text or "[" in text for text in contents):
        return False
    plain = [prose(text) for text in contents]
    if not any(_HTML.search(text) or _BBCODE.search(text) for text in plain):
        return False
    return not any(_ABOUT_CODE.search(re.sub(r"<[^<>]*>", " ", text)) for text in plain)


def prose(text: str) -> str:
    """The text without code between backticks."""
    return _FENCE.sub(" ", text) if "`" in text else text


def looks_like_code(text: str) -> bool:
    """Whether lines of a program are in a text, or it speaks of one."""
    return bool(_ABOUT_CODE.search(text)) or has_code(text)


def has_code(text: str) -> bool:
    """Whether lines of a program are in a text."""
    return _CODE.search(text) is not None
