"""`escalade llm calibrate`: how sure a language model is, when so many of its samples agree."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import DomainArgument, DomainOptions, JsonOption, domain_options
from escalade.app.labelling import ReferenceOption, StatesOption, StoreOfDecisionsOption, Wanted, mention
from escalade.app.measured import open_bundle, progress_bars, write_report
from escalade.app.settings import read_settings
from escalade.app.waiting import NOTICED_S, TEMPORARY_FAILURE, LeftOver, PatienceOption, patience_with, run_asking
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.nodes.context import make_context

FILE, ANSWERS, DIAGRAM = "reason.json", "answers.jsonl", "reliability.png"


def calibrate(
    domain: DomainArgument,
    samples: Annotated[int, typer.Option(min=2, max=64, help="Answers sampled for each state.")] = 5,
    reasoning: Annotated[str, typer.Option(help="short or full: the same as the decisions will use.")] = "short",
    reference: ReferenceOption = None,
    states: StatesOption = None,
    count: Annotated[int, typer.Option(min=1, help="Maximum number of states.")] = 200,
    experience: StoreOfDecisionsOption = None,
    bundle: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Model bundle that search:N evaluates states with.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    patience: PatienceOption = None,
    option: DomainOptions = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Output folder.", show_default="out/calibrated/DOMAIN"),
    ] = None,
) -> None:
    """Calibrate the confidence of the configured language model.

    It is asked several times about each of a set of states with known correct actions. The share of answers that agree
    is fitted to how often they are correct, on one half of the states, and tested on the other half. An interrupted run
    is resumed by the same command.
    """
    from escalade.app.calibrating import answers_of, is_simulated, learned_from, some_of
    from escalade.app.wiring import NO_BUNDLE, open_decider
    from escalade.nodes.reason_calibration import ReasonCalibration
    from escalade.training.certified_report import draw_reliability
    from escalade.training.untaught import untaught

    settings = read_settings()
    if settings.llm_model is None:
        raise SettingsError("there is no language model: set ESCALADE_LLM_MODEL and OPENAI_API_KEY or OPENAI_BASE_URL")
    context = make_context({"mode": "llm_only", "ladder": ("reason",), "samples": samples, "reasoning": reasoning})
    decider = open_decider(settings, domain, options=domain_options(option) or None, bundle=bundle)
    loaded = decider.domain
    folder = out or Path("out/calibrated") / loaded.name
    folder.mkdir(parents=True, exist_ok=True)
    with closing(decider), progress_bars() as tell:
        opened: Any = None
        source = bundle or settings.bundles.get(domain) or settings.bundles.get(loaded.name)
        if (reference or "").startswith("search:") or source not in (None, NO_BUNDLE):
            opened = open_bundle(source, loaded, settings, "--bundle")
        wanted = Wanted(reference, states, count, experience, seed, folder)
        labelled = wanted.labelled(loaded, opened, settings, lambda done, of: tell("asking the reference", done, of))
        if opened is not None:
            labelled, left = untaught(loaded, opened, labelled)
            mention(left)
        labelled = some_of(labelled, count, seed)
        waits = patience_with(decider.resources.language_model, patience)

        def wait(seconds: float) -> None:
            if seconds >= NOTICED_S and waits is not None:
                tell(f"waiting for the endpoint ({waits.reason}), s", int(seconds), int(waits.seconds))

        def progress(done: int, of: int) -> None:
            tell("asking the model", done, of)

        try:
            asking = answers_of(decider, context, labelled, folder / ANSWERS, progress, waits, wait)
            lines = run_asking(asking, decider.resources.language_model)
        except LeftOver as left:
            typer.echo(str(left), err=True)
            raise typer.Exit(TEMPORARY_FAILURE) from None
    learned, tested = learned_from(labelled, lines, samples, seed)
    report = {
        "domain": loaded.name,
        "model": settings.llm_model,
        "samples": samples,
        "reasoning": reasoning,
        "reference": labelled.reference,
        "states": labelled.source,
        **learned,
    }
    write_report(ReasonCalibration.model_validate(report).model_dump(mode="json"), folder / FILE)
    try:
        draw_reliability({"reason": tested}, folder / DIAGRAM)
    except EscaladeError as error:  # without matplotlib the figures are no worse
        Console(stderr=True).print(f"[yellow]no plot:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    simulated = is_simulated(lines)
    if as_json:
        typer.echo(json.dumps({**report, "simulated": simulated}))
        return
    failed = sum("error" in line for line in lines)
    Console().print(
        f"{len(lines)} states, {failed} without an answer; of {report['count']} that taught {report['right']} were "
        f"right; calibration error on {report['tested']} others {report['error']:.3f} ({report['error_low']:.3f} to "
        f"{report['error_high']:.3f})" + ("; the model is a simulated one" if simulated else ""),
        highlight=False,
        soft_wrap=True,
    )
    typer.echo(f"export ESCALADE_LLM_CALIBRATIONS='{json.dumps({loaded.name: str(folder / FILE)})}'")
