"""`vbt`: the whole suite from a terminal."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from standalone import show
from standalone.calibrate import calibrate
from standalone.simulate import simulate
from vbt.errors import NotYet, TwinError

if TYPE_CHECKING:
    from standalone.decisions import Refused
    from vbt.platform.erasure import Erased

DEFAULT_DATA = Path("vbt-data")

app = typer.Typer(
    name="vbt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Virtual Brain Twin: from a DICOM study to a calibrated whole-brain model, a FHIR report and a verified audit "
    "trail. Research use only.\n\nStart with `vbt demo`. Exit codes: 0 done; 1 the answer is no (a case stopped, a log "
    "was tampered with, a replay differs); 2 wrong usage, or it cannot be told.",
)
case_app = typer.Typer(no_args_is_help=True, help="Cases: where each study is on its way to a report.")
report_app = typer.Typer(no_args_is_help=True, help="Reports: what was found, and the files.")
ledger_app = typer.Typer(no_args_is_help=True, help="The audit ledger: look at it, export it, verify it.")
consent_app = typer.Typer(no_args_is_help=True, help="Consent: record that it was given or withdrawn.")
letters_app = typer.Typer(no_args_is_help=True, help="Events that could not be settled: list them, send them again.")
app.add_typer(case_app, name="case")
app.add_typer(report_app, name="report")
app.add_typer(ledger_app, name="ledger")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(consent_app, name="consent")
app.command()(simulate)
app.command()(calibrate)

Data = Annotated[Path, typer.Option("--data", help="The suite's directory, as given to `vbt up`.", envvar="VBT_DATA")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
CaseIds = Annotated[
    list[str], typer.Argument(help="The cases, as `vbt case list` shows them; the first characters are enough.")
]
Reference = Annotated[
    str,
    typer.Option(
        "--reference",
        help="Where the consent is kept: Consent/4711, its URL, or a code like B-12/2026. It stays in the ledger for "
        "good: not the patient's name or number.",
    ),
]
CaseId = Annotated[str, typer.Argument(help="The case, as `vbt case list` shows it; the first characters are enough.")]

# A pipe has no width of its own; 120 keeps one line per stage.
_WIDTH = None if sys.stdout.isatty() else 120
console = Console(highlight=False, width=_WIDTH)
errors = Console(stderr=True, highlight=False, width=_WIDTH)


def main() -> None:
    """Run the command line; what `vbt` calls."""
    try:
        app()
    except TwinError as error:
        errors.print(f"{error.code}: {error}", style="red", markup=False)
        sys.exit(2 if isinstance(error, NotYet) else 1)
    except OSError as error:
        errors.print(f"{type(error).__name__}: {error.strerror or 'see the log'}", style="red", markup=False)
        sys.exit(2)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("vbt-demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same numbers.")] = 0,
    small: Annotated[
        bool, typer.Option("--small", help="A coarse patient, for a quick look at the way of a case.")
    ] = False,
    application: Annotated[
        str,
        typer.Option(
            help="resting_state; epilepsy or multiple_sclerosis, for which recordings are attached to the case after "
            "its images went through the line."
        ),
    ] = "resting_state",
    json_: Json = False,
) -> None:
    """Make a synthetic patient, send it over DICOM, and follow it to the report and the verified ledger."""
    from standalone.demo import run_demo

    sys.exit(run_demo(out, seed=seed, small=small, as_json=json_, console=console, application=application))


@app.command()
def up(
    data: Data = DEFAULT_DATA,
    host: Annotated[
        str, typer.Option(help="Address of the DICOM port; 0.0.0.0 for all.", envvar="VBT_DICOM__HOST")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="DICOM port.", envvar="VBT_DICOM__PORT")] = 11112,
    quiet: Annotated[
        float,
        typer.Option(
            help="A study is complete when nothing came, and its association is closed, for so many seconds.",
            envvar="VBT_DICOM__QUIET_SECONDS",
        ),
    ] = 30.0,
    idle: Annotated[
        float,
        typer.Option(
            help="Or when nothing of it came for so many seconds, although its association is still open; images that "
            "come later make a new revision.",
            envvar="VBT_DICOM__IDLE_SECONDS",
        ),
    ] = 900.0,
) -> None:
    """Start all services in one process and wait for your PACS; end with Ctrl-C."""
    from standalone.up import run_up

    run_up(data, host=host, port=port, quiet_seconds=quiet, idle_seconds=idle, console=console)


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.", exists=True)],
    to: Annotated[str, typer.Option(help="HOST:PORT of the storage node.")] = "127.0.0.1:11112",
    called: Annotated[str, typer.Option(help="Called AE title.")] = "VBT",
    calling: Annotated[str, typer.Option(help="Calling AE title.")] = "VBT_SEND",
    json_: Json = False,
) -> None:
    """Send DICOM files over a C-STORE association, as a PACS does."""
    from standalone.sending import send_with_bar

    host, _, port = to.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter("give HOST:PORT, for example 127.0.0.1:11112", param_hint="--to")
    sent = send_with_bar(paths, host, int(port), called=called, calling=calling, console=errors)
    if json_:
        console.print_json(data=asdict(sent))
    else:
        console.print(f"{sent.stored} stored, {sent.failed} refused by the receiver, {sent.unreadable} not DICOM")
    sys.exit(0 if sent.stored and not sent.failed else 1)


@app.command()
def attach(
    case: CaseId,
    seeg: Annotated[Path | None, typer.Option(help="SEEG: EDF, BDF, BrainVision (.vhdr) or FIF.")] = None,
    eeg: Annotated[Path | None, typer.Option(help="EEG, in the same formats.")] = None,
    meg: Annotated[Path | None, typer.Option(help="MEG: FIF.")] = None,
    electrodes: Annotated[
        Path | None, typer.Option(help="BIDS electrodes.tsv in the scanner coordinates of the T1; SEEG needs it.")
    ] = None,
    lesions: Annotated[Path | None, typer.Option(help="Lesion mask: NIfTI or DICOM Segmentation.")] = None,
    resection: Annotated[
        str | None, typer.Option(help="Regions you think of removing, by their labels, with commas between them.")
    ] = None,
    application: Annotated[
        str | None,
        typer.Option(
            "--application",
            "--protocol",
            help="Which twin: epilepsy, multiple_sclerosis or resting_state. Left out: epilepsy with SEEG, "
            "multiple_sclerosis with EEG, MEG or lesions.",
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
    json_: Json = False,
) -> None:
    """Attach recordings, a lesion mask or a resection plan to a case: its next revision begins.

    Tables beside a recording (channels.tsv, events.tsv) and beside the electrodes (coordsystem.json) are read as BIDS
    names them. Nothing that names the patient is kept.
    """
    given = (seeg, eeg, meg, lesions, resection)
    if all(one is None for one in given):
        raise typer.BadParameter("give --seeg, --eeg, --meg, --lesions or --resection")
    from standalone.attach import Files, told
    from standalone.attach import attach as attach_files

    regions = [name.strip() for name in (resection or "").split(",") if name.strip()]
    files = Files(seeg=seeg, eeg=eeg, meg=meg, electrodes=electrodes, lesions=lesions, resection=regions)
    with _opened(data) as engine:
        with engine.connect() as connection:
            case_id = _full_id(connection, case)
        attached, contents = attach_files(engine, _settings(data), case_id, files, application)
    if json_:
        console.print_json(data=asdict(attached))
        return
    for line in told(attached, contents, data):
        console.print(line, markup=False)


@case_app.command("list")
def case_list(data: Data = DEFAULT_DATA, limit: int = 50, json_: Json = False) -> None:
    """The newest cases first."""
    from vbt.platform import cases

    with _state(data) as connection:
        found = cases.list_cases(connection, limit=limit)
    if json_:
        console.print_json(data=[show.case_json(case) for case in found])
    elif found:
        console.print(show.case_list(found))
    else:
        console.print("no cases yet; send a study with `vbt send`")


@case_app.command("show")
def case_show(case: CaseId, data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Every stage of a case: what came out, seconds, memory, or why it stopped."""
    from vbt.platform import cases

    with _state(data) as connection:
        found = cases.read_case(connection, _full_id(connection, case))
    if json_:
        console.print_json(data=show.case_json(found))
    else:
        console.print(show.case_detail(found))
    sys.exit(1 if found.status in (cases.Status.STOPPED, cases.Status.FAILED) else 0)


@case_app.command("watch")
def case_watch(case: CaseId, data: Data = DEFAULT_DATA) -> None:
    """Follow a case until it ends."""
    from standalone.progress import follow
    from vbt.platform.cases import Status

    with _opened(data) as engine:
        with engine.connect() as connection:
            case_id = _full_id(connection, case)
        ended = follow(engine, case_id, console)
    console.print(show.case_detail(ended))
    sys.exit(0 if ended.status is Status.DONE else 1)


@case_app.command("cancel")
def case_cancel(case: CaseId, data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Ask a case to stop; exit code 1 where it had ended already."""
    from standalone.decisions import cancel

    with _opened(data) as engine:
        with engine.connect() as connection:
            case_id = _full_id(connection, case)
        decided = cancel(engine, case_id)
    if json_:
        console.print_json(data=asdict(decided))
    else:
        console.print(f"{case_id}: {'will stop; see `vbt case watch`' if decided.taken else 'had ended already'}")
    sys.exit(0 if decided.taken else 1)


@consent_app.command("grant")
def consent_grant(cases: CaseIds, reference: Reference, data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Record that the patient consents: it holds for the study, with all images that still come."""
    _consent(cases, "permit", reference, data, json_)


@consent_app.command("withdraw")
def consent_withdraw(cases: CaseIds, reference: Reference, data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Record that consent was withdrawn: work on the study stops at its next step. `vbt erase` destroys the rest."""
    _consent(cases, "deny", reference, data, json_)


@app.command()
def erase(
    cases: CaseIds,
    data: Data = DEFAULT_DATA,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Destroy identity, images, artifacts and reports of cases that ended, for good; the ledger keeps digests only.

    Objects kept aside go with their study; where they were malformed, nobody can tell it: erase the quarantine's case.
    What was delivered to the EHR or the PACS stays there, backups and a Kafka bus keep what they hold until they
    expire, and sending the study again starts it anew unless its consent was withdrawn. One case that is refused keeps
    no other from its erasure; the exit code is then 1, or 2 where another try can help.
    """
    from standalone.decisions import Refused, erase_each

    with _opened(data) as engine:
        with engine.connect() as connection:
            ids = [_full_id(connection, case) for case in cases]
        if not yes:
            typer.confirm(f"Destroy {', '.join(ids)} for good?", abort=True, err=True)
        outcomes = []
        for outcome in erase_each(engine, _settings(data), ids):
            outcomes.append(outcome)
            if not json_:
                _tell_erasure(outcome)
    if json_:
        console.print_json(data=[asdict(one) for one in outcomes])
    codes = {one.exit_code for one in outcomes if isinstance(one, Refused)}
    sys.exit(1 if 1 in codes else max(codes, default=0))


@report_app.command("show")
def report_show(case: CaseId, data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """The findings of a case."""
    from standalone.reports import findings_of, findings_table

    with _state(data) as connection:
        found = findings_of(connection, _settings(data), _full_id(connection, case))
    if json_:
        console.print_json(found.to_json())
    else:
        console.print(findings_table(found))


@report_app.command("open")
def report_open(
    case: CaseId,
    data: Data = DEFAULT_DATA,
    out: Annotated[Path | None, typer.Option("--out", help="Write the files here instead of opening the PDF.")] = None,
) -> None:
    """Open the PDF, or write bundle, PDF and pictures to a folder."""
    from standalone.reports import write_report

    with _state(data) as connection:
        case_id = _full_id(connection, case)
        folder = out or data / "reports" / case_id
        written = write_report(connection, _settings(data), case_id, folder)
    for path in written:
        console.print(str(path))
    if out is None:
        webbrowser.open((folder / "report.pdf").absolute().as_uri())


@ledger_app.command("show")
def ledger_show(
    case: Annotated[str | None, typer.Option("--case", help="Only this case, or this simulation on demand.")] = None,
    data: Data = DEFAULT_DATA,
    limit: Annotated[int, typer.Option(help="How many of the newest entries.")] = 50,
    json_: Json = False,
) -> None:
    """The newest entries of the log: who did what to which case, and its place."""
    from standalone.ledger import entries, entry_table

    with _opened(data) as engine:
        with engine.connect() as connection:
            case_id = _on_trail(connection, case) if case else None
        found = entries(engine, case_id)[-limit:]
    if json_:
        console.print_json(data=found)
    else:
        console.print(entry_table(found))


@ledger_app.command("export")
def ledger_export(
    out: Annotated[Path, typer.Argument(help="The zip file to write.")] = Path("ledger.zip"),
    case: Annotated[
        str | None, typer.Option("--case", help="Only the entries of this case, with their proofs.")
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Write everything a third party needs to verify the log offline with `vbt-verify`."""
    from standalone.ledger import export

    with _state(data) as connection:
        case_id = _on_trail(connection, case) if case else None
    export(_settings(data), out, case_id)
    console.print(f"{out} written; check it with: vbt-verify {out}")


@ledger_app.command("verify")
def ledger_verify(data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Export the log and verify it against the witness's own note; exit code as `vbt-verify`."""
    from standalone.ledger import verify

    with _opened(data):
        pass
    sys.exit(verify(_settings(data), as_json=json_))


@letters_app.command("list")
def letters_list(data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Events that could not be settled, with the cause."""
    from vbt.platform.dead_letters import dead_letters

    with _state(data) as connection:
        found = dead_letters(connection)
    if json_:
        console.print_json(data=[asdict(letter) for letter in found])
        return
    for letter in found:
        console.print(
            f"{letter.id}  {letter.group}  case {letter.case_id}  {letter.code}  after {letter.attempts} attempts"
        )
        console.print(f"   {letter.cause}", style="dim", markup=False)
    if not found:
        console.print("no dead letters")


@letters_app.command("replay")
def letters_replay(
    number: Annotated[int | None, typer.Argument(help="Its number in `vbt dead-letters list`.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send dead letters again, after their cause was mended."""
    from vbt.platform.dead_letters import dead_letters, replay
    from vbt.platform.software import this_software

    if (number is None) != all_:
        raise typer.BadParameter("give one number, or --all")
    with _opened(data) as engine, engine.begin() as connection:
        numbers = [letter.id for letter in dead_letters(connection)] if all_ else [number or 0]
        for one in numbers:
            replay(connection, one, actor="vbt dead-letters", software=this_software("standalone"))
    console.print(f"{len(numbers)} sent again")


@app.command()
def replay(case: CaseId, data: Data = DEFAULT_DATA, json_: Json = False) -> None:
    """Run the numeric steps of a case again: bit-identical, statistically equal, different, or cannot, and why."""
    from standalone.replay import answer_table, replay_case

    with _opened(data) as engine:
        with engine.connect() as connection:
            case_id = _full_id(connection, case)
        answers = replay_case(engine, _settings(data), case_id, errors)
    if json_:
        console.print_json(data=[asdict(answer) for answer in answers])
    else:
        console.print(answer_table(answers))
    codes = {answer.exit_code for answer in answers}
    sys.exit(1 if 1 in codes else max(codes, default=2))


def case_connectome(case: str, data: Path) -> Any:
    """The connectome of the case whose id begins so.

    Raises
    ------
    NotYet : the case has none, or none yet
    """
    from standalone.results import load_connectome
    from vbt.platform import cases
    from vbt.platform.runtime import open_objects

    with _state(data) as connection:
        found = cases.read_case(connection, _full_id(connection, case))
    return load_connectome(found, open_objects(_settings(data)))


def _consent(found: list[str], status: Literal["permit", "deny"], reference: str, data: Path, as_json: bool) -> None:
    from standalone.decisions import decide_consent

    with _opened(data) as engine:
        with engine.connect() as connection:
            ids = [_full_id(connection, case) for case in found]
        decided = [decide_consent(engine, case_id, status, reference) for case_id in ids]
    if as_json:
        console.print_json(data=[asdict(one) for one in decided])
        return
    for one in decided:
        console.print(f"{one.case_id}: consent {'granted' if status == 'permit' else 'withdrawn'}")


def _tell_erasure(one: Erased | Refused) -> None:
    from standalone.decisions import Refused

    if isinstance(one, Refused):
        text = f"{one.case_id}: not erased: {one.code}: {one.rule}; got {one.got}; {one.action}"
        errors.print(text, style="red", markup=False, soft_wrap=True)
        return
    kept = f"; {one.shared_artifacts} artifacts stay, other cases use them" if one.shared_artifacts else ""
    kept += f"; {one.images_missing} images were not there any more" if one.images_missing else ""
    console.print(f"{one.case_id}: identity, {one.images} images and {one.artifacts} artifacts destroyed{kept}")


def _settings(data: Path) -> Any:
    from standalone.suite import suite_settings

    return suite_settings(data)


@contextmanager
def _opened(data: Path) -> Iterator[Any]:
    from vbt.platform.state import open_state

    settings = _settings(data)
    if settings.state_url.startswith("sqlite") and not Path(settings.state_url.removeprefix("sqlite:///")).exists():
        errors.print(f"no suite has run in {data}; start one with `vbt up --data {data}`", markup=False)
        sys.exit(2)
    engine = open_state(settings.state_url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _state(data: Path) -> Iterator[Any]:
    from vbt.platform.state import reading

    with _opened(data) as engine, reading(engine) as connection:
        yield connection


def _on_trail(connection: Any, prefix: str) -> str:
    """The case, or the simulation on demand, whose id begins so."""
    from vbt.platform import audit

    found = audit.cases_on_trail(connection, prefix) if prefix else []
    return found[0] if len(found) == 1 else _full_id(connection, prefix)


def _full_id(connection: Any, prefix: str) -> str:
    """The case whose id begins so."""
    from vbt.platform import cases

    # Every id begins with nothing: a script's empty variable must not name the only case there is.
    found = cases.cases_beginning_with(connection, prefix) if prefix else []
    if len(found) == 1:
        return found[0]
    errors.print(
        f"{len(found)} cases or more begin with that; `vbt case list` shows all"
        if found
        else "no such case; see `vbt case list`"
    )
    sys.exit(2)
