"""What audits ask, with the shipped networks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from escalade.app.auditor import Auditor
from escalade.app.watch import accepted_action
from escalade.domains.errors import NoDecisionError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.graph.decision import decided, make_resources, wire
from escalade.nodes.context import DecisionContext
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.resources import Resources


class Answering(GenericFakeChatModel):
    """Says what it was told to, whatever tools it has."""

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self


def resources(answers: list[str] | None = None, domain: Any = "tic_tac_toe", **more: Any) -> Resources:
    model = None
    if answers is not None:
        chat = Answering(messages=iter([AIMessage(text) for text in answers]))
        model = LanguageModel(chat, "teacher", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    return make_resources(domain, bundle="builtin:tic_tac_toe", language_model=model, **more)


def test_every_network_is_asked_whatever_the_first_one_thinks() -> None:
    reports = Auditor(resources(), "exact").neural_reports("51")
    assert [report.rung for report in reports] == ["policy", "value"]
    assert all(report.confidence is not None and report.action is not None for report in reports)
    assert "novelty" in reports[0].details


def test_what_a_certificate_would_accept_is_what_it_does_accept() -> None:
    known = resources()
    graph, auditor = wire(known).compile(), Auditor(known, "exact")
    for text in ("", "5", "51", "12", "519", "1597", "1234"):
        for one in known.certificates:
            answer: Any = graph.invoke({"state": text}, context=DecisionContext(alpha=one.alpha))
            decision = decided(answer)
            expected = decision["action"] if decision["certified"] else None
            assert accepted_action(one, auditor.neural_reports(text)) == expected


def test_what_runs_are_built_with_does_not_change_audits() -> None:
    strict = resources(defaults=DecisionContext(ladder=("search",), deadline_ms=1e-9))
    assert len(Auditor(strict, "exact").neural_reports("51")) == 2


def test_a_domain_that_leaves_a_state_to_others_is_heard() -> None:
    class Careful(TicTacToe):
        def rungs_for(self, state: Any) -> Any:
            return ("search",)

    for one in (reports := Auditor(resources(domain=Careful()), "exact").neural_reports("51")):
        assert (one.outcome, one.action) == ("skipped", None)
    assert accepted_action(resources().certificates[0], reports) is None


def test_the_reference_is_asked_and_billed() -> None:
    billed: list[tuple[float | None, float]] = []

    def bill(usd: float | None, seconds: float) -> None:
        billed.append((usd, seconds))

    known = resources(compute_usd_per_hour=3600.0)
    assert Auditor(known, "exact", bill).acceptable("1") == {4}
    assert Auditor(known, "search:200", bill).acceptable("1245") == {6}
    assert all(usd == pytest.approx(seconds) and seconds > 0 for usd, seconds in billed)
    assert len(billed) == 2
    assert Auditor(known, "labels", bill).acceptable("51") is None
    assert Auditor(known, "llm", bill).acceptable("51") is None  # there is none here: its outcomes may be reported
    assert len(billed) == 2


def test_a_language_model_that_is_the_reference_is_asked() -> None:
    billed: list[tuple[float | None, float]] = []
    auditor = Auditor(resources(["5", "nonsense"]), "llm", lambda usd, seconds: billed.append((usd, seconds)))
    assert auditor.acceptable("1") == {4}
    assert billed == [(None, 0.0)]  # it said nothing of its tokens
    with pytest.raises(NoDecisionError):
        auditor.acceptable("1")
