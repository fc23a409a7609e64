"""What the documentation shows of questions: a call returns what its plan results in."""

from typing import Any

import griffe


class Questions(griffe.Extension):
    """Show `Plan[Ensemble]`, which a function under `@question` gives, as the `Ensemble` that its call returns."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Change the annotation of one function."""
        planned = any(str(decorator.value) == "question" for decorator in func.decorators)
        if planned and isinstance(func.returns, griffe.ExprSubscript):
            func.returns = func.returns.slice
