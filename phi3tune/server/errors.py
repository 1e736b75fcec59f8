"""Mistakes of whoever asks, as OpenAI's error object: what was wrong, in which parameter, under a code that stays.

The object is `{"error": {"message", "type", "param", "code"}}` (https://platform.openai.com/docs/guides/error-codes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phi3tune.guardrails import Hit

INVALID = "invalid_request_error"
_UNSUPPORTED = {
    "audio",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "documents",
    "function_call",
    "functions",
    "modalities",
    "prediction",
    "reasoning_effort",
    "suffix",
    "tool_choice",
    "tools",
    "verbosity",
    "web_search_options",
}
# Kinds of message parts, and roles, that OpenAI knows and a text model does not.
_UNSUPPORTED_VALUES = {"image_url", "input_audio", "file", "refusal", "tool", "function"}
_TYPES = {400: INVALID, 401: "authentication_error", 403: "permission_error", 404: INVALID, 405: INVALID, 429: "busy"}


class ApiError(Exception):
    """An answer with `status` and an error object. `param` names the parameter that was wrong, `hits` are what guards
    found when they refused it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        hits: Sequence[Hit] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers, self.hits = status, code, param, dict(headers or {}), hits

    def body(self) -> dict[str, Any]:
        return error_body(self.status, str(self), code=self.code, param=self.param)


def error_body(status: int, message: str, *, code: str, param: str | None = None) -> dict[str, Any]:
    """The error object; text that is no Unicode (half a surrogate pair) is replaced, so that it can be sent."""
    kind = _TYPES.get(status, INVALID if status < 500 else "server_error")
    return {"error": {"message": _sendable(message), "type": kind, "param": param and _sendable(param), "code": code}}


def unsupported(param: str, what: str) -> ApiError:
    return ApiError(
        400, f"{what} is not supported by this endpoint; leave {param} out", code="unsupported", param=param
    )


def from_validation(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """One error out of pydantic's list: of several readings of a value (a text, or a list of parts), the one that
    got furthest."""
    if errors[0]["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {errors[0]['ctx']['error']}", code="bad_json")
    found = [(_path(error, body), error) for error in errors]
    path, error = max(found, key=lambda each: (len(each[0]), each[1]["type"] == "literal_error"))
    if not path:
        return ApiError(400, "the body must be a JSON object", code="bad_shape")
    param = _spelled(path)
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        if path[-1] in _UNSUPPORTED:
            return unsupported(param, str(path[-1]))
        return ApiError(400, f"unknown parameter: {param}", code="unknown_parameter", param=param)
    if isinstance(given, dict):  # a union by its `type`
        given = given.get("type")
    if isinstance(given, str) and given in _UNSUPPORTED_VALUES:
        return unsupported(param, given)
    if error["type"] == "missing":
        return ApiError(400, f"{param} is missing", code="missing_parameter", param=param)
    shown = "" if given is None or isinstance(given, list) else f" {str(given)[:80]!r} is not accepted"
    message = str(error["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param}{shown}: {message[:1].lower()}{message[1:]}", code="invalid_value", param=param)


def _path(error: Mapping[str, Any], body: Any) -> tuple[str | int, ...]:
    """Where in the body an error lies. Pydantic's place also names the readings of a union, which the body has not."""
    value, path = body, []
    place = error["loc"][1:]
    for number, part in enumerate(place):
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            path.append(part)
        elif error["type"] == "missing" and number == len(place) - 1:
            path.append(part)
    return tuple(path)


def _spelled(path: Sequence[str | int]) -> str:
    """`messages[0].content`, as OpenAI writes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text[:200]


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
