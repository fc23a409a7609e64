import jax

from covsde.cli import doctor


def test_report():
    text, good = doctor.report()
    assert good
    for word in ("python", "jaxlib", "diffrax", jax.default_backend(), "tqdm", "matplotlib", "scikit-learn"):
        assert word in text
    assert "FAILED" not in text
    assert doctor.miscompiled() == []


def test_wrong_kernels_and_broken_simulation(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no memory")

    monkeypatch.setattr(doctor, "_product_error", lambda: float("nan"))
    monkeypatch.setattr(doctor, "_squared_norm_error", lambda rows, dtype: float(rows == 16_385))
    monkeypatch.setattr(doctor, "simulate", broken)
    text, good = doctor.report()
    assert not good
    assert "FAILED  wrong numbers: products of 4 x 4 matrices" in text
    assert "FAILED  wrong numbers: squared norms of 3-vectors, batch of 16385, float64" in text
    assert "FAILED  simulation of 64 paths: RuntimeError: no memory" in text
    assert len(doctor.miscompiled()) == 2
