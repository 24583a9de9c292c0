"""A fit shared by several processes, each with its share of every batch (DDP): gloo on CPUs, nccl on GPUs.

    torchrun --nproc_per_node 2 -m escalade.training.distributed RUN_FOLDER ITERATION BEGIN END LAST SECONDS

does the fit of one iteration of a run, which `escalade train --fit-processes 2` calls for you. All see the same
targets in the same order; the first process writes. Losses are those of one process with the same batch size, up to
the order of summation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from escalade.domains.errors import SettingsError
from escalade.search.config import whole
from escalade.training.learner import TrainingError
from escalade.training.run import Run, Tell, silent
from escalade.training.steps import fit


def fit_in(processes: int) -> Callable[..., dict[str, Any]]:
    """`escalade.training.steps.fit`, in so many processes of this machine. Raises TrainingError if they fail."""
    whole("fit_processes", processes, 1, 1024)

    def shared(
        run: Run,
        iteration: int,
        span: tuple[float, float],
        *,
        last: bool,
        seconds: float | None = None,
        tell: Tell = silent,
    ) -> dict[str, Any]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        arguments = [str(run.folder), str(iteration), repr(span[0]), repr(span[1]), str(int(last)), repr(seconds)]
        command = [*launcher, "-m", "escalade.training.distributed", *arguments]
        with (
            tempfile.TemporaryFile("w+") as complaints,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,  # noqa: S603
        ):
            for line in process.stdout or ():
                if line.startswith("{"):
                    tell(json.loads(line))
            process.wait()
            complaints.seek(0)
            complaint = complaints.read()
        done: dict[str, Any] | None = run.read(run.iteration(iteration) / "fit.json")
        if process.returncode or done is None:
            raise TrainingError(f"the fit in {processes} processes failed: {_reason(complaint)}")
        return done

    return shared


def _reason(complaint: str) -> str:
    """The line of a traceback that says what went wrong."""
    lines = [line.strip() for line in complaint.splitlines() if "Error" in line and "ChildFailedError" not in line]
    return lines[-1][:500] if lines else "it gave no reason"


def main(arguments: list[str]) -> None:
    """One process of several; torchrun tells it which."""
    import torch
    from torch import distributed

    try:
        folder, iteration, begin, end, last, seconds = arguments
    except ValueError:
        raise SettingsError("usage: RUN_FOLDER ITERATION BEGIN END LAST SECONDS") from None
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(distributed.get_rank() % torch.cuda.device_count())
    try:
        first = distributed.get_rank() == 0
        run = Run.open(Path(folder), alone=False)
        fit(
            run,
            int(iteration),
            (float(begin), float(end)),
            last=last == "1",
            seconds=None if seconds == "None" else float(seconds),
            tell=(lambda event: print(json.dumps(event), flush=True)) if first else silent,
        )
        distributed.barrier()  # nobody leaves before all is written
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
