"""Bundles appear whole or not at all, whoever dies or races."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from escalade.domains.errors import BundleError
from escalade.neural.bundle import read_bundle, write_bundle

KILLS = 40

# The import of torch is paid once: the writers are forks, killed at places spread over the time that one write takes.
KILLER = """
import glob, os, signal, sys, time
import torch
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import write_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec

torch.set_num_threads(1)
folder, kills = sys.argv[1], int(sys.argv[2])
network = PolicyValueNetwork(NetworkSpec(hidden=(128, 64), observation_shape=(3, 3, 3), num_actions=9))

def write(name):
    write_bundle(os.path.join(folder, name), domain=TicTacToe(), network=network)

def timed(name):
    start = time.perf_counter()
    write(name)
    return time.perf_counter() - start

duration = sorted(timed(f"whole{i}") for i in range(5))[2]
# On a busy machine a kill may miss the short time that writing takes: then more are tried.
for kill in range(20 * kills):
    if kill >= kills and glob.glob(os.path.join(folder, ".killed*.partial")):
        break
    writer = os.fork()
    if writer == 0:
        write(f"killed{kill}")
        os._exit(0)
    time.sleep(1.2 * duration * (kill % kills) / kills)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_writer_leaves_a_whole_bundle_or_none(tmp_path, domain):
    subprocess.run([sys.executable, "-c", KILLER, str(tmp_path), str(KILLS)], check=True, timeout=120)
    visible = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    for path in visible:
        read_bundle(path, domain)
    killed = [path for path in visible if path.name.startswith("killed")]
    halfway = list(tmp_path.glob(".killed*.partial"))
    assert len(visible) - len(killed) == 5
    # The kills did fall in the middle of writing, and what they left does not stand in the way of trying again.
    assert halfway


def test_what_a_killed_writer_left_does_not_stand_in_the_way(tmp_path, domain, make_network):
    left = tmp_path / ".model.0123.partial"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    assert write_bundle(tmp_path / "model", domain=domain, network=make_network()).path == tmp_path / "model"


def test_of_many_writers_to_one_path_one_wins(tmp_path, domain, make_network):
    networks = [make_network(seed) for seed in range(8)]

    def write(index: int) -> str:
        try:
            return write_bundle(tmp_path / "model", domain=domain, network=networks[index]).hash
        except BundleError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(write, range(8)))
    losers = [answer for answer in answers if "exists already" in answer]
    assert len(losers) == 7
    assert set(answers) - set(losers) == {read_bundle(tmp_path / "model", domain).hash}
    assert os.listdir(tmp_path) == ["model"]


def test_a_writer_that_runs_out_of_space_leaves_nothing(tmp_path, domain, make_network):
    """A limit on the size of files is the nearest thing to a full disk that needs no privileges."""
    resource = pytest.importorskip("resource")
    network = make_network(hidden=(256, 256))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(BundleError, match="cannot be written: File too large"):
            write_bundle(tmp_path / "model", domain=domain, network=network)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(Path(tmp_path).iterdir()) == []


def test_writing_leaves_the_network_as_it_was(tmp_path, domain, make_network):
    network = make_network(dropout=0.5).train()
    write_bundle(tmp_path / "model", domain=domain, network=network)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
