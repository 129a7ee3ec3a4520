"""How long history is kept."""

from koherent.retention.pruning import ModelReport, PruneReport, prune

__all__ = ["ModelReport", "PruneReport", "prune"]
