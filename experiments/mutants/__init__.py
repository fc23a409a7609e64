"""Every constant of every limit, changed by a tenth: what `experiments/mutations.py` tries."""

from mutants.base import Mutant
from mutants.depth import DEPTH
from mutants.initialization import INITIALIZATION
from mutants.scaling import SCALING
from mutants.training import TRAINING

MUTANTS: tuple[Mutant, ...] = (*INITIALIZATION, *TRAINING, *DEPTH, *SCALING)
