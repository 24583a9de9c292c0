"""`escalade decide` and `escalade solve`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from escalade.app.cli_options import (
    AlphaOption,
    BudgetOption,
    BundleOption,
    DeadlineOption,
    DomainArgument,
    DomainOptions,
    JsonOption,
    LadderOption,
    ModeOption,
    ReasoningOption,
    SamplesOption,
    SeedOption,
    SimulationsOption,
    ThresholdOption,
    decider_for,
    domain_options,
    run_context,
)
from escalade.app.cli_person import decide_with_person
from escalade.app.render import decision_view
from escalade.app.settings import read_settings
from escalade.app.state_file import InputFormatOption, read_states
from escalade.app.tracing import sampled
from escalade.app.waiting import (
    TEMPORARY_FAILURE,
    PatienceOption,
    patience_with,
    run_asking,
    shown_waiting,
    what_is_left,
)
from escalade.domains.catalog import load_domain
from escalade.domains.decision import Decision
from escalade.domains.errors import SettingsError
from escalade.nodes.context import DecisionContext

if TYPE_CHECKING:
    from escalade.app.watch import Watch
    from escalade.app.wiring import Decider


def decide(
    domain: DomainArgument,
    state: Annotated[
        str | None, typer.Argument(metavar="STATE", help="The state in the notation of the domain, such as 4455.")
    ] = None,
    input: Annotated[
        Path | None, typer.Option("--input", help="Decide every state of this file: lines, a table, or JSON Lines.")
    ] = None,
    input_format: InputFormatOption = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write the decisions to, as JSON lines.")
    ] = None,
    mode: ModeOption = None,
    ladder: LadderOption = None,
    alpha: AlphaOption = None,
    threshold: ThresholdOption = None,
    simulations: SimulationsOption = None,
    samples: SamplesOption = None,
    reasoning: ReasoningOption = None,
    human: Annotated[
        bool, typer.Option("--human", help="Ask you if no other rung is confident enough (see --threshold, --ladder).")
    ] = False,
    seed: SeedOption = None,
    deadline_ms: DeadlineOption = None,
    budget_usd: BudgetOption = None,
    patience: PatienceOption = None,
    bundle: BundleOption = None,
    option: DomainOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Decide one state, or a file of states: the action, the rung that chose it, and its confidence."""
    if (state is None) == (input is None) or (input is None) != (output is None):
        raise SettingsError("give one STATE, or --input FILE together with --output FILE.jsonl")
    if input is not None and output is not None and input.resolve() == output.resolve():
        raise SettingsError(f"--output '{output}' is the input file: give another")
    if human and state is None:
        raise SettingsError("--human decides one STATE, not a file of them")
    if patience is not None and state is not None:
        raise SettingsError("--patience is for a file (--input): a single decision goes on with the next rung instead")
    context = run_context(
        ladder=ladder,
        thresholds=threshold,
        human=human,
        mode=mode,
        alpha=alpha,
        simulations=simulations,
        samples=samples,
        reasoning=reasoning,
        seed=seed,
        deadline_ms=deadline_ms,
        budget_usd=budget_usd,
    )
    settings = read_settings()
    decider = decider_for(settings, domain, option, bundle)
    if input is not None and output is not None:
        # Whatever may change an answer; secrets are masked in it.
        names = [decider.domain.action_name(action) for action in range(decider.domain.num_actions)]
        answers = settings.model_dump(mode="json", exclude=INDIFFERENT)
        told = [domain, option, names, decider.resources.bundle_version, answers]
        with closing(decider):
            states = read_states(input, decider.domain, input_format).values
            _decide_file(decider, context, states, output, told, patience)
        return
    from escalade.graph.decision import decided

    with closing(decider), sampled(decider.trace_share):
        if human:
            decision = decide_with_person(decider, state, context)
        else:
            work = decider.graph.ainvoke({"state": state}, context=context)
            decision = decided(run_asking(work, decider.resources.language_model))
    if as_json:
        typer.echo(json.dumps(decision, allow_nan=False))
    else:
        Console().print(decision_view(decider.domain, Decision.model_validate(decision)))


def _audit(watch: Watch) -> None:
    """Make the audits that still wait. Interrupted, or stuck, it leaves the rest out."""
    columns = (TextColumn("auditing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = waiting = watch.waiting
        bar = progress.add_task("auditing", total=total, visible=total > 0)
        moved = time.monotonic()
        try:
            while waiting and time.monotonic() - moved < STUCK_S:
                watch.flush(0.5)
                before, waiting = waiting, watch.waiting
                moved = moved if waiting == before else time.monotonic()
                progress.update(bar, completed=total - waiting)
        except KeyboardInterrupt:
            pass
    if waiting:
        watch.close(0.0)
        typer.echo(f"up to {waiting} audits were left out", err=True)


STUCK_S = 60.0
INDIFFERENT = {
    *("experience", "ledger", "watch", "audit_share", "false_alarms", "runs", "registry", "trace_share"),
    *("api_keys", "domains", "max_simulations", "max_samples", "max_deadline_ms", "deadline_ms", "shutdown_s"),
    "prometheus_multiproc_dir",
    *("llm_api_key", "llm_base_url", "llm_timeout_s", "llm_at_once", "llm_waiting", "llm_tokens_per_hour"),
}
"""Settings that change no answer: what is kept of decisions, what concerns servers alone, and how an endpoint is
reached. Whoever changes them because an endpoint failed takes up the lines that are left."""


def _decide_file(
    decider: Decider,
    context: DecisionContext,
    states: Sequence[Any],
    target: Path,
    options: list[Any],
    seconds: float | None,
) -> None:
    from escalade.app.batch import decide_file
    from escalade.app.result_file import ResultFile

    with closing(ResultFile(target, [options, context.model_dump(mode="json"), list(states)])) as results:
        if len(results):
            typer.echo(f"taking up after {len(results)} lines of an earlier run", err=True)
        patience = patience_with(decider.resources.language_model, seconds)
        sources: Counter[str] = Counter()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("deciding", total=len(states))

            def on_line(_: int, line: dict[str, Any]) -> None:
                sources["refused" if "error" in line else str(line["source"])] += 1
                progress.advance(bar)

            work = decide_file(
                decider.graph,
                states,
                context,
                results,
                on_line,
                patience=patience,
                on_wait=shown_waiting(progress, bar, "deciding", patience),
                trace_share=decider.trace_share,
            )
            try:
                left = run_asking(work, decider.resources.language_model)
            except KeyboardInterrupt:
                progress.stop()
                typer.echo(
                    f"stopped after {sources.total()} of {len(states)} lines; the same command goes on there", err=True
                )
                raise typer.Exit(130) from None
        told = ", ".join(f"{name} {count}" for name, count in sources.most_common())
        if left:
            typer.echo(f"nothing to {target} yet: {told or 'no line is done'}", err=True)
            typer.echo(what_is_left(left, len(states), "lines", decider.resources.language_model), err=True)
        else:
            typer.echo(f"{len(states)} lines to {target}: {told or 'nothing to decide'}", err=True)
        if decider.watch is not None:
            _audit(decider.watch)
        if left:
            raise typer.Exit(TEMPORARY_FAILURE)
        if sources["refused"]:
            raise typer.Exit(1)


def solve(
    domain: DomainArgument,
    state: Annotated[
        str, typer.Argument(metavar="STATE", help="The state in the notation of the domain, such as 4455.")
    ],
    option: DomainOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Solve a state: exact scores of all actions for the player to move. Positive wins, larger is sooner; 0 draws."""
    from escalade.app.compiling import announce_compiling

    announce_compiling()
    from escalade.nodes.daemon import in_daemon_thread
    from escalade.nodes.parse import canonical_text
    from escalade.search.solvers import exact_solver

    found = load_domain(domain, domain_options(option))
    solver = exact_solver(found)
    if solver is None:
        raise SettingsError(f"domain '{found.name}' has no exact solver")
    parsed = found.parse(canonical_text(found, state))
    columns = (TextColumn("solving exactly"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("solving", total=len(found.legal_actions(parsed)))
        # A kernel does not hear Ctrl-C, so it works where nobody has to wait for it.
        scores = in_daemon_thread(
            lambda: solver.scores(parsed, lambda solved: progress.update(bar, completed=solved))
        ).result()
    best = max(score for score in scores if score is not None)
    value = (best > 0) - (best < 0)
    if as_json:
        typer.echo(json.dumps({"scores": scores, "value": value}))
        return
    for action, score in enumerate(scores):
        told = "illegal" if score is None else f"{score:+g}" if score else "0"
        typer.echo(f"{found.action_name(action)}: {told}")
    typer.echo(f"the player to move {('draws', 'wins', 'loses')[value]}")
