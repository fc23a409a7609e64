"""What a notebook shows of a result at the end of a cell: a table, not pages of arrays; and what help shows."""

import inspect
import re

import numpy as np
import pytest
from test_records import RECORDS, name

import covsde as cs
from covsde.results.html import MOST_ROWS
from covsde.results.record import Record


def cells(page: str) -> list[str]:
    return re.findall(r"<t[dh]>(.*?)</t[dh]>", page)


@pytest.mark.filterwarnings("ignore::covsde.FailedPathsWarning")
@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_a_result_is_shown_by_its_quantities(record: Record) -> None:
    page = record._repr_html_()  # type: ignore[operator]
    assert repr(record) in page
    assert {quantity.name.replace(">", "&gt;") for quantity in record.quantities()} <= set(cells(page))
    assert "nan" not in page


def test_an_estimate_is_shown_with_its_error() -> None:
    one = cs.Estimate(np.float64(0.1234), np.float64(0.0012))
    assert one._repr_html_() == "<p>0.1234 ± 0.0012</p>"
    several = cs.Estimate(np.arange(3.0), np.full(3, 0.1))
    assert cells(several._repr_html_()) == [
        "",
        "value ± error",
        "0",
        "0.00 ± 0.10",
        "1",
        "1.00 ± 0.10",
        "2",
        "2.00 ± 0.10",
    ]
    assert cells(cs.Estimate(np.ones((2, 2)), np.ones((2, 2)))._repr_html_())[:3] == ["", "0", "1"]
    many = cs.Estimate(np.zeros(100), np.ones(100))._repr_html_()
    assert len(cells(many)) == 2 + 2 * MOST_ROWS
    assert "of 100 rows" in many
    with pytest.raises(TypeError, match=r"use \.value or \.standard_error"):
        np.asarray(one)


def test_kernels_lazy_training_and_laws_are_shown_as_tables() -> None:
    kernels = cs.kernels(cs.ResNet("linear"), np.eye(2), depth=1)
    assert cells(kernels._repr_html_())[:4] == ["0", "1", "2", "0"]  # H = 2 V0
    lazy = cs.lazy_training(np.eye(2), [1.0, -1.0], [0.0, 1.0])
    assert repr(lazy).startswith("LazyTraining(2 times, 2 points, 1 outputs, loss ")
    assert cells(lazy._repr_html_())[:4] == ["time", "loss", "0", "0.5"]
    large = cs.kernels(cs.ResNet("linear"), np.eye(2 * MOST_ROWS), depth=1)._repr_html_()
    assert len(cells(large)) < 2 * (MOST_ROWS + 2) ** 2


QUESTIONS = [name for name in dir(cs) if callable(getattr(getattr(cs, name), "plan", None))]


@pytest.mark.parametrize("question", QUESTIONS)
def test_help_shows_every_option_and_says_what_it_is(question: str) -> None:
    function = getattr(cs, question)
    parameters = inspect.signature(function).parameters
    assert not [p for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    described = re.findall(
        r"^ {8}(\w+): ", inspect.cleandoc(function.__doc__ or "").replace("\n    ", "\n        "), re.M
    )
    assert set(parameters) <= set(described)


def test_help_of_train_names_momentum_and_richness() -> None:
    parameters = set(inspect.signature(cs.train).parameters)
    assert {"optimizer", "batches", "richness", "depth", "output_scale", "train_input", "method"} <= parameters
