"""Types of arrays that many modules share; a name says where the axis of paths is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxtyping import Array, Float

Entries = Float[Array, "..."]
"""An entry of a covariance matrix on every path: drifts are written entry by entry and know no memory layout."""

PathsFirst = Float[Array, "paths m m"]
"""A matrix per path."""

PathsLast = Float[Array, "m m paths"]
"""The same with the paths last, so that arithmetic on an entry runs along memory."""

Number = Float[Array, ""] | float
"""A constant of an equation."""

# A float to type checkers: all that is done with a traced scalar is arithmetic that floats know too.
if TYPE_CHECKING:
    Hyperparameter = float
else:
    Hyperparameter = Number

Function = Callable[[Array], Array]
"""An elementwise JAX function."""
