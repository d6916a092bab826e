"""The recognizers of presidio: which of its entities there are, what may be one of them, and how sure that is.

A recognizer never sees the text, for what it finds may depend on far more than a bounded stretch. It is handed one closed run at
a time (a number, a token with a digit in it) that the matcher cut out by a rule of the text alone; so a cut changes nothing, and
Chinese around a value hides nothing. A run is as narrow as presidio's own expressions, so that few places in a text are one.
Words of context are looked for in the stretch before it.

The only file that imports presidio, and only when an entity needs it, for that takes a second and more.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import re2

from moderation.detect.matcher import Hit
from moderation.detect.pattern import Find, finder, options
from moderation.normalise import normalise
from moderation.verdict import FULL_SCORE

_LEAST = 300_000
"""What presidio itself holds for less likely than this is not told."""
_CONTEXT = 350_000
"""What a word of context adds, as presidio's enhancer does it."""
_CONTEXT_LEAST = 400_000
_NAMED = 850_000
"""A number that proves nothing by itself, right behind its own name."""

# Entities that may have the same stretch share a run, so that the likeliest of them gets it.
_AMERICAN = r"\d{9}|\d{3}[ .\-]\d{2}[ .\-]\d{4}|\d{5}-\d{4}|\d{3}-\d{6}|9\d{2} \d{6}|9\d{4} \d{4}"
_NINE = rf"{_AMERICAN}|\d{{3}}[ \-]\d{{3}}[ \-]\d{{3}}|\d{{4}}-\d{{4}}-\d"
_TEN_OR_TWELVE = (
    r"\d{12}|\d{10}|\d{3}[ \-]?\d{3}[ \-]?\d{4}|[12]\d{3}[ \-]\d{3}[ \-]\d{3}|[2-6]\d{3} \d{5} \d|\d{4}[ :\-]\d{4}[ :\-]\d{4}"
    r"|\d{6}(?:\d\d)?[\-+]\d{4}"
)
_ELEVEN = r"\d{11}|\d{2} \d{3} \d{3} \d{3}"
_THIRTEEN = r"\d{13}|\d{6}-\d{7}"
_NINE_CHARACTERS = r"[A-Za-z][A-Za-z0-9]{7}\d|\d{9}"
_LETTER_BEHIND = r"[A-Za-z]?\d{7,9}-?[A-Za-z]|[TSRtsr]\d{2}[A-Za-z]{2}\d{4}[A-Za-z]"
_CRYPTO = r"(?:[bB][cC]1|[13])[A-Za-z0-9]{25,59}"
_DRIVER = r"[A-Za-z9]{5}\d{6}[A-Za-z9]{2}[A-Za-z0-9][A-Za-z]{2}"
_FISCAL = r"[A-Za-z]{6}[0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{3}[A-Za-z]"
_FINNISH = r"\d{6}[\-+A-Za-z]\d{3}[0-9A-Za-z]"
_BANK = r"\d{8,17}"
_NINO = r"[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]"
_TOKEN = r"[A-Za-z]{0,6}\d(?:[.\-+]?[A-Za-z0-9]){4,62}"
"""For those whose expressions are wide."""
WIDE = (_BANK, _TOKEN)
"""Runs that say little: where another one has the same stretch, it is the likelier."""

_NAMES = {
    "US_SSN": "ssn|social security", "US_ITIN": "itin|individual taxpayer", "UK_NINO": "nino|national insurance|ni",
    "US_PASSPORT": "passport", "UK_PASSPORT": "passport", "IN_PASSPORT": "passport", "IN_PAN": "pan",
    "US_DRIVER_LICENSE": "driver'?s?'? licen[cs]e", "US_BANK_NUMBER": "bank account|account number", "US_MBI": "mbi|medicare",
    "SG_NRIC_FIN": "nric|fin", "CA_SIN": "sin|social insurance", "IN_VOTER": "voter id|epic",
}  # fmt: skip
"""What numbers without a check digit are called."""
_BETWEEN = r"(?: ?(?:card|id|identification|numbers?|num|no\.?|nr\.?|code|#)){0,2}[ ]?(?:is|was|are|[:=#\-]|是|为)?[ ]?[\"'(]?\z"

@dataclass(frozen=True, slots=True)
class _Source:
    """Where presidio has an entity, and which runs may be one."""

    region: str
    module: str
    name: str
    run: str


def _country(region: str, folder: str, *rows: tuple[str, str, str, str]) -> dict[str, _Source]:
    return {entity: _Source(region, f"country_specific.{folder}.{file}", name, run) for entity, file, name, run in rows}


THEIRS: dict[str, _Source] = {
    "CRYPTO": _Source("any", "generic.crypto_recognizer", "CryptoRecognizer", _CRYPTO),
    **_country(
        "us", "us",
        ("US_SSN", "us_ssn_recognizer", "UsSsnRecognizer", _NINE),
        ("US_ITIN", "us_itin_recognizer", "UsItinRecognizer", _NINE),
        ("US_PASSPORT", "us_passport_recognizer", "UsPassportRecognizer", _NINE_CHARACTERS),
        ("US_BANK_NUMBER", "us_bank_recognizer", "UsBankRecognizer", _BANK),
        ("US_DRIVER_LICENSE", "us_driver_license_recognizer", "UsLicenseRecognizer", _TOKEN),
        ("US_NPI", "us_npi_recognizer", "UsNpiRecognizer", _TEN_OR_TWELVE),
        ("US_MBI", "us_mbi_recognizer", "UsMbiRecognizer", r"\d[A-Za-z][A-Za-z0-9]\d-?[A-Za-z][A-Za-z0-9]\d-?[A-Za-z]{2}\d{2}"),
        ("ABA_ROUTING_NUMBER", "aba_routing_recognizer", "AbaRoutingRecognizer", _NINE),
        ("MEDICAL_LICENSE", "medical_license_recognizer", "MedicalLicenseRecognizer", _NINE_CHARACTERS),
    ),
    **_country(
        "uk", "uk",
        ("UK_NHS", "uk_nhs_recognizer", "NhsRecognizer", _TEN_OR_TWELVE),
        ("UK_NINO", "uk_nino_recognizer", "UkNinoRecognizer", _NINO),
        ("UK_DRIVING_LICENCE", "uk_driving_licence_recognizer", "UkDrivingLicenceRecognizer", _DRIVER),
        ("UK_PASSPORT", "uk_passport_recognizer", "UkPassportRecognizer", _NINE_CHARACTERS),
    ),
    **_country(
        "au", "australia",
        ("AU_ABN", "au_abn_recognizer", "AuAbnRecognizer", _ELEVEN),
        ("AU_ACN", "au_acn_recognizer", "AuAcnRecognizer", _NINE),
        ("AU_TFN", "au_tfn_recognizer", "AuTfnRecognizer", _NINE),
        ("AU_MEDICARE", "au_medicare_recognizer", "AuMedicareRecognizer", _TEN_OR_TWELVE),
    ),
    **_country("ca", "canada", ("CA_SIN", "ca_sin_recognizer", "CaSinRecognizer", _NINE)),
    **_country(
        "in", "india",
        ("IN_AADHAAR", "in_aadhaar_recognizer", "InAadhaarRecognizer", _TEN_OR_TWELVE),
        ("IN_PAN", "in_pan_recognizer", "InPanRecognizer", _TOKEN),
        ("IN_GSTIN", "in_gstin_recognizer", "InGstinRecognizer", r"\d{2}[A-Za-z0-9]{11}[Zz][A-Za-z0-9]"),
        ("IN_VOTER", "in_voter_recognizer", "InVoterRecognizer", r"[A-Za-z]{3}\d{7}"),
        ("IN_PASSPORT", "in_passport_recognizer", "InPassportRecognizer", r"[A-Za-z][1-9]\d{5}[1-9]"),
    ),
    **_country(
        "sg", "singapore",
        ("SG_NRIC_FIN", "sg_fin_recognizer", "SgFinRecognizer", _LETTER_BEHIND),
        ("SG_UEN", "sg_uen_recognizer", "SgUenRecognizer", _LETTER_BEHIND),
    ),
    **_country(
        "it", "italy",
        ("IT_FISCAL_CODE", "it_fiscal_code_recognizer", "ItFiscalCodeRecognizer", _FISCAL),
        ("IT_VAT_CODE", "it_vat_code", "ItVatCodeRecognizer", _ELEVEN),
    ),
    **_country("pl", "poland", ("PL_PESEL", "pl_pesel_recognizer", "PlPeselRecognizer", _ELEVEN)),
    **_country(
        "es", "spain",
        ("ES_NIF", "es_nif_recognizer", "EsNifRecognizer", _LETTER_BEHIND),
        ("ES_NIE", "es_nie_recognizer", "EsNieRecognizer", _LETTER_BEHIND),
    ),
    **_country(
        "fi", "finland",
        ("FI_PERSONAL_IDENTITY_CODE", "fi_personal_identity_code_recognizer", "FiPersonalIdentityCodeRecognizer", _FINNISH),
    ),
    **_country(
        "kr", "korea",
        ("KR_RRN", "kr_rrn_recognizer", "KrRrnRecognizer", _THIRTEEN),
        ("KR_FRN", "kr_frn_recognizer", "KrFrnRecognizer", _THIRTEEN),
    ),
    **_country("th", "thai", ("TH_TNIN", "th_tnin_recognizer", "ThTninRecognizer", _THIRTEEN)),
    **_country(
        "de", "germany",
        ("DE_TAX_ID", "de_tax_id_recognizer", "DeTaxIdRecognizer", _ELEVEN),
        ("DE_ID_CARD", "de_id_card_recognizer", "DeIdCardRecognizer", _NINE_CHARACTERS),
        ("DE_SOCIAL_SECURITY", "de_social_security_recognizer", "DeSocialSecurityRecognizer", r"\d{8}[A-Za-z]\d{3}"),
    ),
    **_country("se", "sweden", ("SE_PERSONNUMMER", "se_personnummer_recognizer", "SePersonnummerRecognizer", _TEN_OR_TWELVE)),
    **_country("tr", "turkey", ("TR_NATIONAL_ID", "tr_national_id_recognizer", "TrNationalIdRecognizer", _ELEVEN)),
    **_country("za", "south_africa", ("ZA_ID_NUMBER", "za_id_number_recognizer", "ZaIdNumberRecognizer", _THIRTEEN)),
}  # fmt: skip
"""Entities that only presidio has."""


class _Entity:
    """One entity's recognizer, taken apart: its expressions, what proves them, and the words around them."""

    def __init__(self, entity: str, load: Callable[[str], Any]) -> None:
        engine: Any = importlib.import_module("regex")
        recognizer = load(entity)
        base = importlib.import_module("presidio_analyzer").PatternRecognizer
        self.entity = entity
        self.recognizer = recognizer
        self.proves = type(recognizer).validate_result is not base.validate_result
        # presidio's own way takes ten times longer, for it writes down an explanation of each score.
        flags = recognizer.global_regex_flags
        self.shapes = [(engine.compile(one.regex, flags), round(one.score * FULL_SCORE)) for one in recognizer.patterns]
        self.best = max(score for _, score in self.shapes)
        words = sorted(normalise(word).text.lower() for word in recognizer.context or ())
        self.context = _words(words)
        name = _NAMES.get(entity)
        self.name = _search(rf"(?:{name}){_BETWEEN}") if name else None

    def judge(self, before: str, match: str) -> tuple[int, int] | None:
        """(score, length) of the best that begins where the match does."""
        if not self.proves and self.best < _LEAST and not self._spoken_of(before):
            return None
        found: tuple[int, int] | None = None
        for shape, score in self.shapes:
            if not self.proves and found is not None and score <= found[0]:
                continue
            if (seen := shape.match(match)) is None or not seen.end() or not match[seen.end() - 1].isalnum():
                continue
            value = seen.group()
            valid = self.recognizer.validate_result(value)
            if valid is not None:
                score = FULL_SCORE if valid else 0
            if score and not self.recognizer.invalidate_result(value) and (found is None or (score, seen.end()) > found):
                found = score, seen.end()
        if found is None:
            return None
        score = self._lifted(found[0], before)
        return (score, found[1]) if score >= _LEAST else None

    def _lifted(self, score: int, before: str) -> int:
        if score == FULL_SCORE:
            return score
        if _says(self.name, before):
            return max(score, _NAMED)
        return min(FULL_SCORE, max(score + _CONTEXT, _CONTEXT_LEAST)) if _says(self.context, before) else score

    def _spoken_of(self, before: str) -> bool:
        return _says(self.name, before) or _says(self.context, before)


def _search(regex: str) -> Find:
    return finder(re2.compile(rf"(?i)(?:^|[^a-z])(?:{regex})", options()))


def _says(words: Find | None, before: str) -> bool:
    raw = before.encode()
    return words is not None and words(raw, 0, len(raw))[0] >= 0


def _words(words: list[str]) -> Find | None:
    # What is short is too often the beginning of something else: nie in niece.
    ends = [r"s?(?:$|[^a-z])" if len(word) <= 3 else "" for word in words]
    return _search("|".join(map("".join, zip(map(re2.escape, words), ends, strict=True)))) if words else None


def narrowed(run: str, entities: Iterable[str]) -> str:
    """The run that takes to find some of the entities that share it: tables are full of threes."""
    return _AMERICAN if run == _NINE and {"US_SSN", "US_ITIN"}.issuperset(entities) else run


def recognizer(entity: str) -> Any:
    """presidio's own."""
    source = THEIRS[entity]
    module = importlib.import_module(f"presidio_analyzer.predefined_recognizers.{source.module}")
    return getattr(module, source.name)()


class Recognizers:
    """A check that hands a run to recognizers and takes the best answer that begins where the run begins."""

    def __init__(self, entities: Iterable[str], load: Callable[[str], Any] = recognizer) -> None:
        self.entities = tuple(entities)
        self._each = [_Entity(entity, load) for entity in self.entities]

    def __call__(self, before: str, match: str, after: str) -> Hit | None:
        best: Hit | None = None
        for one in self._each:
            found = one.judge(before, match)
            if found is not None and (best is None or found > (best.score, best.length)):
                best = Hit(found[1], found[0], one.entity)
        return best
