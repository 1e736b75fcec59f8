"""The routes of an endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from phi3tune import __version__
from phi3tune.chat import Message
from phi3tune.config import ServeConfig
from phi3tune.errors import UserError
from phi3tune.keys import Keys
from phi3tune.paths import Workspace
from phi3tune.server.answering import Asked, Flow, Served, ask_chat, ask_completion
from phi3tune.server.errors import ApiError
from phi3tune.server.gate import Gate, is_local, refusal_of
from phi3tune.server.line import AT_ONCE, Line
from phi3tune.server.models import Models
from phi3tune.server.payload import Kind, Payload, event
from phi3tune.server.recording import Entry, Recorder
from phi3tune.server.schema import ChatRequest, ClassifyRequest, CompletionRequest, FeedbackRequest

if TYPE_CHECKING:
    from starlette.types import Send

    from phi3tune.engines.pool import Pool
    from phi3tune.guardrails import Guards
    from phi3tune.monitor import RequestLog

B = TypeVar("B", ChatRequest, CompletionRequest)


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """What every refusal holds."""

    error: ErrorDetail


_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorBody, "description": "A refusal."}}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, as one object or as a stream.", "content": {"text/event-stream": {}}},
}


def make(
    config: ServeConfig, workspace: Workspace, pool: Pool, *, log: RequestLog | None, guards: Guards | None
) -> FastAPI:
    """See `phi3tune.server.create_app`."""
    keys = Keys(workspace, config.api_key_file)
    if config.require_key is None and not is_local(config.host) and not keys.exist():
        raise UserError(
            f"--host {config.host} lets other machines ask, and there is no key; make one: phi3tune keys make NAME, "
            "or give --no-require-key to serve everybody"
        )
    server = Server(config, workspace, pool, guards, log)

    def needs_key() -> bool:
        return keys.exist() or not is_local(config.host) if config.require_key is None else config.require_key

    app = FastAPI(
        title="phi3tune",
        version=__version__,
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
        lifespan=server.lifespan,
        redirect_slashes=False,
        responses=_ERRORS,
    )
    server.add_routes(app)
    for kind in (ApiError, RequestValidationError, HTTPException, UserError):
        app.add_exception_handler(kind, _refuse)
    app.add_middleware(Gate, config=config, recorder=server.recorder, needs_key=needs_key, check=keys.check)
    if config.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.state.server, app.state.needs_key = server, needs_key
    return app


class Server:
    """What the routes share."""

    def __init__(
        self, config: ServeConfig, workspace: Workspace, pool: Pool, guards: Guards | None, log: RequestLog | None
    ) -> None:
        self.models = Models(config, workspace, pool)
        self._config, self._pool, self._guards, self._log = config, pool, guards, log
        self._line = Line(config.queue_size)
        self.recorder = Recorder(self._line, log)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="answers")
        self._flows: set[Flow] = set()

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=self._load, name="loading", daemon=True).start()
        yield
        self.end_answers()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def end_answers(self) -> None:
        """Cut off what is being answered, with an error that says so."""
        for flow in self._flows:
            flow.end("the endpoint is shutting down")

    def add_routes(self, app: FastAPI) -> None:
        app.add_api_route("/health", self.health, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=PlainTextResponse)
        app.add_api_route("/v1/models", self.list_models, methods=["GET"])
        app.add_api_route("/v1/models/{model:path}", self.show_model, methods=["GET"])
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], responses=_STREAMED)
        app.add_api_route("/v1/completions", self.complete, methods=["POST"], responses=_STREAMED)
        app.add_api_route("/classify", self.classify, methods=["POST"])
        app.add_api_route("/v1/feedback", self.feedback, methods=["POST"])

    async def health(self) -> JSONResponse:
        """200 when all models can answer, 503 until then."""
        state = self.models.state
        return JSONResponse({"status": "ok" if state == "ready" else state}, 200 if state == "ready" else 503)

    async def metrics(self) -> Response:
        """Figures for Prometheus."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Response(generate_latest(self.recorder.registry), media_type=CONTENT_TYPE_LATEST)

    async def list_models(self) -> dict[str, Any]:
        """The models that are served."""
        return {"object": "list", "data": [self.models.described(name) for name in self.models.refs]}

    async def show_model(self, model: str) -> dict[str, Any]:
        """One of the models that are served."""
        if model not in self.models.refs:
            self.models.find(model)
        return self.models.described(model)

    async def chat(self, request: Request, body: ChatRequest) -> Response:
        """The answer to a chat."""
        return await self._answer(request, body, "chat", ask_chat)

    async def complete(self, request: Request, body: CompletionRequest) -> Response:
        """What follows a text."""
        return await self._answer(request, body, "completion", ask_completion)

    async def classify(self, request: Request, body: ClassifyRequest) -> dict[str, Any]:
        """The labels of texts, by a classification run, with the probability of each."""
        entry: Entry = request.state.entry
        served = self._served(entry, body.model)
        if "classify" not in served.info.can:
            raise ApiError(
                400, f"{served.name} answers chats and has no labels", code="model_not_supported", param="model"
            )
        texts = [body.input] if isinstance(body.input, str) else body.input
        self._line.enter()
        try:
            async with self._line.turn():
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._threads, self._pool.classify, served.ref, texts)
        finally:
            self._line.leave()
        chats = [[Message(role="user", content=text)] for text in texts]
        tokens = sum(map(len, await asyncio.to_thread(served.renderer.prompts, chats)))
        entry.usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
        data = [{"index": index, "object": "classification", **each} for index, each in enumerate(found)]
        return {"id": entry.id, "object": "list", "model": served.name, "data": data, "usage": entry.usage}

    async def feedback(self, body: FeedbackRequest) -> dict[str, Any]:
        """Rate an answer, by its id."""
        if self._log is None:
            raise ApiError(404, "this endpoint keeps no log of requests", code="not_found", param="id")
        try:
            await asyncio.to_thread(self._log.rate, body.id, body.rating)
        except UserError as error:
            raise ApiError(404, str(error), code="not_found", param="id") from None
        return {"id": body.id, "object": "feedback", "rating": body.rating}

    def _load(self) -> None:
        self.models.load()
        self.recorder.ready.set(self.models.state == "ready")

    def _served(self, entry: Entry, name: str | None) -> Served:
        served = self.models.find(name)
        entry.model = served.name
        return served

    async def _answer(
        self, request: Request, body: B, kind: Kind, ask: Callable[[B, Served, ServeConfig, Guards | None], Asked]
    ) -> Response:
        entry: Entry = request.state.entry
        entry.stream = bool(body.stream)
        served = self._served(entry, body.model)
        if "classify" in served.info.can:
            raise ApiError(
                400, f"{served.name} is a classifier; ask /classify", code="model_not_supported", param="model"
            )
        self._line.enter()
        try:
            asked = await asyncio.to_thread(ask, body, served, self._config, self._guards)
        except BaseException:
            self._line.leave()
            raise
        entry.hits += asked.hits
        entry.messages = list(asked.requests[0].messages or ())
        flow = Flow(
            asked,
            self._pool,
            self._guards,
            self._line,
            self._threads,
            live=entry.stream,
            seconds=self._config.request_timeout,
        )
        self._flows.add(flow)
        options = body.stream_options
        payload = Payload(asked, kind, entry.id, usage_events=options is not None and bool(options.include_usage))
        told = self._told(flow, payload, entry)
        watch = asyncio.create_task(_leave_with_client(request, flow))
        try:
            if not body.stream:
                async for _ in told:
                    pass
                return Response(orjson.dumps(payload.whole()), media_type="application/json")
            # Errors up to the first token get a status of their own; later ones can only be told in the stream.
            first = await anext(told)
        finally:
            watch.cancel()
        return EventStream(_events(first, told, payload, entry), media_type="text/event-stream")

    async def _told(self, flow: Flow, payload: Payload, entry: Entry) -> AsyncGenerator[list[bytes]]:
        """The events of each batch, taken up in `payload` and `entry`; whoever stops reading ends the answer."""
        try:
            async for batch in flow.batches():
                entry.said()
                entry.queue_seconds = flow.queue_seconds
                payload.take(batch)
                entry.hits += [hit for said in batch for hit in said.hits]
                yield list(payload.events(batch)) if entry.stream else []
        finally:
            flow.leave()
            self._flows.discard(flow)
            entry.usage = payload.usage()
            counted = payload.choices[0].usage
            if not entry.stream and counted is not None:  # all of it came at once: the engine knows when it began
                entry.first_token_seconds = (entry.queue_seconds or 0.0) + counted.first_token_seconds
            entry.finish_reason = payload.choices[0].finish_reason or "cancelled"
            if any(choice.finish_reason is None for choice in payload.choices):
                entry.error_code = entry.error_code or "client_gone"
            entry.answer = "".join(payload.choices[0].text)


class EventStream(StreamingResponse):
    """A stream whose source is closed with it, so that what was asked stops before the request counts as ended."""

    async def stream_response(self, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)):
            await super().stream_response(send)


async def _events(
    first: list[bytes], told: AsyncGenerator[list[bytes]], payload: Payload, entry: Entry
) -> AsyncGenerator[bytes]:
    async with aclosing(told):
        try:
            yield b"".join(first)
            async for events in told:
                yield b"".join(events)
        except Exception as error:
            refusal = refusal_of(error, entry)
            yield event(refusal.body())
        else:
            yield b"".join(payload.last_events())


async def _leave_with_client(request: Request, flow: Flow) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    flow.leave()


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Any error as OpenAI's object."""
    if isinstance(error, RequestValidationError) and isinstance(error.body, dict):
        request.state.entry.model = request.app.state.server.models.named(error.body.get("model"))
    refusal = refusal_of(error, request.state.entry)
    return JSONResponse(refusal.body(), refusal.status, refusal.headers)
