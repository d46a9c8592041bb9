"""`xrecon train CONFIG.yaml`: the reconstruction networks, one run or a grid of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SetOption, Shell, example
from xrecon.cli.help_text import HELP_NAMES, HelpGroup

if TYPE_CHECKING:
    from xrecon.training.loop import Outcome

NAME = "network"


class TrainGroup(HelpGroup):
    """`xrecon train CONFIG.yaml` means `xrecon train network CONFIG.yaml`: networks are what most people train."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front where none is named."""
        if args and args[0] not in self.commands and args[0] not in HELP_NAMES:
            args = [NAME, *args]
        return super().parse_args(ctx, args)


@example(
    "xrecon train network configs/tiny_cpu.yaml --set data.path=chests-64 -o runs/tiny",
    "xrecon train network configs/tiny_cpu.yaml --set data.path=chests-64 -o runs/tiny --resume auto",
    "xrecon train network configs/xrecon_128.yaml --set data.path=chests-128 --set run.accelerator=cuda",
    "xrecon train network configs/tiny_cpu.yaml --set data.path=chests-64 --grid configs/ablations.yaml -o runs/grid",
)
def network(
    shell: Shell,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Settings of the run in YAML; examples are in configs/.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; default: runs/NAME.")
    ] = None,
    settings: SetOption = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="auto|FILE", help="Go on from the newest checkpoint (auto) or from this one."),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", metavar="FILE", help="Train one run per entry of this file, then compare them."),
    ] = None,
    index: Annotated[
        int | None, typer.Option("--index", min=0, help="Train only this run of the grid, for SLURM arrays.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Train the runs of the grid on this Dask cluster."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Train a reconstruction network (X-Recon, X2CT-GAN, an ablation) on a data set of `xrecon prepare`.

    The word `network` may be left out. A run that was stopped, killed or out of time goes on exactly where it was with
    `--resume auto`. Several GPUs or machines: set run.devices, run.nodes and run.strategy, or use `torchrun` or `srun`.
    """
    from xrecon.errors import ConfigError
    from xrecon.training.run import require_engine, run_folder, train, training_settings

    training = training_settings(config, settings or ())
    folder = run_folder(training, output)
    if grid is None:
        if index is not None or scheduler is not None:
            raise ConfigError("--index and --scheduler choose runs of a grid: give --grid FILE, too")
        with _bar(shell, training.name) as progress:
            outcome = train(training, output=folder, resume=resume, overwrite=overwrite, progress=progress)
        return _report_run(shell, outcome)
    require_engine()
    from xrecon.training.ablations import run_grid

    with _bar(shell, "grid") as progress:
        table = run_grid(
            config,
            grid,
            folder,
            overrides=settings or (),
            index=index,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress,
        )
    shell.table(table.columns, table.rows, title=table.title)
    return {"folder": folder, "runs": [run.to_dict() for run in table.runs], "baseline": table.baseline}


def _report_run(shell: Shell, outcome: Outcome) -> Mapping[str, Any]:
    state = "finished" if outcome.finished else "stopped at its time limit; go on with --resume auto"
    shell.print(f"{outcome.folder}: {outcome.step} steps, {state}")
    for key, value in outcome.validation.items():
        shell.print(f"validation {key}: {value:.4g}")
    if outcome.model is not None:
        shell.print(f"model: {outcome.model}")
    return {
        "folder": outcome.folder,
        "step": outcome.step,
        "finished": outcome.finished,
        "validation": outcome.validation,
        "model": outcome.model,
    }


@contextmanager
def _bar(shell: Shell, name: str) -> Iterator[Callable[[int, int, str], None]]:
    """Progress on standard error: a bar on a terminal, else a line now and then; nothing under --quiet."""
    import sys
    import time

    if shell.quiet:
        yield lambda _step, _steps, _text: None
        return
    if not sys.stderr.isatty():
        last_line = 0.0

        def line(step: int, steps: int, text: str) -> None:
            nonlocal last_line
            if step in (1, steps) or time.monotonic() - last_line > _LINE_SECONDS:
                last_line = time.monotonic()
                print(f"{name}: step {step}/{steps}: {text}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, text="")
        yield lambda step, steps, text: progress.update(task, completed=step, total=steps, text=text)


_LINE_SECONDS = 30.0
"""Between two lines in a log file."""
