"""What a site chooses for the ledger."""

from __future__ import annotations

from pathlib import Path

from vbt.platform.settings import Section, Settings


class LedgerSection(Section):
    """Whose log it is.

    Parameters
    ----------
    origin : the name in every checkpoint; one log per hospital
    witness : the witness's own directory (key, last size and root, leaf hashes); empty: beside the state. On one
        machine it shares the machine with the log: copy its notes elsewhere, or a thief of both keys can rewrite both
    """

    origin: str = "vbt.example/audit-log"
    witness: Path | None = None


class LedgerSettings(Settings):
    ledger: LedgerSection = LedgerSection()

    @property
    def witness_directory(self) -> Path:
        """Where the witness keeps its state."""
        return self.ledger.witness or self.data / "witness"
