"""A machine on which nothing runs an encoder, so that what stands in for one can be seen at work."""

from __future__ import annotations

from collections.abc import Mapping

from moderation.detect.api import Detector
from moderation.detect.build import build
from moderation.detect.classifier import Store
from moderation.detect.classifier.encoder import Encoder
from moderation.detect.classifier.exported import Exported
from moderation.detect.classifier.manifest import Kind, Manifest
from moderation.detect.classifier.ngram import Ngram
from moderation.detect.engines import engines
from moderation.detect.models import Models
from moderation.policy.model import Policy


class Without(Store):
    """Loads as where onnxruntime is not installed."""

    def load(self, manifest: Manifest) -> Encoder | Ngram | Exported:
        if manifest.kind is Kind.ENCODER:
            raise ModuleNotFoundError("no", name="onnxruntime")
        return super().load(manifest)


def without(policy: Policy) -> Mapping[str, Detector]:
    """The detectors of a policy on such a machine; the models are those that ship."""
    return build(policy, engines=engines(Models(store=Without())))
