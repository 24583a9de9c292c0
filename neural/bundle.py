"""Model bundles: one immutable directory that holds `weights.safetensors`, `bundle.json` and, but for older ones,
`taught.safetensors` (which states taught it, `escalade.neural.taught`), and nothing else.

Nothing in a bundle can run code: weights are safetensors, the rest is JSON, and any other file is refused. A bundle
is written to a hidden sibling directory and renamed into place, so whoever looks sees a whole one or none; one that
is read has been checked against its hashes, its spec and, if given, the domain it is to serve.

Tensor names are those of the modules with the prefix `network.` or `value_network.`; all are float32, or, where every
weight of the networks is exactly such a number, float16 in the file, half as long: `halved` makes them so.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import shutil
import stat
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from escalade.domains.base import Domain
from escalade.domains.errors import BundleError
from escalade.neural.calibration import Calibrator, IdentityCalibrator, calibrator_from_json
from escalade.neural.certificate import Certificate
from escalade.neural.files import sync_directory
from escalade.neural.manifest import MAX_MANIFEST_BYTES, DomainStamp, Manifest, first_fault, parse_manifest
from escalade.neural.networks import PolicyValueNetwork, ValueNetwork
from escalade.neural.novelty import Novelty, restored
from escalade.neural.spec import NetworkSpec, ValueSpec
from escalade.neural.taught import TAUGHT_FILE, Taught, TaughtSpec

MANIFEST_FILE = "bundle.json"
WEIGHTS_FILE = "weights.safetensors"
_FILES = (MANIFEST_FILE, WEIGHTS_FILE)
_MAY_HOLD = (*_FILES, TAUGHT_FILE)
_PREFIXES = ("network", "value_network")
_NOVELTY = "novelty"
# safetensors keeps names and shapes in a JSON header; far more than the largest spec needs.
_HEADER_ALLOWANCE = 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle as read: networks in eval mode on the CPU, parameters without gradients."""

    path: Path
    manifest: Manifest
    network: PolicyValueNetwork
    value_network: ValueNetwork | None
    calibrators: Mapping[str, Calibrator] = field(default_factory=dict)
    novelty: Novelty | None = None

    @property
    def hash(self) -> str:
        """64 hex digits that stand for all that decides: domain, specs, weights, calibrators and novelty."""
        return self.manifest.hash

    @property
    def version(self) -> str:
        """The first 12 digits of the hash."""
        return self.manifest.hash[:12]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """What was proven, of which those of this hash count; without any the neural rungs accept on no one's word but
        the user's."""
        return self.manifest.certificates

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures measured when it was made."""
        return self.manifest.metrics

    def taught(self) -> Taught | None:
        """Digests of the states that taught or chose it, read anew; None for an older bundle, which records none.
        Raises BundleError if the file is not the one that was written."""
        return _taught_of(self.path, self.manifest)

    def calibrator(self, rung: str) -> Calibrator:
        """The calibrator of a rung, "policy" or "value"; identity where none was recorded."""
        return self.calibrators.get(rung, IdentityCalibrator())


def write_bundle(
    path: str | Path,
    *,
    domain: Domain[Any],
    network: PolicyValueNetwork,
    value_network: ValueNetwork | None = None,
    calibrators: Mapping[str, Calibrator] | None = None,
    novelty: Novelty | None = None,
    taught: Taught | None = None,
    certificates: Sequence[Certificate] = (),
    metrics: Mapping[str, float] | None = None,
    created: datetime | None = None,
) -> Bundle:
    """Write the bundle directory `path` and read it back.

    calibrators: by rung, "policy", "value" or "search"; identity where left out.
    novelty: how to tell states that the neural rungs are to leave to others; None: there are none such.
    taught: the states that taught or chose it, which no proof may rest on; None: nothing is known of them.
    certificates: those made for a bundle of the same identity.
    metrics: finite numbers by name.
    created: aware time; None is now.

    Raises BundleError if `path` exists, or for what no reader would accept: a network of another domain or with NaN
    weights, a metric that is not finite, a certificate made for another bundle.
    A process killed on the way leaves at most a hidden directory `.NAME.….partial` beside `path`.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise BundleError(f"bundle '{path}' exists already: bundles never change, so choose another path")
    tensors = _tensors_of(network, value_network)
    kept = {f"{_NOVELTY}.{name}": torch.from_numpy(t) for name, t in (novelty.tensors() if novelty else {}).items()}
    try:
        weights = save(_stored(tensors) | kept)
        digests = b"" if taught is None else taught.to_bytes()
        manifest = Manifest.model_construct(
            domain=DomainStamp.of(domain),
            network=network.spec,
            value_network=value_network.spec if value_network else None,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            weights_bytes=len(weights),
            calibrators={rung: calibrator.to_json() for rung, calibrator in (calibrators or {}).items()},
            novelty=novelty.spec if novelty else None,
            taught=_taught_spec(taught, digests) if taught is not None else None,
            certificates=tuple(certificates),
            metrics={name: float(figure) for name, figure in (metrics or {}).items()},
            created=created or datetime.now(UTC),
            made_with={name: installed_version(name) for name in ("escalade", "torch", "safetensors")},
        )
        identity = manifest.identity()
        if any(one.bundle != identity for one in certificates):
            raise BundleError("a certificate was made for another bundle")
        sums = {"hash": identity, "certificates_sha256": manifest.certificates_hash()}
        document = manifest.model_copy(update=sums).model_dump(mode="json")
        text = Manifest.model_validate(document).model_dump_json(indent=2).encode() + b"\n"
        # What would be refused when read is not written.
        parse_manifest(text)
        skeletons = _skeletons(network.spec, value_network.spec if value_network else None)
        _check_tensors(_tensors_of(*skeletons), tensors)
    except ValidationError as error:
        raise BundleError(f"bundle '{path}' cannot be written: {first_fault(error)}") from None
    except BundleError as error:
        raise BundleError(f"bundle '{path}' cannot be written: {error}") from None
    files = {WEIGHTS_FILE: weights, MANIFEST_FILE: text}
    _write_atomically(path, files if taught is None else {**files, TAUGHT_FILE: digests})
    return read_bundle(path, domain)


def read_bundle(path: str | Path, domain: Domain[Any] | None = None) -> Bundle:
    """Read and check the bundle directory `path`; with `domain`, also that it was made for that one.

    Raises BundleError, one sentence that names the fault, for anything but a whole and unchanged bundle.
    """
    path = Path(path)
    try:
        _check_files(path)
        manifest = parse_manifest(_read(path / MANIFEST_FILE, MAX_MANIFEST_BYTES))
        _check_taught(path / TAUGHT_FILE, manifest)
        if domain is not None and (difference := manifest.domain.difference(DomainStamp.of(domain))):
            raise BundleError(difference)
        calibrators: dict[str, Calibrator] = {
            rung: calibrator_from_json(data, rung) for rung, data in manifest.calibrators.items()
        }
        tensors = _load_weights(path / WEIGHTS_FILE, manifest)
        novelty = _take_novelty(manifest, tensors)
        network, value_network = _build(manifest.network, manifest.value_network, tensors)
    except BundleError as error:
        raise BundleError(f"bundle '{path}' refused: {error}") from None
    except OSError as error:
        raise BundleError(f"bundle '{path}' cannot be read: {error.strerror or error}") from None
    return Bundle(path, manifest, network, value_network, calibrators, novelty)


def read_taught(path: str | Path) -> Taught | None:
    """As `Bundle.taught`, of the bundle directory `path`, without its weights."""
    path = Path(path)
    try:
        return _taught_of(path, parse_manifest(_read(path / MANIFEST_FILE, MAX_MANIFEST_BYTES)))
    except OSError as error:
        raise BundleError(f"bundle '{path}' cannot be read: {error.strerror or error}") from None


# Reading


def _check_files(path: Path) -> None:
    if not path.is_dir():
        raise BundleError("it is not a directory" if path.exists() else "there is no such directory")
    found = sorted(entry.name for entry in os.scandir(path))
    for name in _FILES:
        if name not in found:
            raise BundleError(f"{name} is missing")
        # A named pipe or device would hang the reader.
        if not stat.S_ISREG((path / name).stat().st_mode):
            raise BundleError(f"{name} is not a regular file")
    for name in found:
        if name not in _MAY_HOLD:
            raise BundleError(f"it holds '{name}', and a bundle is {', '.join(_MAY_HOLD)} alone")


def _check_taught(path: Path, manifest: Manifest) -> None:
    """That the file is there if and only if the manifest says so; its contents are checked when they are read."""
    if manifest.taught is None:
        if path.exists():
            raise BundleError(f"it holds '{path.name}', of which {MANIFEST_FILE} says nothing")
        return
    if not path.exists():
        raise BundleError(f"{path.name} is missing")
    if not stat.S_ISREG(path.stat().st_mode):
        raise BundleError(f"{path.name} is not a regular file")
    if path.stat().st_size != manifest.taught.bytes:
        raise BundleError(f"{path.name} is not the file that was written: its size differs from {MANIFEST_FILE}'s")


def _taught_spec(taught: Taught, digests: bytes) -> TaughtSpec:
    return TaughtSpec(
        weights=len(taught.weights),
        proof=len(taught.proof),
        complete=taught.complete,
        sha256=hashlib.sha256(digests).hexdigest(),
        bytes=len(digests),
    )


def _read(path: Path, limit: int) -> bytes:
    """The file's bytes, one more than `limit` at most."""
    with path.open("rb") as file:
        return file.read(limit + 1)


def _taught_of(path: Path, manifest: Manifest) -> Taught | None:
    spec = manifest.taught
    if spec is None:
        return None
    try:
        raw = _read(path / TAUGHT_FILE, spec.bytes)
    except OSError as error:
        raise BundleError(f"bundle '{path}': {TAUGHT_FILE} cannot be read: {error.strerror or error}") from None
    if len(raw) != spec.bytes or hashlib.sha256(raw).hexdigest() != spec.sha256:
        raise BundleError(f"bundle '{path}': {TAUGHT_FILE} is not the file that was written")
    return Taught.from_bytes(raw, spec)


def _load_weights(path: Path, manifest: Manifest) -> dict[str, Tensor]:
    specs = [spec for spec in (manifest.network, manifest.value_network) if spec is not None]
    parameters = sum(spec.parameters for spec in specs)
    other = 4 * sum(map(math.prod, _novelty_shapes(manifest).values()))
    least, most = 2 * parameters + other, 4 * parameters + other
    if not least <= manifest.weights_bytes <= most + _HEADER_ALLOWANCE:
        raise BundleError(f"weights_bytes is {manifest.weights_bytes}, but its networks need {least} or {most} bytes")
    # Hash and tensors come from the same bytes, so nothing can change in between.
    raw = _read(path, manifest.weights_bytes)
    if len(raw) != manifest.weights_bytes or hashlib.sha256(raw).hexdigest() != manifest.weights_sha256:
        raise BundleError(f"{WEIGHTS_FILE} is not the file that was written: its hash differs from bundle.json's")
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise BundleError(f"{WEIGHTS_FILE} is not a safetensors file: {error}") from None
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}


def _novelty_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Of the tensors that tell what is novel, by name; none without it."""
    if manifest.novelty is None:
        return {}
    return manifest.novelty.shapes(manifest.network.observation_size)


def _take_novelty(manifest: Manifest, tensors: dict[str, Tensor]) -> Novelty | None:
    """Its tensors, taken out of those of the networks."""
    expected = {
        f"{_NOVELTY}.{name}": torch.empty(shape, device="meta") for name, shape in _novelty_shapes(manifest).items()
    }
    if manifest.novelty is None:
        return None
    found = {name: tensors.pop(name) for name in expected if name in tensors}
    _check_tensors(expected, found)
    arrays = {name.removeprefix(f"{_NOVELTY}."): tensor.numpy() for name, tensor in found.items()}
    try:
        return restored(manifest.novelty, arrays)
    except ValueError as error:
        raise BundleError(f"tensors of novelty: {error}") from None


def _build(
    spec: NetworkSpec, value_spec: ValueSpec | None, tensors: Mapping[str, Tensor]
) -> tuple[PolicyValueNetwork, ValueNetwork | None]:
    network, value_network = _skeletons(spec, value_spec)
    _check_tensors(_tensors_of(network, value_network), tensors)
    for prefix, module in zip(_PREFIXES, (network, value_network), strict=True):
        if module is not None:
            own = {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
            module.load_state_dict(own, assign=True)
            module.requires_grad_(False).eval()
    return network, value_network


def _skeletons(spec: NetworkSpec, value_spec: ValueSpec | None) -> tuple[PolicyValueNetwork, ValueNetwork | None]:
    """The networks on the meta device: names and shapes, nothing allocated or initialised."""
    with torch.device("meta"):
        return PolicyValueNetwork(spec), ValueNetwork(value_spec) if value_spec else None


def _check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    if missing := sorted(expected.keys() - tensors.keys()):
        raise BundleError(f"tensor '{missing[0]}' is missing from {WEIGHTS_FILE}")
    if extra := sorted(tensors.keys() - expected.keys()):
        raise BundleError(f"{WEIGHTS_FILE} holds tensor '{extra[0]}', which its network does not have")
    for name, tensor in tensors.items():
        wanted = list(expected[name].shape)
        if list(tensor.shape) != wanted:
            raise BundleError(f"tensor '{name}' is {list(tensor.shape)}, and its network has {wanted}")
        if tensor.dtype != torch.float32:
            raise BundleError(f"tensor '{name}' is {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if not torch.isfinite(tensor).all():
            raise BundleError(f"tensor '{name}' holds NaN or infinite weights")


def _tensors_of(network: PolicyValueNetwork, value_network: ValueNetwork | None) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}": tensor.detach().contiguous().cpu() if not tensor.is_meta else tensor
        for prefix, module in zip(_PREFIXES, (network, value_network), strict=True)
        if module is not None
        for name, tensor in module.state_dict().items()
    }


# Writing


def halved(network: PolicyValueNetwork) -> PolicyValueNetwork:
    """A copy whose weights are the nearest float16 numbers, still held as float32: its bundle is half as long."""
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.copy_(weight.half())
    return copied


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As they lie in the file: float16 where nothing is lost by it."""
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    exact = all(torch.equal(halves[name].float(), tensor) for name, tensor in tensors.items())
    return halves if exact else dict(tensors)


def _write_atomically(path: Path, files: Mapping[str, bytes]) -> None:
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        for name, contents in files.items():
            with (partial / name).open("xb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
        sync_directory(partial)
        # Fails if another writer got here first: a directory never replaces one that holds files.
        os.rename(partial, path)
        sync_directory(path.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = "it exists already" if path.exists() else error.strerror or str(error)
        raise BundleError(f"bundle '{path}' cannot be written: {why}") from None
