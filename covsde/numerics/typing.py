"""Types of arrays that many modules share; a name says where the axis of paths is."""

from collections.abc import Callable

from jaxtyping import Array, Float

Entries = Float[Array, "..."]
"""An entry of a covariance matrix on every path: drifts are written entry by entry and know no memory layout."""

PathsFirst = Float[Array, "paths m m"]
"""A matrix per path."""

PathsLast = Float[Array, "m m paths"]
"""The same with the paths last, so that arithmetic on an entry runs along memory."""

Number = Float[Array, ""] | float
"""A hyperparameter."""

Function = Callable[[Array], Array]
"""An elementwise JAX function."""
