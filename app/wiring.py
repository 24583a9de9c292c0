"""From settings to working decision graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from escalade.app.metrics import METRICS
from escalade.app.settings import Settings
from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import SettingsError
from escalade.graph.decision import DecisionGraph, make_resources, wire
from escalade.neural.sources import BUILTIN, REGISTERED, builtin_names
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.resources import Resources, Sink
from escalade.search.evaluators import RolloutEvaluator
from escalade.training.decisions import ExperienceSink
from escalade.training.outcomes import OutcomeSink

NO_BUNDLE = "none"
"""In place of a bundle: no network, although one came with the package."""


@dataclass(frozen=True)
class Decider:
    """One domain, ready to decide. experience, outcomes: where its decisions go, and what becomes of them; None where
    the settings name no folder for it."""

    resources: Resources
    graph: DecisionGraph
    experience: ExperienceSink | None = None
    outcomes: OutcomeSink | None = None

    @property
    def domain(self) -> Domain[Any]:
        return self.resources.domain

    def close(self) -> None:
        """Stop the threads behind it, and write what they still hold."""
        if self.resources.search is not None:
            self.resources.search.close()
        for network in {self.resources.network, self.resources.value_network}:
            if network is not None:
                network.close()
        for sink in (self.experience, self.outcomes):
            if sink is not None:
                sink.close()


def open_decider(
    settings: Settings,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    bundle: str | Path | None = None,
    sinks: Sequence[Sink] = (),
    on_experience: Callable[[str, str, str, int], None] = METRICS.record_experience,
) -> Decider:
    """The decision graph of a domain. options and bundle come before those of the settings.

    bundle: a folder, `builtin:NAME`, or `models:/NAME@ALIAS` or `models:/NAME/VERSION` in the settings' registry;
    "none" is none. Unless told otherwise, a domain of ours is decided by the champion that came with it. What an alias
    points at is looked up now: one who is open keeps the bundle it was opened with. on_experience: hears of rows, as
    `Metrics.record_experience`.
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
    resources = make_resources(
        domain,
        bundle=registered_folder(bundle, settings) if isinstance(bundle, str) else bundle,
        language_model=open_language_model(settings),
        evaluator=rollouts,
        defaults=settings.defaults,
        sinks=sinks,
        compute_usd_per_hour=settings.compute_usd_per_hour,
    )
    experience, outcomes = None, None
    if settings.experience is not None:
        folder = settings.experience / domain.name
        experience = ExperienceSink(
            folder,
            domain,
            model=resources.bundle_version or "rollouts",
            on_fate=partial(on_experience, domain.name, "decisions"),
        )
        outcomes = OutcomeSink(folder, domain, on_fate=partial(on_experience, domain.name, "outcomes"))
        resources = replace(resources, sinks=(*resources.sinks, experience))
    return Decider(resources, wire(resources).compile(name=f"decide_{domain.name}"), experience, outcomes)


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


def open_language_model(settings: Settings) -> LanguageModel | None:
    """The configured chat model behind any OpenAI-compatible endpoint, None if there is none."""
    if settings.llm_model is None:
        return None
    if settings.llm_api_key is None and settings.llm_base_url is None:
        raise SettingsError(
            f"ESCALADE_LLM_MODEL is '{settings.llm_model}' but there is no endpoint: set OPENAI_API_KEY, or "
            "OPENAI_BASE_URL for a server that needs no key"
        )
    from langchain_openai import ChatOpenAI  # takes a second to load
    from openai import DefaultAsyncHttpxClient

    key = settings.llm_api_key or SecretStr("none")
    model = settings.llm_model

    def make_chat() -> ChatOpenAI:
        return ChatOpenAI(
            model=model,
            api_key=key,
            base_url=settings.llm_base_url,
            max_retries=0,  # a failed call is the router's to deal with
            timeout=settings.llm_timeout_s,
            max_completion_tokens=settings.llm_max_tokens,
            temperature=0,
            http_async_client=DefaultAsyncHttpxClient(),  # its own: the default one is shared between event loops
        )

    return LanguageModel(
        make_chat,
        settings.llm_model,
        max_tokens=settings.llm_max_tokens,
        timeout_s=settings.llm_timeout_s,
        input_usd_per_mtok=settings.llm_input_usd_per_mtok,
        output_usd_per_mtok=settings.llm_output_usd_per_mtok,
    )
