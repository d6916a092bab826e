"""The detector of kind `pii`: personal data by entity. Ours come from the catalogue, the rest from presidio's recognizers.

A presidio recognizer never sees the text, for what it finds may depend on far more than a bounded stretch. It is handed one
closed run at a time (a number, a token with a digit in it) that the matcher cut out by a rule of the text alone; so a cut
changes nothing, and Chinese around a value hides nothing. Words of context are looked for in the stretch before the run.

The only file that imports presidio, and only when an entity needs it, for that takes a second and more.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moderation.detect import phone
from moderation.detect.catalogue import CATALOGUE
from moderation.detect.matcher import Hit, Pattern
from moderation.detect.patterns import Patterns
from moderation.verdict import FULL_SCORE

_LEAST = 300_000
"""What presidio itself holds for less likely than this is not told."""
_CONTEXT = 350_000
"""What a word of context adds, as presidio's enhancer does it."""
_CONTEXT_LEAST = 400_000

OURS: dict[str, str] = {
    "EMAIL_ADDRESS": "any", "CREDIT_CARD": "any", "IBAN_CODE": "any", "IP_ADDRESS": "any", "MAC_ADDRESS": "any",
    "CN_ID_CARD": "cn", "CN_MOBILE": "cn", "CN_BANK_CARD": "cn", "CN_USCC": "cn", "CN_PASSPORT": "cn", "CN_LICENSE_PLATE": "cn",
}  # fmt: skip
"""Entities of the catalogue that are personal data, each with its region."""

PHONE = phone.ENTITY

_NUMBER = r"\d(?:[ .:\-]?\d){6,19}"
_TOKEN = r"[A-Za-z]{0,6}\d(?:[.\-+]?[A-Za-z0-9]){4,62}"
_NINO = r"[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]"


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
    "CRYPTO": _Source("any", "generic.crypto_recognizer", "CryptoRecognizer", _TOKEN),
    **_country(
        "us", "us",
        ("US_SSN", "us_ssn_recognizer", "UsSsnRecognizer", _NUMBER),
        ("US_ITIN", "us_itin_recognizer", "UsItinRecognizer", _NUMBER),
        ("US_PASSPORT", "us_passport_recognizer", "UsPassportRecognizer", _TOKEN),
        ("US_BANK_NUMBER", "us_bank_recognizer", "UsBankRecognizer", _NUMBER),
        ("US_DRIVER_LICENSE", "us_driver_license_recognizer", "UsLicenseRecognizer", _TOKEN),
        ("US_NPI", "us_npi_recognizer", "UsNpiRecognizer", _NUMBER),
        ("US_MBI", "us_mbi_recognizer", "UsMbiRecognizer", _TOKEN),
        ("ABA_ROUTING_NUMBER", "aba_routing_recognizer", "AbaRoutingRecognizer", _NUMBER),
        ("MEDICAL_LICENSE", "medical_license_recognizer", "MedicalLicenseRecognizer", _TOKEN),
    ),
    **_country(
        "uk", "uk",
        ("UK_NHS", "uk_nhs_recognizer", "NhsRecognizer", _NUMBER),
        ("UK_NINO", "uk_nino_recognizer", "UkNinoRecognizer", _NINO),
        ("UK_DRIVING_LICENCE", "uk_driving_licence_recognizer", "UkDrivingLicenceRecognizer", _TOKEN),
        ("UK_PASSPORT", "uk_passport_recognizer", "UkPassportRecognizer", _TOKEN),
    ),
    **_country(
        "au", "australia",
        ("AU_ABN", "au_abn_recognizer", "AuAbnRecognizer", _NUMBER),
        ("AU_ACN", "au_acn_recognizer", "AuAcnRecognizer", _NUMBER),
        ("AU_TFN", "au_tfn_recognizer", "AuTfnRecognizer", _NUMBER),
        ("AU_MEDICARE", "au_medicare_recognizer", "AuMedicareRecognizer", _NUMBER),
    ),
    **_country("ca", "canada", ("CA_SIN", "ca_sin_recognizer", "CaSinRecognizer", _NUMBER)),
    **_country(
        "in", "india",
        ("IN_AADHAAR", "in_aadhaar_recognizer", "InAadhaarRecognizer", _NUMBER),
        ("IN_PAN", "in_pan_recognizer", "InPanRecognizer", _TOKEN),
        ("IN_GSTIN", "in_gstin_recognizer", "InGstinRecognizer", _TOKEN),
        ("IN_VOTER", "in_voter_recognizer", "InVoterRecognizer", _TOKEN),
        ("IN_PASSPORT", "in_passport_recognizer", "InPassportRecognizer", _TOKEN),
    ),
    **_country(
        "sg", "singapore",
        ("SG_NRIC_FIN", "sg_fin_recognizer", "SgFinRecognizer", _TOKEN),
        ("SG_UEN", "sg_uen_recognizer", "SgUenRecognizer", _TOKEN),
    ),
    **_country(
        "it", "italy",
        ("IT_FISCAL_CODE", "it_fiscal_code_recognizer", "ItFiscalCodeRecognizer", _TOKEN),
        ("IT_VAT_CODE", "it_vat_code", "ItVatCodeRecognizer", _NUMBER),
    ),
    **_country("pl", "poland", ("PL_PESEL", "pl_pesel_recognizer", "PlPeselRecognizer", _NUMBER)),
    **_country(
        "es", "spain",
        ("ES_NIF", "es_nif_recognizer", "EsNifRecognizer", _TOKEN),
        ("ES_NIE", "es_nie_recognizer", "EsNieRecognizer", _TOKEN),
    ),
    **_country(
        "fi", "finland",
        ("FI_PERSONAL_IDENTITY_CODE", "fi_personal_identity_code_recognizer", "FiPersonalIdentityCodeRecognizer", _TOKEN),
    ),
    **_country(
        "kr", "korea",
        ("KR_RRN", "kr_rrn_recognizer", "KrRrnRecognizer", _NUMBER),
        ("KR_FRN", "kr_frn_recognizer", "KrFrnRecognizer", _NUMBER),
    ),
    **_country("th", "thai", ("TH_TNIN", "th_tnin_recognizer", "ThTninRecognizer", _NUMBER)),
    **_country(
        "de", "germany",
        ("DE_TAX_ID", "de_tax_id_recognizer", "DeTaxIdRecognizer", _NUMBER),
        ("DE_ID_CARD", "de_id_card_recognizer", "DeIdCardRecognizer", _TOKEN),
        ("DE_SOCIAL_SECURITY", "de_social_security_recognizer", "DeSocialSecurityRecognizer", _TOKEN),
    ),
    **_country("se", "sweden", ("SE_PERSONNUMMER", "se_personnummer_recognizer", "SePersonnummerRecognizer", _NUMBER)),
    **_country("tr", "turkey", ("TR_NATIONAL_ID", "tr_national_id_recognizer", "TrNationalIdRecognizer", _NUMBER)),
    **_country("za", "south_africa", ("ZA_ID_NUMBER", "za_id_number_recognizer", "ZaIdNumberRecognizer", _NUMBER)),
}  # fmt: skip
"""Entities that only presidio has."""

ENTITIES: dict[str, str] = {**OURS, PHONE: "any", **{entity: source.region for entity, source in THEIRS.items()}}
"""Every entity that can be asked for, with its region."""

_NEED_MODELS = frozenset(("PERSON", "LOCATION", "NRP", "ORGANIZATION", "ADDRESS", "CN_PERSON", "CN_ADDRESS", "AGE"))


def why_not(entity: str) -> str | None:
    """Why an entity cannot be asked for, in words; None where it can."""
    if entity in ENTITIES:
        return None
    if entity in _NEED_MODELS:
        return f"{entity} needs a trained model, which this version does not have"
    return f"{entity} is not an entity of this version"


class _Presidio:
    """A check that hands a run to recognizers and takes the best answer that begins where the run begins."""

    def __init__(self, entities: Iterable[str]) -> None:
        self._recognizers: list[tuple[str, Any, Any, re.Pattern[str] | None]] = []
        engine: Any = importlib.import_module("regex")
        for entity in entities:
            source = THEIRS[entity]
            module = importlib.import_module(f"presidio_analyzer.predefined_recognizers.{source.module}")
            recognizer = getattr(module, source.name)()
            words = sorted(map(str.lower, recognizer.context or ()))
            context = re.compile(r"(?i)(?<![a-z])(?:" + "|".join(map(re.escape, words)) + ")") if words else None
            # A recognizer takes its time even where its expressions do not match; so they are tried first.
            shapes = [engine.compile(pattern.regex, recognizer.global_regex_flags) for pattern in recognizer.patterns]
            self._recognizers.append((entity, recognizer, shapes, context))

    def __call__(self, before: str, match: str, after: str) -> Hit | None:
        best: Hit | None = None
        for entity, recognizer, shapes, context in self._recognizers:
            if not any(shape.match(match) for shape in shapes):
                continue
            for result in recognizer.analyze(match, [entity], None):
                if result.start or not match[result.end - 1].isalnum():
                    continue
                score = round(result.score * FULL_SCORE)
                if score < FULL_SCORE and context is not None and context.search(before):
                    score = min(FULL_SCORE, max(score + _CONTEXT, _CONTEXT_LEAST))
                if score >= _LEAST and (best is None or (score, result.end) > (best.score, best.length)):
                    best = Hit(result.end, score, entity)
        return best


class Pii(Patterns):
    """A local detector (detect/api.py) of personal data."""

    def __init__(self, id: str, category: str, entities: Sequence[str], regions: Sequence[str] = ()) -> None:
        """`regions` (lower case, empty for all) narrows national entities and phone numbers. Raises ValueError."""
        for entity in entities:
            if (wrong := why_not(entity)) is not None:
                raise ValueError(wrong)
        wanted = [e for e in ENTITIES if e in entities and (not regions or ENTITIES[e] in ("any", *regions))]
        patterns = [pattern for pattern in CATALOGUE if pattern.entity in wanted and pattern.entity in OURS]
        versions: list[str] = []
        by_run: dict[str, list[str]] = {}
        for entity in wanted:
            if entity in THEIRS:
                by_run.setdefault(THEIRS[entity].run, []).append(entity)
        for run, group in by_run.items():
            patterns.append(_run("presidio", group[0], run, _Presidio(group)))
            versions.append(f"presidio {importlib.metadata.version('presidio-analyzer')} {' '.join(group)}")
        if PHONE in wanted:
            named = tuple(region.upper() for region in regions if region != "any")
            chosen = tuple("GB" if region == "UK" else region for region in named) or phone.REGIONS
            patterns.extend(phone.patterns(chosen))
            versions.append(f"phonenumbers {importlib.metadata.version('phonenumbers')} {' '.join(chosen)}")
        super().__init__(id, patterns, [category] * len(patterns))
        self._version = hashlib.sha256("\n".join((super().version, *versions)).encode()).hexdigest()

    @property
    def version(self) -> str:
        return self._version


def _run(name: str, entity: str, regex: str, check: Callable[[str, str, str], Hit | None]) -> Pattern:
    return Pattern(name, entity, regex, not_before="0-9A-Za-z", not_after="0-9A-Za-z", check=check)
