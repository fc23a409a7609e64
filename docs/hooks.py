"""What mkdocs does to the pages of this folder: the gallery is written from the catalogue of experiments."""

import importlib.util
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARKER = "<!-- gallery -->"
# Title of a group -> the first words of its scripts' names.
GROUPS = {
    "The tour": ("demo",),
    "Shaped and unshaped MLPs": ("mlp",),
    "Outputs": ("output", "posterior"),
    "Shaped by gradient descent": ("shape",),
    "Feature learning": ("feature",),
    "Training in general": ("digits", "transfer", "sharpness", "best", "learning"),
    "ResNets": ("resnet",),
    "Mean-field networks": ("mean",),
    "Transformers": ("transformer",),
    "Scaling laws": ("scaling",),
}
# A script whose picture stands elsewhere under docs/.
ELSEWHERE = {"demo_digits": "digits.png"}


def _experiments() -> Any:
    """The catalogue alone: the package itself would load jax."""
    spec = importlib.util.spec_from_file_location("covsde_catalogue", HERE.parent / "covsde" / "cli" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXPERIMENTS


def _linked(source: str) -> str:
    """Paper numbers as links."""
    return re.sub(r"\b(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", source)


def gallery() -> str:
    """One entry for every script in experiments/: figure, sentence, papers, command."""
    lines: list[str] = []
    seen: set[str] = set()
    for title, words in GROUPS.items():
        entries = [e for e in _experiments() if e.name.split("_")[0] in words]
        seen.update(e.name for e in entries)
        lines += [f"## {title}", ""]
        for entry in entries:
            figure = ELSEWHERE.get(entry.name, f"figures/{entry.name}.png")
            sentence = entry.sentence[0].upper() + entry.sentence[1:]
            lines += [f"### {entry.name}", "", f"{sentence}. After {_linked(entry.source)}.", ""]
            if (HERE / figure).exists():
                lines += [f"![{sentence}]({figure})", ""]
            lines += ["```", entry.command, "```", ""]
    left = {e.name for e in _experiments()} - seen
    if left:
        raise ValueError(f"the gallery has no group for {', '.join(sorted(left))}: add one to docs/hooks.py.")
    return "\n".join(lines)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the gallery where its page asks for it."""
    return markdown.replace(MARKER, gallery()) if page.file.src_path == "gallery.md" else markdown
