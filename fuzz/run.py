"""Run the targets in turn for so many minutes, and print a line for each. Exit 1 where anything broke, 2 for wrong use."""

from __future__ import annotations

import argparse
import base64
import faulthandler
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz.engine import Campaign
from fuzz.target import Target
from fuzz.targets import TARGETS

SLICE = 2.0
"""Seconds that a target gets at a time."""
MEMORY = 3 << 30
"""Bytes of address space beyond what the start takes: an input that asks for more is a finding (MemoryError)."""


def main(argv: Sequence[str] | None = None, targets: Sequence[Target] = TARGETS) -> int:
    parser = argparse.ArgumentParser(prog="fuzz.run",
                                     description="Mutated inputs against the parsers and readers, each with a law.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of all targets together (default 10)")
    parser.add_argument("--only", action="append", metavar="NAME", help="one target; may be given several times")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same inputs; else the time of day")
    parser.add_argument("--executions", type=int, metavar="N", help="so many inputs a target instead of minutes")
    parser.add_argument("--out", type=Path, default=Path("fuzz/findings"), help="the folder of findings")
    parser.add_argument("--repeat", type=Path, metavar="FILE",
                        help="run the input of a finding, or the bytes of a file with --only")
    parser.add_argument("--list", action="store_true", help="the targets and their laws")
    parser.add_argument("--json", action="store_true", help="one object a target")
    args = parser.parse_args(argv)
    by_name = {target.name: target for target in targets}
    unknown = sorted(set(args.only or ()) - set(by_name))
    if unknown:
        parser.error(f"unknown targets {', '.join(unknown)}; known: {', '.join(by_name)}")
    if args.minutes <= 0 or (args.executions is not None and args.executions <= 0):
        parser.error("--minutes and --executions: expected a number above 0")
    if args.list:
        for target in targets:
            print(f"{target.name:<12} {target.law}")
        return 0
    if args.repeat:
        return _repeat(args.repeat, by_name, (args.only or [None])[0])
    seed = args.seed if args.seed is not None else int(time.time())
    chosen = [by_name[name] for name in args.only] if args.only else list(targets)
    campaigns = [Campaign(target, seed) for target in chosen]
    if not args.json:
        print(f"seed {seed}", file=sys.stderr)
    _work(campaigns, args.minutes * 60, args.executions, args.out)
    return _report(campaigns, args.out, args.json)


def limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc").exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = size + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _work(campaigns: Sequence[Campaign], seconds: float, executions: int | None, out: Path) -> None:
    """In turn, so that each has had its share whenever it ends."""
    out.mkdir(parents=True, exist_ok=True)
    for campaign in campaigns:
        campaign.inflight = out / f"{campaign.target.name}.inflight"
    try:
        if executions is not None:
            for campaign in campaigns:
                campaign.work(executions=executions)
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # Whoever has had least goes next, for a target may overrun its turn by one input.
            least = min(campaigns, key=lambda one: one.seconds)
            least.work(seconds=min(SLICE, left, max(0.05, seconds / len(campaigns) / 4)))
    finally:
        # They are left behind only where the process dies in the middle of one.
        for campaign in campaigns:
            if campaign.inflight is not None:
                campaign.inflight.unlink(missing_ok=True)


def _report(campaigns: Sequence[Campaign], out: Path, as_json: bool) -> int:
    if not as_json:
        print(f"{'target':<12} {'executions':>10} {'per second':>10} {'corpus':>7} {'longest ms':>10} {'findings':>8}")
    for one in campaigns:
        files = [str(path) for path in one.write(out)]
        rate = one.executions / one.seconds if one.seconds else 0.0
        if as_json:
            print(json.dumps({"target": one.target.name, "seed": one.seed, "executions": one.executions, "per_second": round(rate,
            1),
                              "corpus": len(one.corpus), "longest_ms": round(one.longest * 1000, 1), "findings": files}))
            continue
        print(f"{one.target.name:<12} {one.executions:>10} {rate:>10.0f} {len(one.corpus):>7} {one.longest * 1000:>10.1f} "
              f"{len(files):>8}")
        for path, finding in zip(files, one.findings.values(), strict=True):
            print(f"  {path}: {finding.key}")
    return 1 if any(one.findings for one in campaigns) else 0


def _repeat(path: Path, targets: dict[str, Target], name: str | None) -> int:
    raw = path.read_bytes()
    if name is None:
        found = json.loads(raw)
        name, raw = found["target"], base64.b64decode(found["input"])
    outcome, finding = Campaign(targets[str(name)], 0).attempt(raw)
    print(finding.told if finding is not None else f"nothing broke: {outcome}")
    return 1 if finding is not None else 0


if __name__ == "__main__":
    faulthandler.enable()
    limit_memory()
    sys.exit(main())
