"""Every fault: a policy that has it and nothing else, and where and how it is told."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pytest

from moderation.policy.faults import CODES, Fault, Faults, Grade, Place
from tests.policy.doubles import compiled

GOOD = """
format: 1
policy: {id: p}
detectors:
  cards: {kind: pii}
rules:
  - id: cards
    phases: [input]
    when: {detector: cards}
    then: block
    tests:
      - {name: one, phase: input, given: {cards: {personal_data: high}}, expect: {action: block}}
      - {name: none, phase: input, given: {cards: {}}, expect: {action: allow}}
"""


@dataclass(frozen=True)
class Row:
    code: str
    note: str
    old: str
    """What of GOOD is replaced; empty to append."""
    new: str
    at: tuple[int, int]
    says: str
    grade: Grade = Grade.ERROR
    files: tuple[tuple[str, bytes], ...] = ()


_W = Grade.WARNING
_END = "rules:\n"
ROWS = [
    Row("QP001", "an action misspelt", "then: block", "then: blokc", (9, 11), "'blokc' is not an action. Did you mean 'block'?"),
    Row("QP001", "a phase misspelt", "phases: [input]", "phases: [inpt]", (7, 14), "Did you mean 'input'?"),
    Row("QP001", "nothing near", "then: block", "then: xyzzy", (9, 11), "Allowed: allow, flag, pseudonymise, redact, block."),
    Row("QP001", "a level in a condition", "{detector: cards}", "{detector: cards, at_least: hihg}", (8, 39),
        "Did you mean 'high'?"),
    Row("QP001", "a channel", "{detector: cards}", "{detector: cards, channel: usr}", (8, 38), "Did you mean 'user'?"),
    Row("QP002", "a second mapping in a line", "then: block", "then: block: x", (9, 16), "a ':' here starts a second mapping"),
    Row("QP002", "a quote that never ends", "id: cards", 'id: "cards', (13, 1), "the file ends inside a quoted text"),
    Row("QP002", "a directive", "format: 1", "%YAML 1.1\n---\nformat: 1", (1, 1), "a %YAML or %TAG directive"),
    Row("QP002", "a second document", "", "---\nx: 1\n", (13, 1), "a second document"),
    Row("QP002", "a control character", "id: cards", "id: ca\x01rds", (6, 11), "a control character"),
    Row("QP002", "a line separator of old YAML", "id: cards", 'id: "ca\u2028rds"', (6, 12), "the character U+2028"),
    Row("QP003", "a tab for indentation", "    then: block", "\tthen: block", (9, 1), "tab"),
    Row("QP003", "a tab after a colon", "then: block", "then:\tblock", (9, 10), "a tab"),
    Row("QP004", "an anchor", "then: block", "then: &x block", (9, 11), "an anchor (&x)"),
    Row("QP005", "an alias", "", "messages: {m: *x}\n", (13, 15), "an alias (*x)"),
    Row("QP006", "a tag", "then: block", "then: !!str block", (9, 11), "a tag"),
    Row("QP006", "the tag of nothing", "then: block", "then: ! block", (9, 11), "a tag"),
    Row("QP007", "a key twice", "    then: block", "    then: block\n    then: flag", (10, 5), "'then' stands in line 9 already"),
    Row("QP008", "a date", "{id: p}", "{id: p, review_by: 2027-03-31}", (2, 28), 'Write "2027-03-31"'),
    Row("QP009", "Norway", "{id: p}", "{id: p, languages: [en, no]}", (2, 33), 'Write "no"'),
    Row("QP009", "Norway as a key", "", "messages: {m: {no: nei}}\n", (13, 16), 'Write "no"'),
    Row("QP009", "on as a term", "", "word_lists: {l: {words: [On]}}\n", (13, 26), 'Write "On"'),
    Row("QP010", "a key misspelt", "then: block", "then: block\n    at_lest: high", (10, 5),
        "'at_lest' is not a key of a rule. Did you mean"),
    Row("QP010", "patterns for pii", "{kind: pii}", "{kind: pii, patterns: [email]}", (4, 32), "belongs to the kind patterns"),
    Row("QP010", "entities for words", "{kind: pii}",
        "{kind: patterns, patterns: [email], categories: personal_data, entities: [X]}", (4, 83),
        "belongs to the kinds pii and secrets"),
    Row("QP011", "a number for a text", "{id: p}", "{id: p, title: 12}", (2, 24),
        "policy.title must be a text in quotes, not '12'"),
    Row("QP011", "a list for a mapping", "{detector: cards}", "[{detector: cards}]", (8, 11),
        "a condition must be a mapping, not a list"),
    Row("QP011", "a mapping for a list", "phases: [input]", "phases: {input: 1}", (7, 13),
        "phases must be a list, not a mapping"),
    Row("QP011", "an empty list", "phases: [input]", "phases: []", (7, 13), "a list that is not empty"),
    Row("QP011", "nothing at all", "then: block", "then:", (9, 10), "must be one of"),
    Row("QP011", "an atom beside a group", "{detector: cards}", "{any: [{detector: cards}], route: x}", (8, 38),
        "'any' must stand alone"),
    Row("QP011", "an empty group", "{detector: cards}", "{all: []}", (8, 17), "must be a list that is not empty"),
    Row("QP011", "in and not_in", "{detector: cards}", "{detector: {in: [cards], not_in: [cards]}}", (8, 22),
        "either 'in' or 'not_in'"),
    Row("QP011", "a list as a key", "{id: p}", "{id: p, [q]: 1}", (2, 17), "a key must be a single word"),
    Row("QP011", "two categories", "{kind: pii}", "{kind: pii, categories: [personal_data, x]}", (4, 50), "gives one category"),
    Row("QP011", "yes for true", "", "word_lists: {l: {words: [a], ignore_case: yes}}\n", (13, 43),
        "ignore_case must be true or false, not 'yes'"),
    Row("QP012", "an id with a space", "{id: p}", "{id: my policy}", (2, 14), "'my policy' cannot be a policy's id"),
    Row("QP012", "a language", "{id: p}", "{id: p, languages: [English]}", (2, 29), "'English' cannot be a language"),
    Row("QP012", "two lines for a title", "{id: p}", '{id: p, title: "a\\nb"}', (2, 24), "must be one line"),
    Row("QP013", "a label too long", "then: block", f"then: block\n    label: {'x' * 81}", (10, 12), "the most is 80"),
    Row("QP014", "thirteen deep", "{detector: cards}", "{all: [" * 5 + "{detector: cards}" + "]}" * 5, (8, 45),
        "nested deeper than 12"),
    Row("QP015", "no action", "    then: block\n", "", (6, 5), "a rule lacks 'then'"),
    Row("QP015", "patterns without patterns", "{kind: pii}", "{kind: patterns, categories: personal_data}", (4, 10),
        "lacks 'patterns'"),
    Row("QP015", "an empty condition", "{detector: cards}", "{at_least: high}", (8, 11), "a condition needs one of"),
    Row("QP016", "a time-out of nothing", "{kind: pii}", "{kind: pii, timeout: 0ms}", (4, 31), "expected 1ms to 60s"),
    Row("QP016", "three of two", "{detector: cards}", "{at_least_n: {n: 3, of: [{detector: cards}, {detector: cards}]}}",
        (8, 28), "expected 1 to 2"),
    Row("QP016", "format 2", "format: 1", "format: 2", (1, 9), "expected 1 to 1"),
    Row("QP016", "less than half a year", "", "defaults: {keep: {days: 30}}\n", (13, 25), "expected 184"),
    Row("QP017", "a merge key", "{id: p}", "{id: p, <<: {}}", (2, 17), "a merge key"),
    Row("QP018", "a block of format 1", "", "exceptions: []\n", (13, 1),
        "format 1 has 'exceptions' in a policy, this version does not"),
    Row("QP018", "an action", "then: block", "then: review", (9, 11), "format 1 has 'review' as an action"),
    Row("QP018", "a key of a rule", "then: block", "then: block\n    floor: true", (10, 5), "format 1 has 'floor' in a rule"),
    Row("QP018", "content kept", "", "defaults: {keep: {content: sealed}}\n", (13, 28), "format 1 has 'sealed'"),
    Row("QP019", "no such file", "", "word_lists: {l: {file: lists/x.txt}}\n", (13, 24),
        "'lists/x.txt' cannot be read: No such file"),
    Row("QP019", "a file outside", "", "word_lists: {l: {file: ../x.txt}}\n", (13, 24), "must lie below the policy's folder"),
    Row("QP020", "a detector", "{detector: cards}", "{detector: card}", (8, 22),
        "no detector is called 'card'. Did you mean 'cards'?"),
    Row("QP020", "a category", "{detector: cards}", "{category: personal}", (8, 22), "Did you mean 'personal_data'?"),
    Row("QP020", "an entity", "{detector: cards}", "{entity: EMAIL_ADRESS}", (8, 20), "Did you mean 'EMAIL_ADDRESS'?"),
    Row("QP020", "a message", "then: block", "then: block\n    message: nope", (10, 14), "no message is called 'nope'."),
    Row("QP020", "a regulation", "then: block", "then: block\n    cite: gdpr", (10, 11), "no regulation is called 'gdpr'."),
    Row("QP020", "a pattern", "{kind: pii}", "{kind: patterns, categories: personal_data, patterns: [emial]}", (4, 65),
        "Did you mean 'email'?"),
    Row("QP020", "an entity of another region", "{kind: pii}", "{kind: pii, regions: [cn], entities: [US_SSN]}", (4, 48),
        "is not of these regions"),
    Row("QP020", "a default language that is none", "{id: p}", "{id: p, default_language: de, languages: [en]}", (2, 50),
        "'de' is not among"),
    Row("QP020", "what no detector gives together", "{detector: cards}", "{detector: cards, entity: SECRET_JWT}", (0, 0),
        "together"),
    Row("QP021", "a detector for nothing", "  cards: {kind: pii}", "  cards: {kind: pii}\n  keys: {kind: secrets}", (5, 3),
        "never used", _W),
    Row("QP021", "a word list", "", "word_lists: {l: {words: [a]}}\n", (13, 14), "the word list 'l' is never used", _W),
    Row("QP021", "a message", "", "messages: {m: {en: x}}\n", (13, 12), "the message 'm' is never used", _W),
    Row("QP021", "a regulation", "", "regulations: {r: {title: x}}\n", (13, 15), "the regulation 'r' is never used", _W),
    Row("QP022", "a reserved word", "  - id: cards", "  - id: unscanned_media", (6, 5), "the sidecar's own word"),
    Row("QP022", "a pattern twice", "{kind: pii}", "{kind: patterns, categories: personal_data, patterns: [email, email]}",
        (4, 72), "twice"),
    Row("QP030", "a threshold above one", "{kind: pii}", "{kind: pii, levels: {high: 1.1}}", (4, 37),
        "expected a number from 0 to 1"),
    Row("QP030", "thresholds that fall", "{kind: pii}", "{kind: pii, levels: {low: 0.5, high: 0.4}}", (4, 47),
        "is below that of low"),
    Row("QP030", "a level that no score reaches", "then: block", "then: block\n    at_least: critical", (8, 11),
        "cannot reach the level critical"),
    Row("QP031", "a threshold that nothing reaches", "", "", (0, 0), "no score of the model reaches the threshold of medium", _W),
    Row("QP032", "no such model", "", "", (0, 0), "the detector 'guard' has no model: none is called 'smal'."),
    Row("QP032", "another model than is pinned", "", "", (0, 0), "the model that lies there is another than"),
    Row("QP040", "a regex that cannot run", "", "", (0, 0), "the pattern cannot run: it has no end"),
    Row("QP040", "a term of nothing", "", 'word_lists: {l: {words: ["\\u200b", a]}}\n', (13, 26), "empty once it is normalised"),
    Row("QP040", "an empty list", "", "word_lists: {l: {file: l.txt}}\n", (13, 17), "has no terms",
        files=(("l.txt", b"# none\n"),)),
    Row("QP042", "a pattern without examples", "", "", (0, 0), "has no examples", _W),
    Row("QP043", "an example that is not found", "", "", (0, 0), "does not find this example"),
    Row("QP105", "a guard that fails open", "", "", (0, 0), "has 'keys' under `none`", _W),
    Row("QP106", "a rule that allows", "", "", (0, 0), "allows, and so does nothing", _W),
    Row("QP301", "no test that must match",
        "      - {name: one, phase: input, given: {cards: {personal_data: high}}, expect: {action: block}}\n", "", (6, 5),
        "has no test that must match"),
    Row("QP301", "no test that must not", "      - {name: none, phase: input, given: {cards: {}}, expect: {action: allow}}\n", "",
        (6, 5), "has no test that must not match"),
    Row("QP301", "a monitored rule",
        "      - {name: none, phase: input, given: {cards: {}}, expect: {action: allow}}\n    mode: monitor\n", "", (0, 0), "",
        _W),
    Row("QP302", "no expectation", ", expect: {action: allow}", "", (12, 9), "a test must say what it expects"),
    Row("QP302", "an action that cannot come", "given: {cards: {}}, expect: {action: allow}",
        "given: {cards: {}}, expect: {action: redact}", (0, 0), "can only come to"),
    Row("QP302", "a rule that is none", "expect: {action: allow}", "expect: {action: allow, rules: [crads]}", (12, 88),
        "Did you mean 'cards'?"),
    Row("QP302", "a detector that is none", "given: {cards: {}}", "given: {card: {}}", (12, 44), "Did you mean 'cards'?"),
    Row("QP302", "a level that the detector has not", "personal_data: high", "personal_data: critical", (11, 66),
        "has no level critical"),
    Row("QP302", "a category that it does not give", "personal_data: high", "secret: high", (11, 51), "does not give 'secret'"),
    Row("QP302", "signals and a text", "given: {cards: {}}", "text: x, given: {cards: {}}", (12, 52),
        "either a text or given signals"),
    Row("QP501", "a severe rule on a soft detector", "", "", (0, 0), "has severity high, and the on_failure of 'cards' is flag",
        _W),
    Row("QP503", "a rule over the answer", "", "", (0, 0), "held to the end", _W),
    Row("QP504", "nothing to redact", "", "", (0, 0), "there is nothing to redact"),
    Row("QP504", "a detector without spans", "", "", (0, 0), "without a span"),
    Row("QP505", "a language that it does not read", "", "", (0, 0), "does not support en", _W),
    Row("QP506", "a name that stays", "", "", (0, 0), "pseudonymises in output", _W),
    Row("QP601", "no text in the default language", "", "", (0, 0), "lacks the default language 'en'"),
    Row("QP601", "no text in another", "", "", (0, 0), "lacks the language 'zh'", _W),
    Row("QP601", "an unknown placeholder", "", "", (0, 0), "'{name}' is no placeholder. Known: {decision_id}."),
    Row("QP603", "cited by monitored rules alone", "", "", (0, 0), "no enforced rule cites the regulation 'r'", _W),
    Row("QP603", "a severe rule that cites nothing", "", "", (0, 0), "cites nothing", _W),
]

# What more than one place of GOOD must change for: note -> (replacements, place).
CHANGES: dict[str, tuple[list[tuple[str, str]], tuple[int, int]]] = {
    "a threshold that nothing reaches": ([
        ("  cards: {kind: pii}", "  cards: {kind: pii}\n  guard: {kind: model, engine: builtin, model: small, levels: {medium: 1}}"),
        ("{detector: cards}", "{detector: [cards, guard]}"),
    ], (5, 72)),
    "no such model": ([
        ("  cards: {kind: pii}", "  cards: {kind: pii}\n  guard: {kind: model, engine: builtin, model: smal}"),
        ("{detector: cards}", "{detector: [cards, guard]}"),
    ], (5, 48)),
    "another model than is pinned": ([
        ("  cards: {kind: pii}", "  cards: {kind: pii}\n  guard: {kind: model, engine: onnx, model: small, pin: 'sha256:" + "4" * 64 + "'}"),
        ("{detector: cards}", "{detector: [cards, guard]}"),
    ], (5, 57)),
    "what no detector gives together": ([
        ("  cards: {kind: pii}", "  cards: {kind: pii}\n  keys: {kind: secrets}"),
        ("{detector: cards}", "{any: [{detector: [cards, keys]}, {detector: cards, entity: SECRET_JWT}]}"),
    ], (9, 11)),
    "a regex that cannot run": ([
        ("{kind: pii}",
         "{kind: patterns, categories: personal_data, patterns: " "[{name: n, regex: 'a+', must: [a], must_not: [b]}]}"),
    ], (4, 82)),
    "a pattern without examples": ([
        ("{kind: pii}", "{kind: patterns, categories: personal_data, patterns: [{name: n, regex: a}]}"),
    ], (4, 65)),
    "an example that is not found": ([
        ("{kind: pii}",
         "{kind: patterns, categories: personal_data, patterns: " "[{name: n, regex: a, must: [b], must_not: [c]}]}"),
    ], (4, 92)),
    "a guard that fails open": ([
        ("  cards: {kind: pii}", "  cards: {kind: pii}\n  keys: {kind: secrets, on_failure: ignore}"),
        ("{detector: cards}", "{all: [{detector: cards}, {none: [{detector: keys}]}]}"),
    ], (7, 5)),
    "a rule that allows": ([
        ("then: block", "then: allow"),
        ("expect: {action: block}", "expect: {action: allow, rules: [cards]}"),
    ], (6, 5)),
    "a monitored rule": ([
        ("      - {name: none, phase: input, given: {cards: {}}, expect: {action: allow}}\n", ""),
        ("then: block", "then: block\n    mode: monitor"),
        ("expect: {action: block}", "expect: {action: allow, would: block}"),
    ], (6, 5)),
    "an action that cannot come": ([
        ("given: {cards: {}}, expect: {action: allow}", "given: {cards: {}}, expect: {action: allow, rules: []}"),
        ("expect: {action: block}", "expect: {action: redact}"),
    ], (11, 9)),
    "a severe rule on a soft detector": ([
        ("{kind: pii}", "{kind: pii, on_failure: flag}"),
        ("then: block", "then: block\n    severity: high" "\n    cite: r"),
        ("detectors:", "regulations: {r: {title: x}}\ndetectors:"),
    ], (7, 5)),
    "a rule over the answer": ([
        ("phases: [input]", "phases: [input, output]\n    over: answer"),
    ], (6, 5)),
    "nothing to redact": ([
        ("{detector: cards}", "{any: [{detector: cards}, {route: x}]}"),
        ("then: block", "then: redact"),
        ("expect: {action: block}", "expect: {action: redact}"),
    ], (6, 5)),
    "a detector without spans": ([
        ("{kind: pii}", "{kind: pii, gives_spans: false}"),
        ("then: block", "then: redact"),
        ("expect: {action: block}", "expect: {action: redact}"),
    ], (6, 5)),
    "a language that it does not read": ([
        ("{kind: pii}", "{kind: pii, languages: [zh]}"),
    ], (4, 3)),
    "a name that stays": ([
        ("phases: [input]", "phases: [input, output]"),
        ("then: block", "then: pseudonymise"),
        ("expect: {action: block}", "expect: {action: pseudonymise}"),
    ], (6, 5)),
    "no text in the default language": ([
        ("then: block", "then: block\n    message: m"),
        ("rules:\n", "messages: {m: {zh: x}}\nrules:\n"),
    ], (5, 12)),
    "no text in another": ([
        ("then: block", "then: block\n    message: m"),
        ("{id: p}", "{id: p, languages: [en, zh]}"),
        ("rules:\n", "messages: {m: {en: x}}\nrules:\n"),
    ], (5, 12)),
    "an unknown placeholder": ([
        ("then: block", "then: block\n    message: m"),
        ("rules:\n", 'messages: {m: {en: "Hello {name}"}}\nrules:\n'),
    ], (5, 20)),
    "cited by monitored rules alone": ([
        ("then: block", "then: block\n    cite: r\n    mode: monitor"),
        ("rules:\n", "regulations: {r: {title: x}}\nrules:\n"),
        ("expect: {action: block}", "expect: {action: allow, would: block}"),
    ], (5, 15)),
    "a severe rule that cites nothing": ([
        ("then: block", "then: block\n    severity: critical"),
    ], (6, 5)),
}  # fmt: skip


def changed(row: Row) -> str:
    text = GOOD.lstrip("\n")
    for old, new in CHANGES[row.note][0] if row.note in CHANGES else [(row.old, row.new)]:
        if old:
            assert old in text, f"{row.note}: {old!r} is not in the policy"
            text = text.replace(old, new, 1)
        else:
            text += new
    return text


def test_the_good_policy_has_no_fault() -> None:
    assert compiled(GOOD).faults == ()
    assert compiled(GOOD).policy is not None


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.code}: {row.note}" for row in ROWS])
def test_the_fault_alone(row: Row) -> None:
    faults = compiled(changed(row), dict(row.files)).faults
    at = CHANGES[row.note][1] if row.note in CHANGES else row.at
    told = [f for f in faults if f.code == row.code]
    assert [(f.line, f.column, f.level) for f in told] == [(*at, row.grade)], "\n".join(map(str, faults))
    assert row.says in told[0].message
    assert "\n" not in str(told[0])
    # What a row adds is used by nothing, whatever else is wrong with it.
    others = {f.code for f in faults} - {row.code, *([] if row.old else ["QP021"])}
    assert not others, "\n".join(map(str, faults))


def test_every_code_has_a_row() -> None:
    beyond = {"QP000", "QP044", "QP304", "QP602"}  # files, detectors at work and the clock are not the compiler's
    assert {row.code for row in ROWS} == set(CODES) - beyond


def test_the_line_that_is_printed() -> None:
    fault = compiled(GOOD.replace("then: block", "then: blokc")).faults[0]
    assert str(fault).startswith("p.yaml:9:11 error QP001 'blokc' is not an action. Did you mean 'block'? Allowed: allow,")


def test_all_faults_in_one_pass_in_the_order_of_the_file() -> None:
    source = textwrap.dedent(GOOD).lstrip("\n")
    for old, new in (
        ("{id: p}", "{id: p, languages: [en, no]}"),
        ("{kind: pii}", "{kind: pii, timeout: 5}"),
        ("[input]", "[inptu]"),
        ("then: block", "then: &a blok"),
    ):
        source = source.replace(old, new)
    source += "rulez: []\n"
    found = compiled(source).faults
    told = [(f.code, f.line) for f in found]
    assert told == [("QP009", 2), ("QP011", 4), ("QP001", 7), ("QP001", 9), ("QP004", 9), ("QP010", 13)]


def test_a_fault_in_a_list_file_stands_in_that_file() -> None:
    head = GOOD.replace("  cards: {kind: pii}", "  cards: {kind: words, categories: personal_data, lists: l}")
    found = compiled(head + "word_lists: {l: {file: lists/l.txt}}\n", {"lists/l.txt": b"one\n  \xe2\x80\x8b\n# two\n"}).faults
    assert [(f.file, f.line, f.column, f.code) for f in found] == [("lists/l.txt", 2, 3, "QP040")]


@pytest.mark.parametrize(("data", "code", "line"), [
    (b"one\n\xff\n", "QP002", 2),
    (b"x" * 201, "QP013", 1),
    (b"# all\n" + b"x" * 201, "QP013", 2),
])  # fmt: skip
def test_a_list_that_cannot_be_read_is_not_told_to_be_empty(data: bytes, code: str, line: int) -> None:
    head = GOOD.replace("  cards: {kind: pii}", "  cards: {kind: words, categories: personal_data, lists: l}")
    found = compiled(head + "word_lists: {l: {file: lists/l.txt}}\n", {"lists/l.txt": data}).faults
    assert [(f.file, f.line, f.code) for f in found] == [("lists/l.txt", line, code)]


@pytest.mark.parametrize("policy", ["p.yaml", "etc/p.yaml", "/etc/m/p.yaml"])
def test_a_list_file_is_told_as_it_can_be_opened(policy: str) -> None:
    faults = Faults(policy)
    faults.add("QP002", Place(3, 1, "lists/l.txt"), "x")
    faults.add("QP002", Place(3, 1), "x")
    folder = policy.removesuffix("p.yaml")
    assert [fault.file for fault in faults.found] == [f"{folder}lists/l.txt", policy]


TYPOS = [
    ("messages: {m: {en: x}}", "mesages: {m: {en: x}}", "then: block\n    message: m", "messages"),
    ("regulations: {m: {title: x}}", "regulation: {m: {title: x}}", "then: block\n    cite: m", "regulations"),
    ("word_lists: {l: {words: [a]}}", "wordlists: {l: {words: [a]}}", "then: block", "word_lists"),
]


@pytest.mark.parametrize(("good", "bad", "then", "meant"), TYPOS)
def test_a_misspelt_section_is_one_fault(good: str, bad: str, then: str, meant: str) -> None:
    source = GOOD.replace("then: block", then)
    if meant == "word_lists":
        source = source.replace("  cards: {kind: pii}", "  cards: {kind: words, categories: personal_data, lists: l}")
    assert compiled(f"{source}{good}\n").faults == ()
    found = compiled(f"{source}{bad}\n").faults
    assert [(f.code, f.line) for f in found] == [("QP010", source.count("\n"))], "\n".join(map(str, found))
    assert f"Did you mean '{meant}'?" in found[0].message


@pytest.mark.parametrize("key", ["policy", "detectors", "rules"])
def test_a_misspelt_section_that_must_be_there_is_not_missing_too(key: str) -> None:
    found = compiled(GOOD.replace(f"\n{key}:", f"\n{key[:-1]}:")).faults
    assert [f.code for f in found] == ["QP010"], "\n".join(map(str, found))


def test_a_misspelt_key_of_a_rule_is_not_missing_too() -> None:
    found = compiled(GOOD.replace("    when:", "    whn:")).faults
    assert [(f.code, f.line) for f in found] == [("QP010", 8)], "\n".join(map(str, found))


def test_a_section_that_is_there_is_not_replaced_by_one_with_a_similar_name() -> None:
    found = compiled(GOOD + "rulez: []\n").faults
    assert [f.code for f in found] == ["QP010"]


@pytest.mark.parametrize(("day", "good"), [
    ("2027-03-31", True), ("2028-02-29", True), ("2000-02-29", True), ("9999-12-31", True),
    ("someday", False), ("2027-13-31", False), ("2027-02-29", False), ("1900-02-29", False), ("2027-00-10", False),
    ("2027-04-31", False), ("2027-3-31", False), ("0000-01-01", False), ("2027-03-31T00:00:00Z", False), ("31.03.2027", False),
])  # fmt: skip
def test_a_review_is_on_a_day_of_the_calendar(day: str, good: bool) -> None:
    made = compiled(GOOD.replace("{id: p}", f'{{id: p, review_by: "{day}"}}'))
    assert [(f.code, f.line, f.column) for f in made.faults] == ([] if good else [("QP008", 2, 28)])
    assert made.review == (Place(2, 28) if good else None)


MUST, NOT = "given: {cards: {personal_data: high}}", "given: {cards: {}}"
PROVEN = [
    # then and mode, the first test, the second, whether it is enough
    ("then: block", f"{MUST}, expect: {{action: block}}", f"{NOT}, expect: {{action: allow, rules: []}}", True),
    ("then: block", f"{MUST}, expect: {{action: block, rules: [cards]}}", f"{NOT}, expect: {{action: allow}}", True),
    ("then: block", f"{MUST}, expect: {{action: block}}", f"{MUST}, expect: {{action: block, rules: [other]}}", True),
    ("then: block", f"{MUST}, expect: {{action: block}}", f"{NOT}, expect: {{action: block}}", False),
    ("then: block", f"{NOT}, expect: {{action: flag}}", f"{NOT}, expect: {{action: allow}}", False),
    ("then: block", f"{MUST}, context: {{turn: history}}, expect: {{action: redact}}", f"{NOT}, expect: {{action: allow}}", True),
    ("then: flag", f"{MUST}, expect: {{action: block}}", f"{NOT}, expect: {{action: allow}}", False),
    ("then: block", "given: {cards: timeout}, expect: {action: block}", f"{NOT}, expect: {{action: allow}}", False),
    ("then: block, mode: monitor", f"{MUST}, expect: {{action: allow, would: block}}", f"{NOT}, expect: {{action: allow}}", True),
    ("then: block, mode: monitor", f"{MUST}, expect: {{action: block}}", f"{NOT}, expect: {{action: allow}}", False),
]


@pytest.mark.parametrize(("does", "one", "two", "enough"), PROVEN)
def test_each_rule_is_shown_at_work_and_at_rest(does: str, one: str, two: str, enough: bool) -> None:
    source = f"""
format: 1
policy: {{id: p}}
detectors:
  cards: {{kind: pii}}
rules:
  - {{id: other, phases: [input], when: {{none: [{{category: personal_data, at_least: low}}, {{tenant: t}}]}}, then: block, mode: off}}
  - {{id: more, phases: [input], when: {{tenant: t}}, then: block, tests: [
      {{name: a, phase: input, context: {{tenant: t}}, expect: {{action: block}}}},
      {{name: b, phase: input, context: {{tenant: u}}, expect: {{action: allow}}}}]}}
  - {{id: less, phases: [input], when: {{tenant: v}}, then: flag, tests: [
      {{name: a, phase: input, context: {{tenant: v}}, expect: {{action: flag}}}},
      {{name: b, phase: input, context: {{tenant: u}}, expect: {{action: allow}}}}]}}
  - {{id: cards, phases: [input], when: {{detector: cards}}, {does}, tests: [
      {{name: one, phase: input, {one}}},
      {{name: two, phase: input, {two}}}]}}
"""
    found = [f for f in compiled(source).faults if f.line == 13]
    assert [f.code for f in found] == ([] if enough else ["QP301"])


def test_off_needs_no_quotes_as_a_mode() -> None:
    found = compiled(GOOD.replace("then: block", "then: block\n    mode: off"))
    assert [f for f in found.faults if f.code != "QP302"] == []


def test_a_fault_is_a_value_with_its_place() -> None:
    fault = Fault("p.yaml", 3, 4, Grade.WARNING, "QP021", "x")
    assert (fault.place.line, fault.place.column, fault.grade) == (3, 4, Grade.WARNING)
