"""From settings to working decision graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from escalade.app.auditor import Auditor
from escalade.app.counterfactual import Counterfactuals
from escalade.app.ledger import Ledger
from escalade.app.metrics import METRICS, Metrics
from escalade.app.prices import ModelPrice, Prices, read_prices
from escalade.app.settings import Settings
from escalade.app.tracing import flush
from escalade.app.watch import Watch, WatchConfig
from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import SettingsError
from escalade.graph.decision import make_resources, wire
from escalade.graph.decision_graph import DecisionGraph
from escalade.neural.sources import BUILTIN, REGISTERED, builtin_names
from escalade.nodes.context import NO_LIMITS, Limits
from escalade.nodes.dialect import Dialect
from escalade.nodes.endpoint import Endpoint
from escalade.nodes.gate import Gate
from escalade.nodes.guards import Breaker, HourlyTokens
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.reason_calibration import ReasonCalibration
from escalade.nodes.resources import FailureSink, Resources, Sink
from escalade.nodes.structured import FORMED_BY, Ways
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.solvers import exact_solver
from escalade.training.audits import AuditSink
from escalade.training.background import CLOSING_S
from escalade.training.decisions import ExperienceSink
from escalade.training.outcomes import OutcomeSink
from escalade.training.similar import RecordedDecisions

NO_BUNDLE = "none"
"""In place of a bundle: no network, although one came with the package."""


@dataclass(frozen=True)
class Decider:
    """One domain, ready to decide. experience, outcomes, audits, ledger, watch: where its decisions go, what becomes of
    them, what would have been right, what they cost, and how true its certificates are; None where the settings name no
    place for it. trace_share: of its decisions, see `escalade.app.tracing`."""

    resources: Resources
    graph: DecisionGraph
    experience: ExperienceSink | None = None
    outcomes: OutcomeSink | None = None
    ledger: Ledger | None = None
    watch: Watch | None = None
    trace_share: float = 1.0
    audits: AuditSink | None = None

    @property
    def domain(self) -> Domain[Any]:
        return self.resources.domain

    def close(self, seconds: float = CLOSING_S) -> None:
        """Stop the threads behind it, write what they still hold, and close connections. Not on an event loop.
        seconds: for audits that wait and for each kind of record; those left then are shed."""
        if self.watch is not None:  # first: its audits ask all the others
            self.watch.close(seconds)
        if self.resources.search is not None:
            self.resources.search.close()
        for network in {self.resources.network, self.resources.value_network}:
            if network is not None:
                network.close()
        for sink in (self.experience, self.outcomes, self.audits, self.ledger):
            if sink is not None:
                sink.close(seconds)
        if self.resources.language_model is not None:
            self.resources.language_model.close()
        flush()


def open_decider(
    settings: Settings,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    bundle: str | Path | None = None,
    language_model: LanguageModel | None = None,
    sinks: Sequence[Sink] = (),
    failure_sinks: Sequence[FailureSink] = (),
    metrics: Metrics = METRICS,
    limits: Limits = NO_LIMITS,
) -> Decider:
    """The decision graph of a domain. options and bundle come before those of the settings.

    bundle: a folder, `builtin:NAME`, or `models:/NAME@ALIAS` or `models:/NAME/VERSION` in the settings' registry;
    "none" is none. Unless told otherwise, a domain of ours is decided by the champion that came with it. What an alias
    points at is looked up now: one who is open keeps the bundle it was opened with. language_model: one that others
    use too, so that its endpoint's guards see all calls; None: one of its own, by the settings. metrics: hear of rows
    and audits. limits: what a run may ask for.
    Raises CatalogError, BundleError, RegistryError, StoreError or SettingsError for what cannot be had.
    """
    domain = load_domain(name, options or settings.domain_options.get(name))
    bundle = bundle or settings.bundles.get(name) or settings.bundles.get(domain.name) or champion_of(domain)
    bundle = None if bundle == NO_BUNDLE else bundle
    if bundle:
        # torch's threads busy-wait for each other and would fight with the search's; see neural/networks.py.
        import torch

        torch.set_num_threads(1)
    rollouts = RolloutEvaluator(domain, settings.rollouts) if domain.has_simulator and not bundle else None
    prices = read_prices(settings.prices)
    usd_per_hour = compute_price(settings, prices)
    language_model = language_model or open_language_model(settings, prices, metrics)
    folder = registered_folder(bundle, settings) if isinstance(bundle, str) else bundle
    resources = make_resources(
        domain,
        bundle=folder,
        language_model=language_model,
        evaluator=rollouts,
        reason_calibration=read_calibration(settings, domain),
        defaults=settings.defaults,
        sinks=sinks,
        failure_sinks=failure_sinks,
        compute_usd_per_hour=usd_per_hour,
        limits=limits,
    )
    experience, outcomes, audits = None, None, None
    if settings.experience is not None:
        store = settings.experience / domain.name
        experience = ExperienceSink(
            store,
            domain,
            model=resources.bundle_version or "rollouts",
            on_fate=partial(metrics.record_experience, domain.name, "decisions"),
        )
        outcomes = OutcomeSink(store, domain, on_fate=partial(metrics.record_experience, domain.name, "outcomes"))
        if settings.watch is not None:
            audits = AuditSink(store, domain, on_fate=partial(metrics.record_experience, domain.name, "audits"))
        known = RecordedDecisions(store, domain)
        resources = replace(resources, sinks=(*resources.sinks, experience), similar=known)
    ledger = None
    if settings.ledger is not None:
        on_fate = partial(metrics.record_ledger, domain.name)
        ledger = Ledger(settings.ledger, counterfactuals_of(resources, prices), on_fate=on_fate)
        failures = (*resources.failure_sinks, ledger.failed)
        resources = replace(resources, sinks=(*resources.sinks, ledger), failure_sinks=failures)
    watch = None
    if settings.watch is not None:
        watch = open_watch(settings, resources, metrics, ledger, folder, audits)
    if watch is not None:
        resources = replace(resources, sinks=(*resources.sinks, watch), watch=watch)
    graph = wire(resources).compile(name=f"decide_{domain.name}")
    return Decider(resources, graph, experience, outcomes, ledger, watch, settings.trace_share, audits)


def read_calibration(settings: Settings, domain: Domain[Any]) -> ReasonCalibration | None:
    """The language model's, from the settings' file; None if they name none. Raises SettingsError for a file that is
    none, or another domain's."""
    path = settings.llm_calibrations.get(domain.name)
    if path is None:
        return None
    where = f"ESCALADE_LLM_CALIBRATIONS: '{path}'"
    try:
        found = ReasonCalibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(f"{where}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None
    if found.domain != domain.name:
        raise SettingsError(f"{where} is of domain '{found.domain}', not '{domain.name}'")
    return found


def open_watch(
    settings: Settings,
    resources: Resources,
    metrics: Metrics,
    ledger: Ledger | None = None,
    bundle: str | Path | None = None,
    keep: AuditSink | None = None,
) -> Watch | None:
    """What audits decisions, by the reference of the certificates or, without any, by the best there is; None where
    there is nothing to watch: no network, or neither a certificate nor anybody who keeps what audits find. bundle:
    whose certificates they are, so that states that taught it are left out."""
    assert settings.watch is not None
    held, domain = resources.certificates, resources.domain
    if not held and (keep is None or resources.network is None):
        return None
    from escalade.neural.sources import bundle_folder
    from escalade.training.untaught import teaches

    reference = held[0].reference if held else reference_of(resources)
    auditor = Auditor(resources, reference, None if ledger is None else ledger.audited)
    watch = Watch(
        settings.watch,
        domain,
        held,
        auditor.acceptable,
        auditor.neural_reports,
        WatchConfig(settings.audit_share, settings.false_alarms),
        taught=None if bundle is None else teaches(domain, bundle_folder(bundle)),
        keep=keep,
        reference=reference,
        on_audit=partial(metrics.record_audit, domain.name),
        on_alarm=lambda certificate: metrics.record_alarm(domain.name, certificate.alpha, True),
    )
    for one in held:
        metrics.record_alarm(domain.name, one.alpha, watch.problem(one) is not None)
    return watch


def reference_of(resources: Resources) -> str:
    """Who names what is right where no certificate says: an exact solver, a language model, or whoever reports outcomes
    ("labels")."""
    if exact_solver(resources.domain) is not None:
        return "exact"
    return "llm" if resources.language_model is not None else "labels"


def compute_price(settings: Settings, prices: Prices) -> float:
    """USD per hour of this machine: the setting, else the file's, else nothing."""
    given = settings.compute_usd_per_hour
    return given if given is not None else prices.compute_usd_per_hour or 0.0


def counterfactuals_of(resources: Resources, prices: Prices) -> Counterfactuals:
    """What the ledger compares with: the language model that is configured, or the one that the prices name."""
    model, price = resources.language_model, None
    if model is not None and model.input_usd_per_mtok is not None and model.output_usd_per_mtok is not None:
        price = ModelPrice(input_usd_per_mtok=model.input_usd_per_mtok, output_usd_per_mtok=model.output_usd_per_mtok)
    elif model is None and prices.llm_only is not None:
        price = prices.models[prices.llm_only]
    known = Counterfactuals(resources.domain, price, resources.compute_usd_per_hour)
    for one in resources.certificates[:1]:
        known.search_seconds, known.search_simulations = one.cost_s.get("search"), one.tried
        known.search_scale = resources.defaults.simulations / (one.simulations or resources.defaults.simulations)
    return known


def champion_of(domain: Domain[Any]) -> str | None:
    """The bundle that came with the package for one of its own domains, if there is one."""
    ours = type(domain).__module__.startswith("escalade.domains.")
    return f"{BUILTIN}{domain.name}" if ours and domain.name in builtin_names() else None


def registered_folder(bundle: str, settings: Settings) -> str | Path:
    """The folder of a bundle named `models:/…`; what is named otherwise as it is. Raises RegistryError."""
    if not bundle.startswith(REGISTERED):
        return bundle
    from escalade.training.registry import Registry

    return Registry(settings.registry).folder(bundle)


def open_language_model(
    settings: Settings, prices: Prices | None = None, metrics: Metrics = METRICS
) -> LanguageModel | None:
    """The configured chat model behind any OpenAI-compatible endpoint, None if there is none. Its prices are those of
    the settings, else those of the file. metrics: hear of its circuit breaker."""
    if settings.llm_model is None:
        return None
    if settings.llm_api_key is None and settings.llm_base_url is None:
        raise SettingsError(
            f"ESCALADE_LLM_MODEL is '{settings.llm_model}' but there is no endpoint: set OPENAI_API_KEY, or "
            "OPENAI_BASE_URL for a server that needs no key"
        )
    from escalade.app.openai_chat import close_chat, make_chat, make_ready

    make_ready(settings)
    price = None if prices is None else prices.models.get(settings.llm_model)
    listed = {} if price is None else price.model_dump()
    left_out = settings.llm_leave_out
    return LanguageModel(
        partial(make_chat, settings),
        settings.llm_model,
        close_chat=close_chat,
        batch_ms=settings.llm_batch_ms,
        batch_most=settings.llm_batch_most,
        sampling={"temperature": settings.llm_temperature},
        max_tokens=settings.llm_max_tokens,
        tokens_per_decision=settings.llm_tokens_per_decision,
        timeout_s=settings.llm_timeout_s,
        input_usd_per_mtok=_first(settings.llm_input_usd_per_mtok, listed.get("input_usd_per_mtok")),
        output_usd_per_mtok=_first(settings.llm_output_usd_per_mtok, listed.get("output_usd_per_mtok")),
        cached_usd_per_mtok=_first(settings.llm_cached_usd_per_mtok, listed.get("cached_usd_per_mtok")),
        ways=Ways(never=[way for way, parameter in FORMED_BY.items() if parameter in left_out]),
        dialect=Dialect(left_out),
        endpoint=Endpoint(
            breaker=Breaker(on_change=metrics.record_breaker),
            gate=Gate(settings.llm_at_once, settings.llm_waiting),
            tokens=HourlyTokens(settings.llm_tokens_per_hour),
        ),
    )


def _first(given: float | None, listed: float | None) -> float | None:
    return listed if given is None else given
