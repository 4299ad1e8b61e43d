"""`vbt calibrate`: is a model's posterior as sure as it says, over truths drawn from its prior?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from vbt.inference import SbcResult


def calibrate(
    model: Annotated[str, typer.Option("--model", help="The engine; see --list.")] = "",
    replicates: Annotated[int, typer.Option("--replicates", min=1, help="Truths to draw, simulate and fit.")] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the truths.")] = 1,
    out: Annotated[Path, typer.Option("--out", help="The folder to write MODEL.json and MODEL.png to.")] = Path(
        "vbt-calibration"
    ),
    list_: Annotated[bool, typer.Option("--list", help="Show the models.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Draw truths from a model's prior, simulate and fit each, and rank the truth among the posterior's draws.

    Where the posterior is right the ranks are uniform. The exit code is 1 where they are not, by a simultaneous 95 %
    band over ranks and parameters, or where the gate let fewer than a hundred fits through: too few to tell.
    """
    from vbt.inference import SBC_MODELS, rank_picture, sbc, sbc_model

    width = None if sys.stdout.isatty() else 120
    console, errors = (Console(stderr=to_errors, highlight=False, width=width) for to_errors in (False, True))
    if list_:
        console.print("\n".join(SBC_MODELS))
        return
    if model not in SBC_MODELS:
        errors.print(f"--model must be one of {', '.join(SBC_MODELS)}", style="red", markup=False)
        raise typer.Exit(2)
    result = _with_bar(errors, lambda tell: sbc(sbc_model(model), replicates, rng_seed=seed, progress=tell))
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{model}.json").write_text(result.to_json())
    if result.fitted:
        (out / f"{model}.png").write_bytes(rank_picture(result))
    if json_:
        console.print_json(result.to_json())
    else:
        _show(result, console, out)
    raise typer.Exit(0 if result.passed else 1)


def _with_bar(console: Console, run: Callable[[Callable[[str, float], None]], SbcResult]) -> SbcResult:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("0 fitted, 0 refused", total=1.0)
        return run(lambda message, fraction: bars.update(task, completed=fraction, description=message))


def _show(result: SbcResult, console: Console, out: Path) -> None:
    console.print(
        f"{result.model}: {result.fitted} of {result.replicates} fitted, seed {result.rng_seed}, "
        f"ranks among {result.thin} draws, each parameter's band at {result.level:.1%}"
    )
    for reason, count in result.refusals.items():
        console.print(f"refused {count}: {reason}", markup=False)
    if result.fitted >= result.fewest:
        table = Table("parameter", "ranks", "50 % holds", "90 % holds", "shrinkage", "r", "z", box=None)
        for parameter in result.parameters:
            fifty, ninety = (_share(parameter.coverage(level)) for level in (0.5, 0.9))
            ranks = "uniform" if result.uniform(parameter) else "NOT UNIFORM"
            z = f"{parameter.z.mean():+.2f} ± {parameter.z.std():.2f}"
            table.add_row(parameter.name, ranks, fifty, ninety, f"{parameter.shrinkage:.2f}", f"{parameter.r:.2f}", z)
        console.print(table)
    console.print(f"written to {out}", markup=False)


def _share(found: tuple[float, float, float]) -> str:
    share, low, high = found
    return f"{share:.0%} ({low:.0%}–{high:.0%})"
