"""When a certificate lets a network accept, and when not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from certificates import HASH, certificate
from langchain_core.language_models import FakeListChatModel
from support import uniform_resources

from escalade.neural.certificate import Certificate
from escalade.nodes.certified import Refusal, certificate_for
from escalade.nodes.context import DecisionContext
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.resources import Resources
from escalade.nodes.router import judge, next_rung

RESOURCES = uniform_resources(
    bundle_version=HASH[:12],
    certificates=(certificate(), certificate(0.01, 0.99, 0.97)),
)


def proposal(rung: str, confidence: float, **details: Any) -> dict[str, Any]:
    return {"rung": rung, "action": 1, "confidence": confidence, "cost_usd": 0.0, "latency_ms": 1.0, "details": details}


def climbed(*confidences: float, resources: Resources = RESOURCES, **context: Any) -> list[tuple[str, str]]:
    """Outcome and reason of policy, then value, with these confidences."""
    reports: list[dict[str, Any]] = []
    for rung, confidence in zip(("policy", "value"), confidences, strict=False):
        reports.append(judge(proposal(rung, confidence), reports, DecisionContext(**context), resources))
    return [(report["outcome"], report["reason"]) for report in reports]


def test_a_network_accepts_from_the_certified_threshold_on() -> None:
    assert climbed(0.9) == [("accepted", "over_threshold")]
    assert climbed(0.89, 0.8) == [("escalated", "under_threshold"), ("accepted", "over_threshold")]
    assert climbed(0.89, 0.79)[1] == ("escalated", "under_threshold")


def test_the_user_s_alpha_chooses_the_certificate() -> None:
    assert climbed(0.95, alpha=0.05)[0][0] == "accepted"
    assert climbed(0.95, alpha=0.01)[0][0] == "escalated"
    assert climbed(0.95, alpha=0.2)[0][0] == "accepted"
    assert climbed(1.0, alpha=0.005) == [("escalated", "no_certificate")]
    assert climbed(1.0, delta=0.01) == [("escalated", "no_certificate")]


def test_the_report_says_by_what_certificate() -> None:
    report = judge(proposal("policy", 0.95), [], DecisionContext(), RESOURCES)
    assert report["threshold"] == 0.9
    told = {"alpha": 0.05, "delta": 0.05, "reference": "exact", "covers": "own", "bound": 0.0017}
    assert report["details"]["certificate"] == told


@pytest.mark.parametrize(
    ("context", "model", "covers"),
    [
        ({"simulations": 600}, False, "all"),
        ({"simulations": 900}, False, "all"),
        ({"simulations": 599}, False, "own"),
        ({"simulations": 600, "ladder": ("policy", "value", "human")}, False, "own"),
        ({"simulations": 600}, True, "own"),  # nothing was proven of a language model
    ],
)
def test_what_stands_behind_the_networks_says_what_is_covered(context: Any, model: bool, covers: str) -> None:
    resources = replace(
        RESOURCES, language_model=LanguageModel(FakeListChatModel(responses=[]), "x") if model else None
    )
    report = judge(proposal("policy", 0.95), [], DecisionContext(**context), resources)
    assert report["outcome"] == "accepted"
    assert report["details"]["certificate"]["covers"] == covers


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ({"ladder": ("policy", "search")}, "value cannot be asked in this run"),
        ({"ladder": ("policy",)}, "value cannot be asked in this run"),
        ({"value_threshold": 0.5}, "value has a threshold by hand"),
    ],
)
def test_networks_that_it_covers_together_are_not_covered_alone(context: Any, why: str) -> None:
    report = judge(proposal("policy", 0.95), [], DecisionContext(**context), RESOURCES)
    assert (report["outcome"], report["reason"]) == ("escalated", "no_certificate")
    assert why in report["details"]["no_certificate"]
    alone = replace(RESOURCES, certificates=(certificate(0.05, policy=0.9, value=1.0),))  # value accepts nothing
    report = judge(proposal("policy", 0.95), [], DecisionContext(**context), alone)
    assert report["outcome"] == "accepted"


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        (replace(RESOURCES, certificates=()), "has none"),
        (replace(RESOURCES, bundle_version="0" * 12), "made for bundle abababababab"),
        (replace(RESOURCES, bundle_version=None), "made for bundle"),
        (replace(RESOURCES, certificates=(certificate(0.2),)), "more loss than alpha 0.05"),
    ],
)
def test_without_one_that_holds_the_decision_says_why(resources: Resources, why: str) -> None:
    report = judge(proposal("policy", 1.0), [], DecisionContext(), resources)
    assert (report["outcome"], report["reason"]) == ("escalated", "no_certificate")
    assert why in report["details"]["no_certificate"]


def test_it_holds_only_on_the_path_it_was_proven_for() -> None:
    def why(*reports: dict[str, Any]) -> str | None:
        found = certificate_for("value", list(reports), DecisionContext(), RESOURCES, ("policy", "value", "search"))
        return found.why if isinstance(found, Refusal) else None

    judged = judge(proposal("policy", 0.1), [], DecisionContext(), RESOURCES)
    assert why(judged) is None
    skipped = {"rung": "reason", "outcome": "skipped", "reason": "no_llm"}
    assert why(skipped, judged) is None
    assert "after policy alone" in str(why())
    assert "not skipped: deadline" in str(why({"rung": "policy", "outcome": "skipped", "reason": "deadline"}))
    assert "not failed: error" in str(why({"rung": "policy", "outcome": "failed", "reason": "error"}))
    by_hand = judge(proposal("policy", 0.1), [], DecisionContext(policy_threshold=0.95), RESOURCES)
    assert "not escalated" in str(why(by_hand))
    asked = {"rung": "reason", "outcome": "escalated", "reason": "under_threshold"}
    assert "after policy alone" in str(why(asked, judged))


def test_a_threshold_by_hand_goes_before_and_is_uncertified() -> None:
    report = judge(proposal("policy", 0.5), [], DecisionContext(policy_threshold=0.4), RESOURCES)
    assert report["outcome"] == "accepted"
    assert "certificate" not in report["details"]


def test_a_novel_state_goes_past_the_networks() -> None:
    report = judge(proposal("policy", 1.0, novelty=1.5), [], DecisionContext(), RESOURCES)
    assert (report["outcome"], report["reason"]) == ("escalated", "novel")
    reports, rung = next_rung([report], "5", 0.0, DecisionContext(), RESOURCES)
    assert rung == "search"
    assert {one["rung"]: one["reason"] for one in reports[1:]} == {"value": "novel", "reason": "no_llm"}
    assert judge(proposal("policy", 1.0, novelty=1.0), [], DecisionContext(), RESOURCES)["outcome"] == "accepted"
    by_hand = DecisionContext(policy_threshold=0.5)  # whoever says so themselves is taken at their word
    assert judge(proposal("policy", 1.0, novelty=1.5), [], by_hand, RESOURCES)["outcome"] == "accepted"


def test_a_certificate_with_an_alarm_is_passed_over() -> None:
    class Alarmed:
        def __init__(self, *alphas: float) -> None:
            self.alphas = alphas

        def problem(self, certificate: Certificate) -> str | None:
            return "too many errors" if certificate.alpha in self.alphas else None

    some, every = replace(RESOURCES, watch=Alarmed(0.05)), replace(RESOURCES, watch=Alarmed(0.05, 0.01))
    assert climbed(0.95, resources=some) == [("escalated", "under_threshold")]  # 0.01's threshold is 0.99
    assert climbed(0.99, resources=some) == [("accepted", "over_threshold")]
    report = judge(proposal("policy", 1.0), [], DecisionContext(), every)
    assert (report["outcome"], report["reason"]) == ("escalated", "alarm")
    assert report["details"]["no_certificate"] == "too many errors"
