"""What in a cohort would fool a detector: copies, and shortcuts."""

from ddad.audit.audit import Audit, audit_cohort
from ddad.audit.copies import CopyCount, CopyPairs
from ddad.audit.look import DATE
from ddad.audit.resplit import Resplit, leak_free_split, source_lists
from ddad.audit.shortcuts import Memorisation, Shortcut

__all__ = [
    "DATE",
    "Audit",
    "CopyCount",
    "CopyPairs",
    "Memorisation",
    "Resplit",
    "Shortcut",
    "audit_cohort",
    "leak_free_split",
    "source_lists",
]
