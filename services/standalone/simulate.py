"""`vbt simulate`: the simulator from a terminal, by the same use case as over gRPC."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vbt.errors import Rejected, TwinError


def simulate(
    model: Annotated[str, typer.Option("--model", help="The neural mass; see --list-models.")] = "",
    list_models: Annotated[
        bool, typer.Option("--list-models", help="Show every neural mass with its parameters, or that of --model.")
    ] = False,
    connectome: Annotated[
        Path | None,
        typer.Option("--connectome", help="A TVB connectivity zip, or a connectome.npz.", exists=True, dir_okay=False),
    ] = None,
    case: Annotated[str, typer.Option("--case", help="The connectome of this case instead.")] = "",
    data: Annotated[Path, typer.Option("--data", help="The suite's directory, for --case.", envvar="VBT_DATA")] = Path(
        "vbt-data"
    ),
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter; VALUE,VALUE,… gives one per region."),
    ] = None,
    coupling: Annotated[float, typer.Option("--coupling", help="Factor on the weights.")] = 1.0,
    velocity: Annotated[float, typer.Option("--velocity", help="Conduction velocity, m/s.")] = 3.0,
    scale: Annotated[
        str,
        typer.Option(
            "--scale",
            metavar="none|max|in-strength",
            help="Divide weights by their largest, or by the largest in-strength.",
        ),
    ] = "none",
    instantaneous: Annotated[
        bool, typer.Option("--instantaneous-below-step", help="Tracts shorter than a time step act without delay.")
    ] = False,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="[VARIABLE=]SIGMA",
            help="σ of σ dW, model time; without a name, on all that may have it.",
        ),
    ] = None,
    resect: Annotated[list[str] | None, typer.Option("--resect", metavar="LABEL", help="Remove a region.")] = None,
    condition: Annotated[
        list[Path] | None,
        typer.Option("--condition", help="A condition's JSON record: lesion, stimulation, drug …", exists=True),
    ] = None,
    duration: Annotated[float, typer.Option("--duration", help="Simulated time observed, s.")] = 10.0,
    transient: Annotated[
        float | None, typer.Option("--transient", help="Simulated time before that, s; 1, with BOLD 20 for the blood.")
    ] = None,
    dt: Annotated[
        float | None, typer.Option("--dt", help="Time step, ms; 0.1 or what the model allows if that is less.")
    ] = None,
    monitor: Annotated[
        list[str] | None,
        typer.Option(
            "--monitor",
            metavar="average|bold|psd[=PERIOD]",
            help="What to observe, PERIOD in s; average where none is given.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="One run per seed; 0 where none is given.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="NAME=FROM:TO:COUNT",
            help="Go through a parameter, coupling or velocity; more span a grid.",
        ),
    ] = None,
    integrator: Annotated[
        str, typer.Option("--integrator", metavar="heun|rk4", help="rk4 is for networks without noise.")
    ] = "heun",
    double: Annotated[bool, typer.Option("--double", help="Compute with 64 bits.")] = False,
    continued: Annotated[
        str,
        typer.Option(
            "--continue",
            metavar="NAME=FROM:TO",
            help="Follow equilibria along a parameter instead: of the mass alone, or of the network with --connectome.",
        ),
    ] = "",
    cycles: Annotated[bool, typer.Option("--cycles", help="With --continue: cycles of Hopf points too.")] = False,
    delayed: Annotated[bool, typer.Option("--delayed", help="With --continue: stability with delays.")] = False,
    region: Annotated[str, typer.Option("--region", help="With --continue: change it in this region only.")] = "",
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("vbt-simulation"),
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Simulate a network of neural masses on a connectome, sweep its parameters, or find its bifurcations.

    Writes the arrays (NPZ), the replay manifest and pictures to a folder. For example:
    vbt simulate --connectome connectivity_76.zip --model montbrio-pazo-roxin --coupling 0.3 --noise V=0.05
    --monitor average --monitor bold
    """
    from standalone import simulating

    width = None if sys.stdout.isatty() else 120
    console, errors = (Console(stderr=to_errors, highlight=False, width=width) for to_errors in (False, True))
    asked = simulating.Asked(
        model=model, parameters=parameters or [], coupling=coupling, velocity=velocity, scale=scale,
        instantaneous_below_step=instantaneous, noise=noise or [], resect=resect or [], conditions=condition or [],
        duration=duration, transient=transient, dt=dt, monitors=monitor or ["average"], seeds=seed or [0],
        sweep=sweep or [], integrator=integrator, double=double, continued=continued, cycles=cycles, delayed=delayed,
        region=region,
    )  # fmt: skip
    try:
        if list_models:
            simulating.list_models(model, console, as_json=json_)
            return
        on = simulating.connectome_from(connectome, case, data)
        done = simulating.run(asked, on, out, errors)
    except TwinError as error:
        errors.print(f"{error.code}: {error}", style="red", markup=False)
        raise typer.Exit(2 if isinstance(error, Rejected) else 1) from error
    if json_:
        console.print_json(data=done.to_json())
    else:
        done.show(console)
