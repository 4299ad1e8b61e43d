"""The whole line as its users start it: `vbt` in a process of its own, on a small synthetic patient."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SMALL_SECONDS = "120"


@dataclass
class Vbt:
    """A site's directory and the suite that runs, or ran, on it."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One `vbt` command on this directory."""
        result = subprocess.run(
            [sys.executable, "-m", "standalone", *arguments, "--data", str(self.data)],
            capture_output=True,
            text=True,
            env=self._environment(),
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr + result.stdout
        return result

    def up(self) -> None:
        """Start the suite and wait until its DICOM port is open."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "ports.json").unlink(missing_ok=True)
        with (self.data.parent / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "standalone", "up", "--data", str(self.data), "--port", "0", "--quiet", "2"],
                stdout=log,
                stderr=log,
                env=self._environment(),
            )
        self.wait(lambda: (self.data / "ports.json").exists(), "the suite did not start")

    def kill(self) -> None:
        """What a power cut does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """What Kubernetes and Ctrl-C do; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def send(self, folder: Path, *, check: bool = True) -> dict[str, Any]:
        """Send a folder over C-STORE."""
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "standalone",
                "send",
                str(folder),
                "--to",
                f"127.0.0.1:{self.ports['dicom']}",
                "--json",
            ],
            capture_output=True,
            text=True,
            env=self._environment(),
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr + result.stdout
        return dict(json.loads(result.stdout)) if result.stdout.strip() else {}

    @property
    def ports(self) -> dict[str, int]:
        return dict(json.loads((self.data / "ports.json").read_text()))

    def cases(self) -> list[dict[str, Any]]:
        """As `vbt case list --json` gives them."""
        return list(json.loads(self.run("case", "list", "--json").stdout))

    def stage(self, name: str) -> str | None:
        """Status of one stage of the newest case; read from the state itself, which is quicker than a command."""
        from vbt.platform import cases
        from vbt.platform.state import open_state, reading

        engine = open_state(f"sqlite:///{self.data / 'vbt.db'}")
        try:
            with reading(engine) as connection:
                found = cases.list_cases(connection, limit=1)
        finally:
            engine.dispose()
        return next((str(stage.status) for case in found for stage in case.stages if stage.stage == name), None)

    def wait(self, until: Callable[[], bool], otherwise: str, seconds: float = 900.0) -> None:
        """Wait for something to become true; fails when the suite died or the time ran out."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, otherwise
            assert self.process is None or self.process.poll() is None, "the suite ended by itself"
            time.sleep(0.2)

    def _environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("VBT_")},
            "VBT_SIMULATION__DURATION_SECONDS": SMALL_SECONDS,
            "VBT_DICOM__MINIMUM_FREE_BYTES": "0",
            **self.environment,
        }


@pytest.fixture(scope="session")
def vbt_at() -> Callable[[Path], Vbt]:
    """The suite on a directory of one's own."""
    return Vbt


@pytest.fixture
def vbt(tmp_path: Path) -> Iterator[Vbt]:
    suite = Vbt(tmp_path / "data")
    yield suite
    if suite.process is not None and suite.process.poll() is None:
        suite.kill()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder that `vbt demo --small` wrote, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VBT_")}
    spans = out.parent / "spans.jsonl"
    result = subprocess.run(
        [sys.executable, "-m", "standalone", "demo", "--small", "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        env={**environment, "VBT_TELEMETRY__SPANS_PATH": str(spans)},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:] + result.stdout[-4000:]
    return out, json.loads(result.stdout)
