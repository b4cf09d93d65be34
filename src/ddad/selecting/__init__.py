"""Choose the recipe of a fit without a label."""

from ddad.selecting.best import fit_best
from ddad.selecting.candidates import CANDIDATES, Candidate, read_candidates
from ddad.selecting.division import Division, divide

__all__ = ["CANDIDATES", "Candidate", "Division", "divide", "fit_best", "read_candidates"]
