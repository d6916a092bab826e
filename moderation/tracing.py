"""OpenTelemetry traces, where the operator's variables ask for them. The only file that imports opentelemetry, and only then.

The standard variables are the switch: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT turn traces on,
OTEL_SDK_DISABLED=true or OTEL_TRACES_EXPORTER=none off; the SDK reads the rest (sampler, headers, service name). One span a
request, a child for each step; names of attributes are those of OpenTelemetry's HTTP and GenAI conventions where these have one.
No attribute holds content, or a text that a caller chose; errors are told by kind, never recorded with their text.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from moderation import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

Headers = list[tuple[bytes, bytes]]
Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute | None]
_NONE: Attributes = {}
_GOODBYE = 2.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"})
_SWITCHES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
INSTALL = "the variables OTEL_… ask for traces, and OpenTelemetry is not installed: pip install 'moderation[otel]'"


class Step(StrEnum):
    """Children of a request's span."""

    READ = "read"
    JUDGE_INPUT = "judge input"
    LOG = "log"
    UPSTREAM = "upstream"
    JUDGE_OUTPUT = "judge output"


class Trace(Protocol):
    """One request's trace. Steps may overlap; `end` closes what is still open."""

    def open(self, step: Step) -> None: ...
    def close(self, step: Step, attributes: Attributes = _NONE) -> None: ...
    def mark(self, step: Step, event: str) -> None: ...

    def carried(self, headers: Headers) -> Headers:
        """The headers for the upstream, with this trace's place in them."""
        ...

    def end(self, status: int, error: str | None, attributes: Attributes) -> None: ...


class Tracing(Protocol):
    """Makes a trace for each request; one for a process."""

    def begin(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Trace: ...
    def close(self) -> None: ...


class NoTrace:
    """No trace: the one object that stands for all of them."""

    __slots__ = ()

    def open(self, step: Step) -> None:
        return

    def close(self, step: Step, attributes: Attributes = _NONE) -> None:
        return

    def mark(self, step: Step, event: str) -> None:
        return

    def carried(self, headers: Headers) -> Headers:
        return headers

    def end(self, status: int, error: str | None, attributes: Attributes) -> None:
        return


class NoTracing:
    """Traces are off."""

    def begin(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        return OFF

    def close(self) -> None:
        return


OFF = NoTrace()


class TracingMissing(Exception):
    """Traces are asked for, and the extra is not installed."""


def asked_for(environ: Mapping[str, str]) -> bool:
    """Whether the operator's variables ask for traces."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    off = disabled or environ.get("OTEL_TRACES_EXPORTER", "").strip() == "none"
    return not off and any(environ.get(name) for name in _SWITCHES)


def from_environ(environ: Mapping[str, str]) -> Tracing:
    """Traces by the standard variables, or none. Raises TracingMissing."""
    if not asked_for(environ):
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise TracingMissing(INSTALL) from None
    return OpenTelemetry(OTLPSpanExporter())


class OpenTelemetry:
    """Spans of the OpenTelemetry SDK, to one exporter, by a provider of our own: nothing global is touched."""

    def __init__(self, exporter: SpanExporter, *, at_once: bool = False) -> None:
        """`at_once`: export each span as it ends, for tests; else in batches, in a thread of the SDK."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        named = {"service.name": "moderation", "service.version": __version__}
        # Resource.create puts the variables' OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES under what it is given.
        resource = Resource(named).merge(Resource.create()) if _named() else Resource.create(named)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("moderation", __version__)

    def begin(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        return _Spans(self._tracer, method if method in _METHODS else "_OTHER", _parent(headers))

    def close(self) -> None:
        """Export what waits, as far as that is done soon: a collector that is down must not keep the sidecar from ending."""
        last = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(_GOODBYE)


def _named() -> bool:
    return bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")


def _parent(headers: Iterable[tuple[bytes, bytes]]) -> Any:
    """The caller's place in its trace: its traceparent alone. A tracestate holds free text, and stays a header."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = [value.decode("latin-1") for name, value in headers if name.lower() == b"traceparent"]
    return TraceContextTextMapPropagator().extract({"traceparent": found[0]}, Context()) if len(found) == 1 else Context()


class _Spans:
    """The spans of one request."""

    def __init__(self, tracer: Any, method: str, parent: Any) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer, self._method = tracer, method
        self._root = tracer.start_span(method, parent, SpanKind.SERVER, {"http.request.method": method})
        self._under = set_span_in_context(self._root, parent)
        self._open: dict[Step, Any] = {}

    def open(self, step: Step) -> None:
        from opentelemetry.trace import SpanKind

        kind = SpanKind.CLIENT if step is Step.UPSTREAM else SpanKind.INTERNAL
        self._open[step] = self._tracer.start_span(step.value, self._under, kind)

    def close(self, step: Step, attributes: Attributes = _NONE) -> None:
        span = self._open.pop(step, None)
        if span is not None:
            _end(span, attributes)

    def mark(self, step: Step, event: str) -> None:
        if step in self._open:
            self._open[step].add_event(event)

    def carried(self, headers: Headers) -> Headers:
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        fields: dict[str, str] = {}
        span = self._open.get(Step.UPSTREAM, self._root)
        TraceContextTextMapPropagator().inject(fields, set_span_in_context(span, self._under))
        kept = [(name, value) for name, value in headers if name.lower() != b"traceparent"]
        return [*kept, (b"traceparent", fields["traceparent"].encode())] if "traceparent" in fields else headers

    def end(self, status: int, error: str | None, attributes: Attributes) -> None:
        for step in list(self._open):
            self.close(step, {"error.type": error})
        endpoint = attributes.get("http.route")
        if endpoint:
            self._root.update_name(f"{self._method} {endpoint}")
        _end(self._root, {**attributes, "http.response.status_code": status or None, "error.type": error})


def _end(span: Any, attributes: Attributes) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attributes({name: value for name, value in attributes.items() if value is not None})
    if attributes.get("error.type"):
        span.set_status(StatusCode.ERROR)  # without words: they may hold content
    span.end()


def server_of(upstream: str) -> Attributes:
    """Where an upstream lies, as attributes."""
    parts = urlsplit(upstream)
    return {"server.address": parts.hostname, "server.port": parts.port or (443 if parts.scheme == "https" else 80)}
