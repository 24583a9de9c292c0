"""What `bundle.json` says, and how it is read without trusting it.

One object: `schema_version` 1, `domain` (name, num_actions, observation_shape, actions_sha256), `network` and
`value_network` (their specs; the latter may be null), `weights_sha256` and `weights_bytes` of `weights.safetensors`,
`calibrators` by rung, `novelty` (null, or how to tell states unlike those seen; its tensors lie with the weights),
`taught` (what is recorded of the states that taught it, which `taught.safetensors` holds; null in older bundles),
`certificates` (what was proven; the router uses those of this identity), `certificates_sha256`, `metrics`, `created`,
`made_with`, and `hash`, the identity of everything that decides (see `Manifest.identity`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from escalade.domains.base import Domain
from escalade.domains.errors import BundleError
from escalade.neural.certificate import Certificate
from escalade.neural.novelty import NoveltySpec
from escalade.neural.spec import NetworkSpec, ValueSpec
from escalade.neural.taught import TaughtSpec

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 2**20
MAX_WEIGHTS_BYTES = 2**31

_NEWER = {"covers": "all", "census": False, "limit": None}
"""Fields that certificates did not have at first, and what they are where these have none."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CalibratedRung = Literal["policy", "value", "search"]


class DomainStamp(BaseModel):
    """Which decisions the networks were made for. `actions_sha256` is over the names of all actions in order: two
    label sets of one size are different domains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    num_actions: int = Field(ge=1)
    observation_shape: tuple[int, ...]
    actions_sha256: Sha256

    @staticmethod
    def of(domain: Domain[Any]) -> DomainStamp:
        names = json.dumps([domain.action_name(action) for action in range(domain.num_actions)])
        return DomainStamp(
            name=domain.name,
            num_actions=domain.num_actions,
            observation_shape=tuple(domain.observation_shape),
            actions_sha256=hashlib.sha256(names.encode()).hexdigest(),
        )

    def difference(self, other: DomainStamp) -> str | None:
        """The first way in which the bundle's stamp (self) is not that of the domain in use (other)."""
        for field, what in (
            ("name", "the domain"),
            ("num_actions", "num_actions"),
            ("observation_shape", "observation_shape"),
        ):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"it was made for {what} {mine!r}, not {theirs!r}"
        if self.actions_sha256 != other.actions_sha256:
            return f"it was made for other actions: as many as those of '{other.name}', but named or ordered otherwise"
        return None


class Manifest(BaseModel):
    """`bundle.json`; see the module's text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    domain: DomainStamp
    network: NetworkSpec
    value_network: ValueSpec | None = None
    weights_sha256: Sha256
    weights_bytes: int = Field(ge=1, le=MAX_WEIGHTS_BYTES)
    calibrators: dict[CalibratedRung, dict[str, Any]] = Field(default_factory=dict)
    novelty: NoveltySpec | None = None
    taught: TaughtSpec | None = None
    certificates: tuple[Certificate, ...] = ()
    certificates_sha256: Sha256 | None = None
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    created: AwareDatetime
    made_with: dict[str, str] = Field(default_factory=dict)
    hash: Sha256

    def identity(self) -> str:
        """SHA-256 of the parts that decide: domain, specs, weights, calibrators. Two bundles of one identity give the
        same answers, whenever made and whatever was measured on them; a certificate is bound to it."""
        deciding = {"schema_version", "domain", "network", "value_network", "weights_sha256", "calibrators"}
        if self.novelty is not None:  # older bundles know nothing of it
            deciding.add("novelty")
        parts = self.model_dump(mode="json", include=deciding)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def certificates_hash(self) -> str | None:
        """SHA-256 of the certificates: thresholds that somebody changed were not proven. None without any."""
        if not self.certificates:
            return None
        told = [one.model_dump(mode="json") for one in self.certificates]
        for one in told:
            for name, default in _NEWER.items():  # older certificates know nothing of them
                if one[name] == default:
                    del one[name]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Bundles from before there were certificates say `certificate: null`."""
        if isinstance(data, Mapping) and "certificate" in data and data["certificate"] is None:
            return {name: value for name, value in data.items() if name != "certificate"}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.network.num_actions != self.domain.num_actions:
            raise ValueError(f"network has {self.network.num_actions} actions, the domain {self.domain.num_actions}")
        for field in ("network", "value_network"):
            spec = getattr(self, field)
            if spec is not None and spec.observation_shape != self.domain.observation_shape:
                raise ValueError(f"{field} has another observation_shape than the domain")
        if self.certificates_sha256 not in (None, self.certificates_hash()):
            raise ValueError("certificates were changed after they were made")
        return self


def parse_manifest(raw: bytes) -> Manifest:
    """The manifest in the bytes of a `bundle.json`. Raises BundleError with the first fault found."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleError(f"bundle.json is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        data = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle.json is not valid JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise BundleError("bundle.json is not a JSON object")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BundleError(f"its schema_version is {version!r}; this version reads {SCHEMA_VERSION}")
    try:
        manifest = Manifest.model_validate_json(raw, strict=False)
    except ValidationError as error:
        raise BundleError(f"bundle.json: {first_fault(error)}") from None
    if manifest.hash != manifest.identity():
        raise BundleError("bundle.json was changed after it was written: its hash does not fit its contents")
    return manifest


def first_fault(error: ValidationError) -> str:
    """One clause naming the first field at fault, with the whole path to it."""
    fault = error.errors(include_url=False, include_context=False)[0]
    where, what = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
    if not where:
        return what
    # What a config says of itself begins with its field.
    named, given = re.split(r"[ .:]", what, maxsplit=1)[0], fault["input"]
    return f"{where}.{what}" if isinstance(given, Mapping) and named in given else f"{where}: {what}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
