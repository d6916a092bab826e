"""The figures for operators, in one table, and their text in Prometheus' format. The only file that imports prometheus_client.

Knows no request. What stands elsewhere already (queues, the disk, the process) is read when the figures are asked for: `sample`.
No label ever holds what a caller chose: a label is either a word of a fixed vocabulary, or a name that the
configuration or the active policy has (`know`); everything else is counted as `other`, so nobody can swell or poison the series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from operator import add
from threading import Lock
from typing import assert_never

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.utils import floatToGoString

from moderation.errors import CODES
from moderation.events import Level
from moderation.text import Phase
from moderation.verdict import Action, Cause, Mode, Outcome

Snapshot = Mapping[str, Sequence[tuple[Sequence[str], float | Sequence[float]]]]
"""All figures at one moment, by metric: labels, and a number or a histogram's counts and sum. JSON can carry it."""

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
PREFIX = "moderation_"


class Merge(StrEnum):
    """What the figures of several workers give together."""

    SUM = "the sum"
    LARGEST = "the largest"
    SMALLEST = "the smallest"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    """Without the prefix, and without the `_total` that Prometheus adds to counters."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Merge = Merge.SUM
    """Of a gauge; counters and histograms always add up."""
    prefix: str = PREFIX

    @property
    def shown_name(self) -> str:
        return self.prefix + self.name + ("_total" if self.kind is Kind.COUNTER else "")


VOCABULARY: Mapping[str, frozenset[str]] = {
    "phase": frozenset(Phase),
    "action": frozenset(action.word for action in Action),
    "mode": frozenset(Mode),
    "cause": frozenset(Cause),
    "code": frozenset(CODES),
    "outcome": frozenset({"answered", "blocked", "refused", "failed", "passed", "cancelled"}),
    "reason": frozenset({"requests", "memory", "waiting"}),
    "state": frozenset({"configured", "ready", "answered"}),
    "result": frozenset({"ok", "rejected", "hit", "miss"}),
    "direction": frozenset({"received", "sent"}),
    "class": frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"}),
    "level": frozenset(level.word for level in Level),
    "leaf": frozenset({"decision", "open", "close", "policy_activate", "policy_reject", "gap", "recovery", "log_open"}),
}
"""Labels with fixed words."""

NAMED = frozenset({"route", "rule", "detector", "policy", "hash", "version"})
"""Labels with names that `know` is told."""

_QUICK = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

METRICS: tuple[Metric, ...] = (
    Metric("requests", Kind.COUNTER, "Requests on moderated paths, by how they ended.", ("route", "outcome")),
    Metric("request_seconds", Kind.HISTOGRAM, "Time from a request's arrival to its answer's last byte.", ("outcome",), _SLOW),
    Metric("body_bytes", Kind.COUNTER, "Bytes of bodies, as clients sent and got them.", ("direction",)),
    Metric("in_flight", Kind.GAUGE, "Requests that are being answered now.", merge=Merge.SUM),
    Metric("refused", Kind.COUNTER, "Errors that the sidecar itself answered with, by code.", ("code",)),
    Metric("admission_refused", Kind.COUNTER, "Requests that were not admitted, by what there was too much of.", ("reason",)),
    Metric("queueing_seconds", Kind.HISTOGRAM, "How long a request waited for a slot to be judged in.", (), _QUICK),
    Metric("held_bytes", Kind.GAUGE, "Bytes of bodies that are held for requests in flight.", merge=Merge.SUM),
    Metric("decisions", Kind.COUNTER, "Decisions by phase and enforced action.", ("phase", "action")),
    Metric("would", Kind.COUNTER, "Decisions by phase and by what would be enforced if every monitored rule were.",
           ("phase", "action")),
    Metric("rules", Kind.COUNTER, "Decisions in which a rule fired, by its action.", ("rule", "phase", "mode", "action")),
    Metric("degraded", Kind.COUNTER, "Decisions that leaned on a detector that gave no answer.", ("phase",)),
    Metric("detector_seconds", Kind.HISTOGRAM, "Time of one call of a detector.", ("detector",), _QUICK),
    Metric("detector_unknown", Kind.COUNTER, "Texts that a detector gave no answer for.", ("detector", "cause")),
    Metric("detector_breaker", Kind.GAUGE, "Whether a detector is asked: 0 yes (closed), 1 no (open), 2 it is being tried again "
           "(half-open).", ("detector",), merge=Merge.LARGEST),
    Metric("detector_breaker_trips", Kind.COUNTER, "How often a detector was found dead, and no longer asked.", ("detector",)),
    Metric("detector_stand_in", Kind.GAUGE, "1 for a detector whose model cannot be run here: another does its work, and "
           "finds less. No series for all others.", ("detector",), merge=Merge.LARGEST),
    Metric("detector_wait_seconds", Kind.HISTOGRAM, "Time that work of a detector waited for a thread.", (), _QUICK),
    Metric("detector_queue", Kind.GAUGE, "Pieces of work that wait for a thread of detectors.", merge=Merge.SUM),
    Metric("detector_threads_lost", Kind.GAUGE, "Threads of detectors that hang: they were given up and have not come back.",
           merge=Merge.SUM),
    Metric("tasks", Kind.GAUGE, "Tasks of the event loop that are alive: a few, and a few for each request in flight.",
           merge=Merge.SUM),
    Metric("cache_bytes", Kind.GAUGE, "Memory that the cache of judged segments takes, about; at most the setting `cache`.",
           merge=Merge.SUM),
    Metric("cache", Kind.COUNTER, "Segments looked up in the cache of judged segments.", ("result",)),
    Metric("added_seconds", Kind.HISTOGRAM, "Time from the end of a request's body to its forwarding: reading, judging, logging.",
           (), _QUICK),
    Metric("hold_back_seconds", Kind.HISTOGRAM, "The longest that text of a stream waited here, for each stream.", (), _QUICK),
    Metric("hold_back_characters", Kind.HISTOGRAM, "The most text of a stream that waited here at once, for each stream.", (),
           (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)),
    Metric("upstream_first_byte_seconds", Kind.HISTOGRAM, "Time from forwarding to the upstream's first byte.", (), _SLOW),
    Metric("upstream_answers", Kind.COUNTER, "Answers of the upstream, by class of their HTTP status.", ("class",)),
    Metric("upstream_errors", Kind.COUNTER, "Failures of the upstream, by code.", ("code",)),
    Metric("log_leaves", Kind.COUNTER, "Leaves written to the decision log, by type.", ("leaf",)),
    Metric("log_batch_leaves", Kind.HISTOGRAM, "Leaves that went to disk together.", (),
           (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)),
    Metric("log_sync_seconds", Kind.HISTOGRAM, "Time of one fdatasync of the log.", (), _QUICK),
    Metric("log_failed", Kind.GAUGE, "1 while the log cannot be written.", merge=Merge.LARGEST),
    Metric("log_queue", Kind.GAUGE, "Appends that wait for the log's disk.", merge=Merge.SUM),
    Metric("log_checkpoint_timestamp_seconds", Kind.GAUGE,
           "When the newest checkpoint was signed, in seconds since 1970; the present while it covers all leaves.",
           merge=Merge.SMALLEST),
    Metric("log_unsigned_leaves", Kind.GAUGE, "Leaves on disk that no checkpoint covers yet.", merge=Merge.SUM),
    Metric("log_disk_free_bytes", Kind.GAUGE, "Room that is left on the log's file system.", merge=Merge.SMALLEST),
    Metric("log_disk_free_inodes", Kind.GAUGE, "Files that the log's file system still has room for.", merge=Merge.SMALLEST),
    Metric("policy_reloads", Kind.COUNTER, "Policy files read, by whether they were taken.", ("result",)),
    Metric("policy_active", Kind.GAUGE, "1 for each policy that decides now.", ("policy", "hash"), merge=Merge.LARGEST),
    Metric("policy_rejected", Kind.GAUGE, "Policy files of which the newest version is not in force.", merge=Merge.LARGEST),
    Metric("policy_activated_timestamp_seconds", Kind.GAUGE, "When the policy that decides now was taken, in seconds since 1970.",
           ("policy",), merge=Merge.SMALLEST),
    Metric("build_info", Kind.GAUGE, "1, with the version that runs.", ("version",), merge=Merge.LARGEST),
    Metric("ready", Kind.GAUGE, "1 while /readyz answers 200.", merge=Merge.SMALLEST),
    Metric("loop_lag_seconds", Kind.HISTOGRAM, "How late the event loop came to work that was due, looked at twice a second.", (),
           _QUICK),
    Metric("oplog_lines", Kind.COUNTER, "Lines of the operational log, by level.", ("level",)),
    Metric("oplog_dropped", Kind.COUNTER, "Lines of the operational log that a slow stderr did not take."),
    Metric("workers", Kind.GAUGE, "Worker processes: configured, ready, and of these those that `/metrics` has fresh figures of.",
           ("state",), merge=Merge.LARGEST),
    Metric("worker_restarts", Kind.COUNTER, "Workers that ended without being told to, and were started again."),
)

PROCESS: tuple[Metric, ...] = (
    Metric("process_cpu_seconds", Kind.COUNTER, "Processor time of the process.", prefix=""),
    Metric("process_resident_memory_bytes", Kind.GAUGE, "Memory that the process has in RAM.", merge=Merge.SUM, prefix=""),
    Metric("process_virtual_memory_bytes", Kind.GAUGE, "Memory that the process has reserved.", merge=Merge.SUM, prefix=""),
    Metric("process_open_fds", Kind.GAUGE, "Files and sockets that are open.", merge=Merge.SUM, prefix=""),
    Metric("process_max_fds", Kind.GAUGE, "The most that may be open: `ulimit -n`.", merge=Merge.SUM, prefix=""),
    Metric("process_start_time_seconds", Kind.GAUGE, "When the process began, in seconds since 1970.", merge=Merge.SMALLEST,
           prefix=""),
)
"""What prometheus_client reads in /proc, under the names that it has for every program; on Linux alone."""

_MERGED: Mapping[Merge, Callable[[float, float], float]] = {Merge.SUM: add, Merge.LARGEST: max, Merge.SMALLEST: min}


class _Series:
    """One metric with all its label values: plain numbers, for counting happens many times for each request."""

    __slots__ = ("histograms", "kind", "metric", "shown", "values")

    def __init__(self, metric: Metric) -> None:
        self.metric, self.kind = metric, metric.kind
        self.shown: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Labels that may stand as they are, so that they are looked up once."""
        self.values: dict[tuple[str, ...], float] = {}
        self.histograms: dict[tuple[str, ...], list[float]] = {}
        """A count for each bucket and one for what is above all of them, then the sum."""
        if not metric.labels:
            match metric.kind:
                case Kind.HISTOGRAM:
                    self.histograms[()] = self.empty()
                case Kind.COUNTER if metric.prefix:
                    self.values[()] = 0.0
                case _:  # a gauge that nobody has set tells nothing, and must not be the smallest of all
                    pass

    def empty(self) -> list[float]:
        return [0.0] * (len(self.metric.buckets) + 2)

    def absorb(self, labels: tuple[str, ...], value: float | Sequence[float]) -> None:
        """Take in what another worker has counted."""
        if isinstance(value, Sequence):
            self.histograms[labels] = [a + b for a, b in zip(self.histograms.get(labels, self.empty()), value, strict=True)]
        else:
            before = self.values.get(labels)
            self.values[labels] = value if before is None else _MERGED[self.metric.merge](before, value)

    def family(self) -> Family:
        """What Prometheus' own library writes down."""
        name, help, labels = self.metric.prefix + self.metric.name, self.metric.help, self.metric.labels
        match self.metric.kind:
            case Kind.COUNTER:
                counter = CounterMetricFamily(name, help, labels=labels)
                for shown, value in sorted(self.values.items()):
                    counter.add_metric(shown, value)
                return counter
            case Kind.GAUGE:
                gauge = GaugeMetricFamily(name, help, labels=labels)
                for shown, value in sorted(self.values.items()):
                    gauge.add_metric(shown, value)
                return gauge
            case Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(name, help, labels=labels)
                borders = [*map(floatToGoString, self.metric.buckets), "+Inf"]
                for shown, counts in sorted(self.histograms.items()):
                    buckets = list(zip(borders, accumulate(counts[:-1]), strict=True))
                    histogram.add_metric(shown, buckets, counts[-1])
                return histogram
            case never:
                assert_never(never)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self._series = {metric.name: _Series(metric) for metric in (*METRICS, *PROCESS)}
        self._known: dict[str, set[str]] = {label: set() for label in NAMED}
        self._lock = Lock()
        """The log counts in a thread of its own."""
        self._samplers: list[Callable[[], None]] = []

    def know(self, label: str, names: Iterable[str]) -> None:
        """Names that this label may show from now on: those of the configuration and of the active policy."""
        self._known[label].update(names)

    def add(self, name: str, *labels: str, amount: float = 1) -> None:
        """Count on; a gauge may go down."""
        series, shown = self._at(name, labels)
        if series.kind is Kind.HISTOGRAM:
            raise TypeError(f"{name} is a histogram: observe it")
        with self._lock:
            series.values[shown] = series.values.get(shown, 0.0) + amount

    def set(self, name: str, value: float, *labels: str) -> None:
        series, shown = self._at(name, labels)
        if series.kind is not Kind.GAUGE:
            raise TypeError(f"{name} is no gauge: only a gauge can be set")
        series.values[shown] = float(value)

    def only(self, name: str, rows: Iterable[tuple[str, ...]]) -> None:
        """Set the series of a gauge with these labels to 1 and forget its others."""
        shown = {self._at(name, labels)[1]: 1.0 for labels in rows}
        with self._lock:
            self._series[name].values = shown

    def observe(self, name: str, value: float, *labels: str) -> None:
        series, shown = self._at(name, labels)
        if series.kind is not Kind.HISTOGRAM:
            raise TypeError(f"{name} is no histogram: add to it or set it")
        with self._lock:
            counts = series.histograms.get(shown)
            if counts is None:
                counts = series.histograms[shown] = series.empty()
            counts[bisect_left(series.metric.buckets, value)] += 1
            counts[-1] += value

    def decided(self, phase: Phase, outcome: Outcome) -> None:
        """Count one decision, and each rule that fired in it once."""
        self.add("decisions", phase, outcome.action.word)
        self.add("would", phase, outcome.would.word)
        if outcome.degraded:
            self.add("degraded", phase)
        if outcome.fired:
            for rule, mode, action in {(fired.rule, fired.mode, fired.action) for fired in outcome.fired}:
                self.add("rules", rule, phase, mode, action.word)

    def refused(self, code: str) -> None:
        """Count one error that we answered with."""
        self.add("refused", code)

    def ended(self, outcome: str, seconds: float, received: int, sent: int) -> None:
        """Count one request at its end, with the bytes of its bodies."""
        self.observe("request_seconds", seconds, outcome)
        self.add("body_bytes", "received", amount=received)
        self.add("body_bytes", "sent", amount=sent)

    def sample(self, sampler: Callable[[], None]) -> None:
        """Call this, which sets gauges, whenever the figures are asked for."""
        self._samplers.append(sampler)

    def snapshot(self) -> Snapshot:
        """All figures of this moment, those of the process among them."""
        for sampler in self._samplers:
            sampler()
        figures: dict[str, list[tuple[Sequence[str], float | Sequence[float]]]]
        with self._lock:
            figures = {name: [*series.values.items(), *((labels, [*counts]) for labels, counts in series.histograms.items())]
                       for name, series in self._series.items()}
        for family in ProcessCollector(registry=None).collect():
            for sample in family.samples:  # beside what was taken in of processes that have ended
                figures[sample.name.removesuffix("_total")].append(((), sample.value))
        return figures

    def absorb(self, figures: Snapshot, *, gauges: bool = True) -> None:
        """Take in those of another worker; of one that has ended without its gauges, for what they told is over."""
        with self._lock:
            for name, rows in figures.items():
                series = self._series[name]
                if gauges or series.kind is not Kind.GAUGE:
                    for labels, value in rows:
                        series.absorb(tuple(labels), value)

    def text(self) -> bytes:
        """As `told`, of this process alone."""
        return told((self.snapshot(),))

    def collect(self) -> Iterable[Family]:
        """What Prometheus' own library asks a collector for."""
        with self._lock:
            return [series.family() for series in self._series.values()]

    def _at(self, name: str, labels: tuple[str, ...]) -> tuple[_Series, tuple[str, ...]]:
        series = self._series[name]
        shown = series.shown.get(labels)
        if shown is None:
            wanted = series.metric.labels
            if len(labels) != len(wanted):
                raise TypeError(f"{name} takes the labels {wanted}, not {len(labels)} of them")
            shown = tuple(self._word(label, value) for label, value in zip(wanted, labels, strict=True))
            if shown == labels:  # what a caller chose must not fill this, either
                series.shown[labels] = shown
        return series, shown

    def _word(self, label: str, value: str) -> str:
        allowed = VOCABULARY.get(label) or self._known[label]
        return str(value) if value in allowed else OTHER


def told(workers: Iterable[Snapshot]) -> bytes:
    """What all workers have counted, as one, in Prometheus' text format; serve it as CONTENT_TYPE."""
    total = Metrics()
    for figures in workers:
        total.absorb(figures)
    registry = CollectorRegistry()
    registry.register(total)
    return generate_latest(registry)
