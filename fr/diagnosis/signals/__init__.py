"""What a problem's failed rollouts look like, as named columns of its profile; nothing here asks a model again."""

# In the order of the columns; each files what it reads in SIGNALS.
from fr.diagnosis.signals import (  # noqa: F401, I001
    attempts,
    curves,
    sureness,
    confidence,
    answers,
    texts,
    outside,
)
from fr.diagnosis.signals.base import (
    KINDS,
    PAID,
    SIGNALS,
    Failures,
    Signal,
    read_signals,
)

__all__ = ["KINDS", "PAID", "SIGNALS", "Failures", "Signal", "read_signals"]
