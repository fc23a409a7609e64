"""Write the page of papers from what the sources cite: python docs/papers.py rewrites docs/papers.md."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = HERE / "papers.md"
NUMBER = re.compile(r"\b\d{4}\.\d{5}\b")


class Paper(NamedTuple):
    """What a reader needs to find a paper."""

    authors: str
    year: int
    title: str


# By arXiv number; by the word that cites it for what has none.
PAPERS = {
    "1412.6980": Paper("D. Kingma, J. Ba", 2015, "Adam: A Method for Stochastic Optimization"),
    "1507.02646": Paper(
        "A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry", 2015, "Pareto Smoothed Importance Sampling"
    ),
    "1711.00165": Paper(
        "J. Lee, Y. Bahri, R. Novak, S. Schoenholz, J. Pennington, J. Sohl-Dickstein",
        2017,
        "Deep Neural Networks as Gaussian Processes",
    ),
    "1711.05101": Paper("I. Loshchilov, F. Hutter", 2019, "Decoupled Weight Decay Regularization"),
    "1802.04434": Paper(
        "J. Bernstein, Y.-X. Wang, K. Azizzadenesheli, A. Anandkumar",
        2018,
        "signSGD: Compressed Optimisation for Non-Convex Problems",
    ),
    "1806.07572": Paper(
        "A. Jacot, F. Gabriel, C. Hongler",
        2018,
        "Neural Tangent Kernel: Convergence and Generalization in Neural Networks",
    ),
    "1812.05994": Paper(
        "B. Hanin, M. Nica", 2018, "Products of Many Large Random Matrices and Gradients in Deep Neural Networks"
    ),
    "2011.14522": Paper("G. Yang, E. Hu", 2020, "Feature Learning in Infinite-Width Neural Networks"),
    "2103.00065": Paper(
        "J. Cohen, S. Kaur, Y. Li, J. Z. Kolter, A. Talwalkar",
        2021,
        "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability",
    ),
    "2104.11734": Paper(
        "J. Zavatone-Veth, C. Pehlevan", 2021, "Exact marginal prior distributions of finite Bayesian neural networks"
    ),
    "2106.06615": Paper(
        "L. Noci, G. Bachmann, K. Roth, S. Nowozin, T. Hofmann",
        2021,
        "Precise characterization of the prior predictive distribution of deep ReLU networks",
    ),
    "2205.09653": Paper(
        "B. Bordelon, C. Pehlevan",
        2022,
        "Self-Consistent Dynamical Field Theory of Kernel Evolution in Wide Neural Networks",
    ),
    "2402.01092": Paper("B. Bordelon, A. Atanasov, C. Pehlevan", 2024, "A Dynamical Model of Neural Scaling Laws"),
    "2409.17858": Paper(
        "B. Bordelon, A. Atanasov, C. Pehlevan", 2024, "How Feature Learning Can Improve Neural Scaling Laws"
    ),
    "2602.04774": Paper("B. Bordelon, F. Mori", 2026, "Theory of Optimal Learning Rate Schedules"),
    "2206.02768": Paper(
        "M. Li, M. Nica, D. Roy",
        2022,
        "The Neural Covariance SDE: Shaped Infinite Depth-and-Width Networks at Initialization",
    ),
    "2206.03126": Paper(
        "L. Noci and others",
        2022,
        "Signal Propagation in Transformers: Theoretical Perspectives and the Role of Rank Collapse",
    ),
    "2210.00688": Paper("S. Hayou", 2022, "On the infinite-depth limit of finite-width neural networks"),
    "2212.14457": Paper("B. Hanin, A. Zlokapa", 2022, "Bayesian Interpolation with Deep Linear Networks"),
    "2302.00453": Paper("S. Hayou, G. Yang", 2023, "Width and Depth Limits Commute in Residual Networks"),
    "2305.07810": Paper("S. Jelassi and others", 2023, "Depth Dependence of μP Learning Rates in ReLU MLPs"),
    "2305.18411": Paper(
        "N. Vyas and others", 2023, "Feature-Learning Networks Are Consistent Across Widths At Realistic Scales"
    ),
    "2306.17759": Paper(
        "L. Noci and others", 2023, "The Shaped Transformer: Attention Models in the Infinite Depth-and-Width Limit"
    ),
    "2304.03408": Paper(
        "B. Bordelon, C. Pehlevan",
        2023,
        "Dynamics of Finite Width Kernel and Prediction Fluctuations in Mean Field Neural Networks",
    ),
    "2309.16620": Paper(
        "B. Bordelon, L. Noci, M. Li, B. Hanin, C. Pehlevan",
        2023,
        "Depthwise Hyperparameter Transfer in Residual Networks: Dynamics and Scaling Limit",
    ),
    "2310.02244": Paper(
        "G. Yang, D. Yu, C. Zhu, S. Hayou",
        2023,
        "Tensor Programs VI: Feature Learning in Infinite-Depth Neural Networks",
    ),
    "2310.12079": Paper(
        "M. Li, M. Nica", 2023, "Differential Equation Scaling Limits of Shaped and Unshaped Neural Networks"
    ),
    "2402.17457": Paper(
        "L. Noci, A. Meterez, T. Hofmann, A. Orvieto",
        2024,
        "Super Consistency of Neural Network Landscapes and Learning Rate Transfer",
    ),
    "2403.02579": Paper(
        "A. Cowsik, T. Nebabu, X.-L. Qi, S. Ganguli",
        2024,
        "Geometric Dynamics of Signal Propagation Predict Trainability of Transformers",
    ),
    "2405.15712": Paper(
        "B. Bordelon, H. Chaudhry, C. Pehlevan", 2024, "Infinite Limits of Multi-head Transformer Dynamics"
    ),
    "2502.07998": Paper(
        "C. Lauditi, B. Bordelon, C. Pehlevan",
        2025,
        "Adaptive kernel predictors from feature-learning infinite limits of neural networks",
    ),
    "2505.01618": Paper(
        "N. Dey and others", 2025, "Don't be lazy: CompleteP enables compute-efficient deep transformers"
    ),
    "2509.10167": Paper("L. Chizat", 2025, "The Hidden Width of Deep ResNets: Tight Error Bounds and Phase Diagrams"),
    "2512.21075": Paper("Z. Yao, R. Wu, T. Gao", 2025, "Feature Learning Dynamics in Infinite-Depth Neural Networks"),
    "2603.18168": Paper(
        "L.-P. Chaintron, L. Chizat, J. Maass",
        2026,
        "ResNets of All Shapes and Sizes: Convergence of Training Dynamics in the Large-scale Limit",
    ),
    "2605.30860": Paper("B. Hanin, T. Jiang", 2026, "Bayesian Inference with Shaped Deep Non-linear MLPs"),
    "STAT 946": Paper("M. Li", 2025, "Lecture notes STAT 946 (Waterloo)"),
    "Dufresne": Paper(
        "D. Dufresne",
        1990,
        "The distribution of a perpetuity, with applications to risk theory and pension funding",
    ),
    "Householder dice": Paper(
        "Y. Lu",
        2021,
        "Householder Dice: A Matrix-Free Algorithm for Simulating Dynamics on Gaussian and Random Orthogonal Matrices",
    ),
}
NAMED = [key for key in PAPERS if not NUMBER.fullmatch(key)]
HEAD = """# Papers

What the library computes after whom, and where: the files that cite a paper, the tests that cite it or use a function
or class that does, and the figures drawn after it. `python docs/papers.py` writes this page from the sources.
"""


def cited(text: str) -> set[str]:
    """The papers that a text cites; a number without a title is refused."""
    numbers = set(NUMBER.findall(text))
    unknown = numbers - set(PAPERS)
    if unknown:
        raise ValueError(f"no title for arXiv {', '.join(sorted(unknown))}: add it to PAPERS in docs/papers.py.")
    # A citation may be broken over two lines.
    flat = " ".join(text.split())
    return numbers | {name for name in NAMED if name.lower() in flat.lower()}


def _sources(folder: str) -> dict[str, str]:
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / folder).rglob("*.py"))}


def _names(text: str) -> dict[str, set[str]]:
    """What each name at the top of a module cites: itself, or the module's docstring."""
    tree = ast.parse(text)
    shared = cited(ast.get_docstring(tree) or "")
    found: dict[str, set[str]] = {}
    for node in tree.body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        names = [getattr(node, "name", None), *map(ast.unparse, targets)]
        own = shared | cited(ast.get_source_segment(text, node) or "")
        found |= {name: own for name in names if name}
    return found


def _used(text: str, front: dict[str, tuple[str, str]]) -> set[tuple[str, str]]:
    """The names of modules that a source uses, each as (file, name); those of `covsde` itself where they come from."""
    tree = ast.parse(text)
    modules = {"covsde": "covsde"}
    used: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            used |= {(node.module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            used.add((modules[node.value.id], node.attr))
    homes = {front.get(name, (module, name)) if module == "covsde" else (module, name) for module, name in used}
    return {(f"{folder}{module.replace('.', '/')}.py", name) for module, name in homes for folder in ("", "tests/")}


def _experiments() -> Any:
    """The catalogue alone: the package itself would load jax."""
    spec = importlib.util.spec_from_file_location("covsde_catalogue", ROOT / "covsde" / "cli" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXPERIMENTS


def _code(files: list[str]) -> str:
    return ", ".join(f"`{file}`" for file in files)


def page() -> str:
    """The page, from the sources as they are."""
    # The catalogue is the list of figures; what it cites, figures cite.
    library = {file: text for file, text in _sources("covsde").items() if file != "covsde/cli/catalogue.py"}
    tests, scripts = _sources("tests"), _sources("experiments")
    texts = {f"limits/{path.name}": path.read_text() for path in sorted((HERE / "limits").glob("*.md"))}
    figures = {entry.name: entry for entry in _experiments()}
    citing = {file: cited(text) for file, text in {**library, **tests, **scripts, **texts}.items()}
    for name, entry in figures.items():
        citing[f"experiments/{name}.py"] |= cited(entry.source)
    front = {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in ast.walk(ast.parse(library["covsde/__init__.py"]))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = {(file, name): keys for file, text in {**library, **tests}.items() for name, keys in _names(text).items()}
    using = {file: set().union(*(names.get(use, set()) for use in _used(text, front))) for file, text in tests.items()}

    lines = [HEAD]
    for key, paper in PAPERS.items():
        files = [file for file in library if key in citing[file]]
        held = [file for file in tests if key in citing[file] | using[file]]
        shown = [file for file in scripts if key in citing[file]]
        if not files and not held and not shown:
            raise ValueError(f"nothing cites {key}: take it out of PAPERS in docs/papers.py.")
        about = [file for file in texts if key in citing[file]]
        number = f"[arXiv {key}](https://arxiv.org/abs/{key})" if NUMBER.fullmatch(key) else "no arXiv number"
        links = [
            f"[{Path(file).stem}](gallery.md#{Path(file).stem})" if Path(file).stem in figures else f"`{file}`"
            for file in shown
        ]
        lines += [f"## {paper.title}", "", f"{paper.authors} ({paper.year}), {number}.", ""]
        for name, content in (
            ("limits", ", ".join(f"[{Path(file).stem}]({file})" for file in about)),
            ("library", _code(files)),
            ("tests", _code(held)),
            ("figures", ", ".join(links)),
        ):
            lines += [f"* {name}: {content}"] if content else []
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Rewrite the page."""
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: {len(PAPERS)} papers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
