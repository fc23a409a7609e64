"""What the README, the notebooks and the documentation show is what the package does; and the site builds."""

import importlib
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import covsde as cs
from covsde import extend
from covsde.cli.catalogue import EXPERIMENTS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```python" in page.read_text())


def run_code_of(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of a page, one after the other in one namespace, in an empty folder."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(folder)
    namespace: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, page.name, "exec"), namespace)
    finally:
        plt.close("all")


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_code_of(ROOT / "README.md", tmp_path, monkeypatch)
    assert (tmp_path / "limit.npz").exists()


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(notebook), run_name="__main__")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).with_suffix("").as_posix())
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_code_of(page, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error: broken links and anchors, docstrings that do not parse."""
    out = tmp_path_factory.mktemp("site")
    # A process of its own: the theme has warnings of its own to give, which are none of ours. Not --quiet, which would
    # hide the warnings from --strict.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def article(page: Path) -> str:
    """What a page says, without its code and without its formulas."""
    (text,) = re.findall(r"<article[^>]*>(.*?)</article>", page.read_text(), flags=re.DOTALL)
    for element in (r"<pre.*?</pre>", r"<code.*?</code>", r"<(div|span) class=\"arithmatex\">.*?</\1>"):
        text = re.sub(element, "", text, flags=re.DOTALL)
    return text


def test_formulas_lists_and_links_are_rendered(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 20
    for page in pages:
        left = re.findall(r".{0,40}(?:\$|\\frac|\\big|```|\]\(|&lt;!--).{0,40}", article(page))
        assert not left, (page.name, left[:3])


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    built = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    anchors = set(re.findall(r'id="covsde\.(?:[\w.]+\.)?(\w+)"', built))
    named = vars(cs) | vars(extend) | vars(cs.scaling)
    public = {name for name, value in named.items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public - anchors == set()


def test_the_gallery_has_an_entry_and_a_command_for_every_script(site: Path) -> None:
    text = (site / "gallery.html").read_text()
    for experiment in EXPERIMENTS:
        assert f'id="{experiment.name}"' in text
        assert experiment.command in text
    shown = re.findall(r'src="(figures/\w+\.png)"', text)
    assert len(shown) > 15
    for image in shown:
        assert (site / image).stat().st_size < 120_000


def test_every_paper_that_is_cited_is_on_the_page_of_papers() -> None:
    papers = runpy.run_path(str(DOCS / "papers.py"))
    text = (DOCS / "papers.md").read_text()
    for folder in ("covsde", "tests", "experiments"):
        for source in sorted((ROOT / folder).rglob("*.py")):
            missing = {number for number in re.findall(r"\b\d{4}\.\d{5}\b", source.read_text()) if number not in text}
            assert not missing, (source, missing)
    assert papers["page"]() == text, "docs/papers.md is not what the sources say: run python docs/papers.py."


# The changelog is none of these pages: it names what was.
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def exists(dotted: str) -> bool:
    """Whether a dotted name leads from the package to a module, or to what one holds."""
    first, *rest = dotted.split(".")
    value, path = importlib.import_module(first), first
    for name in rest:
        path = f"{path}.{name}"
        if not hasattr(value, name):
            try:
                importlib.import_module(path)
            except ImportError:
                return False
        value = getattr(value, name)
    return True


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).with_suffix("").as_posix())
def test_every_file_and_name_that_a_page_mentions_exists(page: Path) -> None:
    text = page.read_text()
    paths = re.findall(r"(?<![\w/])(?:covsde|tests|experiments|benchmarks|notebooks|docs)/[\w/]*(?:\.\w+)?", text)
    gone = sorted({path for path in paths if not (ROOT / path).exists()})
    names = set(re.findall(r"(?<![\w./])covsde(?:\.\w+)+", text))
    gone += sorted(name for name in names if not exists(name))
    assert not gone, gone


def test_every_module_that_a_source_mentions_exists() -> None:
    for source in sorted((ROOT / "covsde").rglob("*.py")):
        if source.name == "_moved.py":  # names what was
            continue
        text = source.read_text()
        paths = re.findall(r"\w+/[\w/]*\.py\b", text)
        gone = [path for path in paths if not (ROOT / path).exists() and not any(ROOT.glob(f"covsde/**/{path}"))]
        gone += [name for name in re.findall(r"`(covsde(?:\.\w+)+)`", text) if not exists(name)]
        assert not gone, (source, gone)


def test_the_gallery_takes_only_quick_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thumbnails = runpy.run_path(str(DOCS / "thumbnails.py"))
    for name, quick in (("short", True), ("long", False)):
        figure = plt.figure(figsize=(10, 6), dpi=200)
        figure.savefig(tmp_path / f"{name}.png")
        plt.close(figure)
        (tmp_path / f"{name}.json").write_text(json.dumps({"quick": quick}))
    assert thumbnails["main"](["--figures", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["short.png"]
    assert plt.imread(tmp_path / "out" / "short.png").shape[1] == 1100
    assert "long.png: not a quick run" in capsys.readouterr().err
