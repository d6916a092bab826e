"""Running detectors: guarded, timed, batched, cached. Whatever a detector does, what comes out is findings or Unknown.

`guard` turns what a detector does into a value, `workers` are its threads, `trials` spare requests the wait for a dead one,
`cache` is what was judged before. Knows no policy and no request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from moderation.detect.api import Detector, Local, Passage, Remote, Scan, Windowed, is_local, is_remote, is_windowed
from moderation.detect.prefilter import Prefilter
from moderation.detect.run.breaker import Breaker, State
from moderation.detect.run.cache import FINDING, Cache
from moderation.detect.run.examined import Examined, gathered
from moderation.detect.run.guard import PIECE, Answer, by_pieces, detected, is_loud, quiet, scan, scan_once, together, whole
from moderation.detect.run.questions import TIMEOUT, Questions
from moderation.detect.run.trials import Trials, cause_of
from moderation.detect.run.turns import TURN, by_turns
from moderation.detect.run.versions import Versions
from moderation.detect.run.workers import Beat, Hung, Overloaded, Workers
from moderation.normalise import Normalised, readings
from moderation.sentence import CONTEXT, context, windows
from moderation.text import Role, Span
from moderation.verdict import Cause, Unknown

INLINE_LENGTH = 4096
"""Texts of up to so many code points in all are scanned at once by inline detectors: a thread would cost more."""
BREATH = 256
"""Texts of one request that are prepared before others get their turn."""
TRIAL = "The committee met on Tuesday and agreed on the plan for the new library. 委员会星期二开会，通过了新图书馆的方案。"
"""What a detector in doubt is tried on: harmless, ordinary, and nobody's but ours."""
_BUSY = 0.25
"""Seconds until a trial asks for a thread again."""
_SLOW = 0.001
T = TypeVar("T")
Observe = Callable[[str, float, Cause | None], None]
"""Told of each run: detector, seconds, and the cause where it failed."""


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    views: tuple[Normalised, ...]
    """What local detectors read: the text as it shows, and what it hides."""
    windows: tuple[Span, ...]
    tenant: str
    fingerprint: bytes
    role: Role
    before: str
    """What stands before it, where it is itself a window; window detectors read it."""


_NOTHING: tuple[Answer, ...] = ((),)
_Job = tuple[Normalised, ...] | Passage
Asked = tuple[Role, frozenset[str]]
"""Who wrote a text, and the window detectors that it is for."""


class Runner:
    """The detectors of one policy at work. Used from one event loop."""

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        timeouts: Mapping[str, float],
        *,
        inline: frozenset[str] = frozenset(),
        cache: Cache | None = None,
        observe: Observe = lambda detector, seconds, cause: None,
        workers: Workers | None = None,
        categories: Mapping[str, frozenset[str]] | None = None,
        tell: Callable[[str, State], None] = lambda detector, state: None,
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        """`timeouts` are in seconds; `inline` names local detectors that are quick on short texts whatever is in them.

        `categories` are those that the policy knows, by detector; `tell` hears of each change of a detector's breaker.
        """
        self._locals: dict[str, Local] = {}
        self._windowed: dict[str, Windowed] = {}
        judges: dict[str, Remote] = {}
        for name, detector in detectors.items():
            if is_local(detector):
                self._locals[name] = detector
            elif is_windowed(detector):
                self._windowed[name] = detector
            elif is_remote(detector):
                judges[name] = detector
        self._timeouts = dict(timeouts)
        self.inline = inline & self._locals.keys()
        self.windowed = frozenset({*self._windowed, *judges})
        self._cache = cache if cache is not None else Cache(0)
        self._observe = observe
        self._workers = workers if workers is not None else Workers()
        self._categories = dict(categories or {})
        self._questions = Questions(judges, self._timeouts, self._categories)
        self._trials = Trials(detectors, self._ask, tell, breaker)
        self._prefilters: dict[tuple[str, ...], Prefilter] = {}
        self._versions = Versions(detectors, self._categories)

    def has(self, detector: str) -> bool:
        return detector in self._locals or detector in self.windowed

    @property
    def load(self) -> tuple[int, int]:
        """Pieces of work that wait for a thread, and threads that hang."""
        return self._workers.waiting, self._workers.lost

    def versions(self, detectors: frozenset[str]) -> Mapping[str, str]:
        """The versions of the models and judges among some detectors: those that a policy's hash does not tell."""
        return {name: self._of(name).version for name in sorted(detectors & self.windowed)}

    def behind(self, detector: str) -> int:
        """How far a local detector looks back."""
        return self._locals[detector].behind

    def state(self, detector: str) -> State:
        """Whether a detector is asked."""
        return self._trials.state(detector)

    def why(self, detector: str) -> str:
        """In words, why a detector last gave no answer."""
        return self._questions.why(detector) or self._trials.cause(detector) or ""

    async def end(self) -> None:
        """Close the connections to judges: before `close`, on the loop that used them."""
        await self._questions.end()

    def close(self) -> None:
        self._trials.close()
        self._workers.close()

    def leave(self) -> None:
        """Let trials, threads and connections end, and wait for none; from any thread."""
        self._trials.leave()
        self._workers.leave()
        self._questions.leave()

    def scan_now(self, detectors: tuple[str, ...], text: str, start: int, final: bool) -> int | Sequence[Scan | Unknown]:
        """Have local detectors look at normalised text, here and now. For inline ones, and short texts.

        Where none of them finds anything: how far all are done. Else what each says.
        """
        prefilter = self._prefilters.get(detectors) or self._prefilter(detectors)
        hold = quiet(prefilter, text, start, final)
        if hold is not None and len(prefilter.covers) == len(detectors):
            return hold
        covered = prefilter.covers if hold is not None else frozenset()
        nothing = Scan((), hold or 0)
        return together([nothing if one in covered else self._scan_one(one, text, start, final) for one in detectors])

    def warm(self, wanted: Iterable[tuple[frozenset[str], bool]]) -> None:
        """Build what a first request would wait for: prefilters of sets of detectors, and whether what they read grows."""
        for names, grows in wanted:
            for some in (names - self.windowed, names & self.inline):
                detectors = tuple(sorted(some))
                prefilter = self._prefilters.get(detectors) or self._prefilter(detectors)
                prefilter.warm(final=True)
                if grows:
                    prefilter.warm(final=False)

    def _prefilter(self, detectors: tuple[str, ...]) -> Prefilter:
        """The prefilter of some detectors: of those that are inline, for others may be anything."""
        found = self._prefilters[detectors] = Prefilter(self._locals[one] for one in detectors if one in self.inline)
        return found

    def _scan_one(self, detector: str, text: str, start: int, final: bool) -> Scan | Unknown:
        local = self._locals.get(detector)
        if local is None:
            return self._unknown(detector, Cause.UNAVAILABLE, 0.0)
        begun = time.perf_counter()
        result = scan(local, text, start, final, self._categories.get(detector))
        seconds = time.perf_counter() - begun
        if isinstance(result, Unknown) or seconds > _SLOW:
            # The usual look at a chunk takes microseconds, and counting it would take as long.
            self._observe(detector, seconds, result.cause if isinstance(result, Unknown) else None)
        return result

    async def scan(
        self, detectors: tuple[str, ...], inline: frozenset[str], text: str, start: int, final: bool
    ) -> int | Sequence[Scan | Unknown]:
        """The same; those that are not `inline` off the event loop, and with their time-outs."""
        results: list[Scan | Unknown] = []
        for detector in detectors:
            local = self._locals.get(detector)
            if local is None or detector in inline:
                results.append(self._scan_one(detector, text, start, final))
            else:
                known = self._categories.get(detector)
                results.append(await self._run(detector, partial(scan_once, local, text, start, final, known)))
        return together(results)

    async def examine(
        self, texts: Sequence[str], wanted: frozenset[str], tenant: str, window: int, asked: Sequence[Asked] = (),
        before: str = "",
    ) -> tuple[Examined, ...]:
        """Have whole texts judged by all wanted detectors, each detector once for all of them.

        A text that all of them have judged before is not judged again. `asked`, one a text (else all are prompts, and for all),
        and `before`, which stands before each text that is itself a window, are for window detectors alone.
        """
        if not asked or self.windowed.isdisjoint(wanted):
            return await self._examine(texts, wanted, tenant, window, Role.PROMPT, before)
        groups = {kind: [text for text, one in zip(texts, asked, strict=True) if one == kind] for kind in dict.fromkeys(asked)}
        every = await asyncio.gather(
            *[self._examine(some, wanted - self.windowed | names & wanted, tenant, window, role, before)
              for (role, names), some in groups.items()]
        )
        found = {
            (kind, text): one
            for (kind, some), examined in zip(groups.items(), every, strict=True)
            for text, one in zip(some, examined, strict=True)
        }
        return tuple([found[(kind, text)] for kind, text in zip(asked, texts, strict=True)])

    async def _examine(
        self, texts: Sequence[str], wanted: frozenset[str], tenant: str, window: int, role: Role, before: str
    ) -> tuple[Examined, ...]:
        """The same, of texts of one role."""
        version = self._versions.all(wanted, window, role)
        examined: dict[str, Examined] = {}
        missing: dict[str, bytes] = {}
        for number, text in enumerate(dict.fromkeys(texts), 1):
            if not number % BREATH:
                await asyncio.sleep(0)
            fingerprint = self._cache.fingerprint(tenant, text, before)
            kept = self._cache.get(fingerprint, version)
            if isinstance(kept, Examined):
                examined[text] = kept
            else:
                missing[text] = fingerprint
        self._cache.count(len(examined), len(missing))
        if missing:
            ready: dict[str, _Text] = {}
            for number, (text, fingerprint) in enumerate(missing.items(), 1):
                if not number % BREATH:
                    await asyncio.sleep(0)
                prepare = partial(self._ready, text, tenant, window, fingerprint, role, before)
                ready[text] = await asyncio.to_thread(prepare) if len(text) > PIECE else prepare()
            for text, one in (await self._judged(ready, sorted(wanted))).items():
                examined[text] = one
                if not any(one.unknown):
                    self._cache.put(missing[text], version, one, one.weight)
        return tuple([examined[text] for text in texts])

    def _of(self, name: str) -> Local | Windowed | Remote:
        judges: Mapping[str, Local | Windowed | Remote] = self._questions.judges
        return next(some[name] for some in (self._locals, self._windowed, judges) if name in some)

    async def _judged(self, ready: Mapping[str, _Text], names: Sequence[str]) -> dict[str, Examined]:
        """Have texts judged that are not known yet."""
        here: tuple[str, ...] = ()
        if sum(map(len, ready)) <= INLINE_LENGTH:
            here = tuple([name for name in names if name in self.inline])
        answers: dict[str, Mapping[str, tuple[Answer, ...]]] = {name: {} for name in here}
        silent: dict[str, Examined] = {}
        if here:
            prefilter = self._prefilters.get(here) or self._prefilter(here)
            loud = {text: one for text, one in ready.items() if is_loud(prefilter, one.views)}
            if len(prefilter.covers) == len(names):
                silent = {text: Examined.nothing(one.windows) for text, one in ready.items() if text not in loud}
                if not loud:
                    return silent
                ready = loud
            answers = {name: self._here(name, loud if name in prefilter.covers else ready) for name in here}
        elsewhere = [name for name in names if name not in answers]
        if elsewhere:
            found = await asyncio.gather(*(self._elsewhere(name, ready) for name in elsewhere))
            answers.update(zip(elsewhere, found, strict=True))
        return silent | {
            text: gathered(one.windows, [(answers[name].get(text, _NOTHING), name in self.windowed) for name in names])
            for text, one in ready.items()
        }

    # ---- one detector, many texts --------------------------------------------------------------------------------

    def _ready(self, text: str, tenant: str, window: int, fingerprint: bytes, role: Role, before: str) -> _Text:
        return _Text(text, readings(text), windows(text, window), tenant, fingerprint, role, before)

    def _here(self, name: str, ready: Mapping[str, _Text]) -> dict[str, tuple[Answer, ...]]:
        if not ready:
            return {}
        local = self._locals[name]
        begun = time.perf_counter()
        known = self._categories.get(name)
        answers: dict[str, tuple[Answer, ...]] = {text: (whole(local, one.views, known),) for text, one in ready.items()}
        cause = cause_of([answer for one in answers.values() for answer in one])
        self._observe(name, time.perf_counter() - begun, cause)
        return answers

    async def _elsewhere(self, name: str, ready: Mapping[str, _Text]) -> dict[str, tuple[Answer, ...]]:
        if name in self._locals:
            version = self._versions.one(name)
            pieces: dict[str, tuple[bytes, ...]] = {text: (one.fingerprint,) for text, one in ready.items()}
            jobs: dict[bytes, _Job] = {one.fingerprint: one.views for one in ready.values()}
        elif name in self.windowed:
            version = self._versions.one(name, next(iter(ready.values())).role)  # they are of one role
            pieces, jobs = self._pieces(ready)
        else:
            self._unknown(name, Cause.UNAVAILABLE, 0.0)
            lost = Unknown(name, Cause.UNAVAILABLE)
            return dict.fromkeys(ready, (lost,))
        known: dict[bytes, Answer] = {}
        for key in jobs:
            kept = self._cache.get(key, version)
            if isinstance(kept, tuple):
                known[key] = kept
        missing = [key for key in jobs if key not in known]
        self._cache.count(len(known), len(missing))
        if missing:
            batch = [jobs[key] for key in missing]
            told = name in self._questions.judges
            at_once = max(TURN, self._windowed[name].batch) if name in self._windowed else len(batch)
            found = await (self._inquire(name, batch) if told else by_turns(
                lambda some: self._run(name, partial(self._judge, name, some)), batch, at_once))
            for at, key in enumerate(missing):
                answer = found if isinstance(found, Unknown) else found[at]
                known[key] = answer
                if not isinstance(answer, Unknown):
                    self._cache.put(key, version, answer, FINDING * len(answer))
        return {text: tuple(known[key] for key in keys) for text, keys in pieces.items()}

    def _pieces(self, ready: Mapping[str, _Text]) -> tuple[dict[str, tuple[bytes, ...]], dict[bytes, _Job]]:
        """The windows of all texts, each once, and the keys of each text's windows."""
        pieces: dict[str, tuple[bytes, ...]] = {}
        jobs: dict[bytes, _Job] = {}
        for text, one in ready.items():
            keys: list[bytes] = []
            for span in one.windows:
                piece = text[span.start : span.end]
                before = context(text[max(0, span.start - CONTEXT) : span.start]) if span.start else one.before
                key = one.fingerprint if len(piece) == len(text) else self._cache.fingerprint(one.tenant, piece, before)
                keys.append(key)
                jobs[key] = Passage(piece, one.role, before)
            pieces[text] = tuple(keys)
        return pieces, jobs

    def _judge(self, name: str, batch: Sequence[_Job], beat: Beat) -> Sequence[Answer] | Unknown:
        """In a thread: a detector's answers, checked; raises nothing but GivenUp."""
        known = self._categories.get(name)
        if (local := self._locals.get(name)) is not None:
            return [by_pieces(local, one, beat, known) for one in batch if not isinstance(one, Passage)]
        return detected(self._windowed[name], [one for one in batch if isinstance(one, Passage)], beat, known)

    async def _run(self, name: str, work: Callable[[Beat], T | Unknown]) -> T | Unknown:
        if not self._asks(name):
            return self._unknown(name, Cause.UNAVAILABLE, 0.0)
        begun = time.perf_counter()
        try:
            result: T | Unknown = await self._workers.run(work, self._timeouts.get(name, TIMEOUT), name)
        except TimeoutError:
            result = Unknown(name, Cause.TIMEOUT)
        except Hung:
            result = Unknown(name, Cause.UNAVAILABLE)
        except Overloaded:
            # Others' work or others' hung threads: that tells nothing of this detector.
            return self._unknown(name, Cause.UNAVAILABLE, time.perf_counter() - begun)
        self._observe(name, time.perf_counter() - begun, cause_of(result))
        self._trials.heard(name, result)
        return result

    async def _inquire(self, name: str, batch: Sequence[_Job]) -> Sequence[Answer] | Unknown:
        """What a judge over the network says of passages."""
        if not self._asks(name):
            return self._unknown(name, Cause.UNAVAILABLE, 0.0)
        begun = time.perf_counter()
        passages = [one for one in batch if isinstance(one, Passage)]
        answers = await self._questions.ask(name, passages, partial(self._asks, name))
        self._observe(name, time.perf_counter() - begun, cause_of(answers))
        self._trials.heard(name, answers)
        return answers

    def _asks(self, name: str) -> bool:
        return self._trials.state(name) is State.CLOSED

    async def _ask(self, name: str) -> object:
        """Ask a detector about a text of ours, for its breaker."""
        if name in self._questions.judges:
            return await self._questions.ask(name, [Passage(TRIAL, trial=True)])
        work = partial(self._judge, name, [Passage(TRIAL, trial=True) if name in self._windowed else readings(TRIAL)])
        while True:
            try:
                return await self._workers.run(work, self._timeouts.get(name, TIMEOUT), name)
            except (TimeoutError, Hung):
                return Unknown(name, Cause.TIMEOUT)
            except Overloaded:
                await asyncio.sleep(_BUSY)

    def _unknown(self, name: str, cause: Cause, seconds: float) -> Unknown:
        self._observe(name, seconds, cause)
        return Unknown(name, cause)
