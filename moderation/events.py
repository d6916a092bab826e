"""The one table of what the sidecar tells its operator: every event of the operational log, with its fields and what to do.

Pure: knows neither stderr nor a clock. docs/events.md is made from EVENTS, and a test holds every call of `say` against it.
No field ever holds content of a prompt or an answer, nor any text that a caller chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

Value = str | int | float | bool | None


class Level(IntEnum):
    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Say(Protocol):
    """Tells one event; never blocks, never raises for what stands in EVENTS."""

    def __call__(self, event: str, request_id: str | None = None, /, **fields: Value) -> None: ...


@dataclass(frozen=True, slots=True)
class Event:
    level: Level
    when: str
    fields: tuple[str, ...]
    """Those without a value are left out of the line."""
    todo: str
    message: str = ""
    """A template of the line's `message`, for people; "" where the fields say all."""


EVENTS: Mapping[str, Event] = {
    "ready": Event(
        Level.INFO, "Requests are answered.", ("address", "upstream", "version"), "Nothing.",
        "moderation is ready on {address}, in front of {upstream}"),
    "stopping": Event(
        Level.INFO, "SIGTERM or SIGINT came: new requests are refused, those in flight finish.", ("in_flight", "drain"),
        "Nothing; give it longer than `drain` before you kill it.",
        "stopping: {in_flight} requests in flight have {drain:g} s to finish"),
    "stopped": Event(
        Level.INFO, "All is closed; with `workers`, all of one worker.", ("in_flight",),
        "Nothing. Where `in_flight` is not 0, raise `drain`.", "stopped"),
    "config_warning": Event(
        Level.WARNING, "A setting is allowed, and probably not meant.", ("what",), "Do what it says.", "{what}"),
    "admin_off": Event(
        Level.WARNING, "`host` is not loopback, and there is no admin port or no token.", (),
        "Give `--admin-port` and MODERATION_ADMIN_TOKEN.",
        "/metrics and /docs are off: they need loopback, or --admin-port with MODERATION_ADMIN_TOKEN"),
    "tracing": Event(
        Level.INFO, "Traces are exported, by the standard variables OTEL_….", (), "Nothing.", "traces are exported"),
    "tracing_off": Event(
        Level.WARNING, "Traces are asked for, and cannot be made.", ("why",), "Do what it says.", "no traces: {why}"),
    "policy_warning": Event(
        Level.WARNING, "A policy was taken, and something in it is probably not meant.", ("fault",),
        "`moderation policy check` tells more.", "{fault}"),
    "policy_fault": Event(
        Level.ERROR, "One fault of a policy file that was not taken.", ("fault",), "Mend the file; it is read again by itself.",
        "{fault}"),
    "policy_kept": Event(
        Level.ERROR, "A new policy file was not taken.", ("version", "why"), "See the `policy_fault` lines before it.",
        "the policy stays at version {version}: {why}"),
    "policy_unrecorded": Event(
        Level.ERROR, "The log could not record that a policy was refused.", (), "See `log_failed`.",
        "the rejection could not be recorded: the log cannot be written"),
    "policy_taken": Event(
        Level.INFO, "A new version of a policy decides from now on.", ("policy", "version"), "Nothing.",
        "the policy is now {policy} version {version}"),
    "detector_stand_in": Event(
        Level.ERROR, "A policy was taken, and the model of one of its detectors cannot be run here: another does its work, and "
        "finds less.", ("detector", "why"), "Install onnxruntime and tokenizers, and start again.",
        "the detector {detector} is not what the policy means: {why}"),
    "detector_dead": Event(
        Level.ERROR, "A detector gives no answer, and is not asked until it does; its rules do what `on_failure` says.",
        ("detector", "why"), "Look at what it runs on; it is tried again by itself, and a reload of the policy makes it anew.",
        "the detector {detector} gives no answer ({why}), and is not asked until it does"),
    "detector_back": Event(
        Level.WARNING, "A detector that gave no answer answers again.", ("detector",), "Nothing.",
        "the detector {detector} answers again"),
    "log_failed": Event(
        Level.ERROR, "The decision log cannot be written; all routes refuse.", ("why",),
        "Make room on the log's disk, or mend it; it goes on by itself. Move a log file that was moved away back.", "{why}"),
    "log_recovered": Event(
        Level.WARNING, "The decision log can be written again, in a new file.", (),
        "`audit verify` shows the gap: how many leaves are missing.", "the decision log can be written again"),
    "worker_ended": Event(
        Level.WARNING, "With `workers`: one ended without being told to, and is started again after `wait` seconds.",
        ("worker", "how", "wait"), "See the lines of that worker before it; SIGKILL is mostly the kernel's, short of memory.",
        "worker {worker} {how}; it is started again in {wait:g} s"),
    "worker_unstarted": Event(
        Level.ERROR, "With `workers`: the system gave no process for one that ended; tried again after `wait` seconds.",
        ("worker", "why", "wait"), "Look for memory, processes and file descriptors at their limits; the other workers go on.",
        "worker {worker} cannot be started: {why}; it is tried again in {wait:g} s"),
    "worker_killed": Event(
        Level.ERROR, "With `workers`: one hangs, and is killed.", ("worker", "process", "why"),
        "Report it, where it comes again.", "worker {worker} (process {process}) {why} and is killed"),
    "request": Event(
        Level.INFO, "A request has ended; at `debug` also those for /healthz, /readyz, /metrics and /docs.",
        ("route", "client", "endpoint", "status", "outcome", "code", "action", "degraded", "stream", "ms", "upstream_status",
         "upstream_ms", "received", "sent"),
        "`audit show REQUEST_ID` tells why it was decided so; docs/codes.md what a `code` means."),
    "log_refused": Event(
        Level.ERROR, "This request's decision could not be written, so it was refused.", ("why",), "See `log_failed`.", "{why}"),
    "internal_error": Event(
        Level.ERROR, "The sidecar failed at this request.", ("kind", "place"),
        "Report it, with the line; nothing unread was passed on.", "internal error: {kind} at {place}"),
    "task_failed": Event(
        Level.ERROR, "Work in the background failed, or a thread did.", ("kind", "place"), "Report it, with the line.",
        "failed in the background: {kind} at {place}"),
    "crashed": Event(
        Level.ERROR, "The process ends by an error that nothing foresaw.", ("kind", "place"), "Report it, with the line.",
        "crashed: {kind} at {place}"),
    "library": Event(
        Level.WARNING, "A library has something to say; its own words are left out, for they may hold content.",
        ("library", "severity", "kind", "place"), "Mostly nothing: clients that break off, and their like. Look up the place.",
        "{library}: {severity} at {place}"),
    "lines_dropped": Event(
        Level.WARNING, "stderr took lines too slowly, and these are lost.", ("lines",),
        "See to what reads stderr; `moderation_oplog_dropped_total` counts them.",
        "{lines} lines were lost: whatever reads stderr is too slow"),
}
