"""A log that cannot be changed unseen: an RFC 9162 Merkle tree with C2SP signed, witnessed checkpoints."""

from vbt.ledger._entry import MAX_ENTRY_BYTES as MAX_ENTRY_BYTES
from vbt.ledger._entry import canonical_entry as canonical_entry
from vbt.ledger._entry import parse_entry as parse_entry
from vbt.ledger._entry import sequenced_entry as sequenced_entry
from vbt.ledger._entry import timestamp as timestamp
from vbt.ledger._note import COSIGNATURE_V1 as COSIGNATURE_V1
from vbt.ledger._note import ED25519 as ED25519
from vbt.ledger._note import Checkpoint as Checkpoint
from vbt.ledger._note import Note as Note
from vbt.ledger._note import NoteSigner as NoteSigner
from vbt.ledger._note import Signature as Signature
from vbt.ledger._note import VerifierKey as VerifierKey
from vbt.ledger._tree import EMPTY_ROOT as EMPTY_ROOT
from vbt.ledger._tree import HASH_SIZE as HASH_SIZE
from vbt.ledger._tree import CompactRange as CompactRange
from vbt.ledger._tree import Tree as Tree
from vbt.ledger._tree import leaf_hash as leaf_hash
from vbt.ledger._tree import node_hash as node_hash
from vbt.ledger._tree import verify_consistency as verify_consistency
from vbt.ledger._tree import verify_inclusion as verify_inclusion
