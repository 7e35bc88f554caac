"""The translator: numbers of other papers into ours and back."""

import math

import pytest
import torch

import dpmlib as d
from dpmlib.data import toy_mixture
from dpmlib.notation import GUIDANCE, PAPERS, carry, express, express_step, guidance_scale, translate

VP = d.LinearVP().level(torch.tensor([0.01, 0.3, 0.7, 1.0]))
FLOW = d.Flow().level(torch.tensor([0.01, 0.3, 0.7, 0.99]))
OWN = {"score-sde-ve": d.VE().level(torch.tensor([0.1, 0.9])), "flow-matching": FLOW, "stable-diffusion-3": FLOW,
       "score-sde-subvp": translate("score-sde-subvp", beta_integral=torch.tensor([0.01, 1.0, 8.0]))}


def close(a, b, tol=1e-10):
    return all(torch.allclose(getattr(a, f), getattr(b, f), rtol=tol, atol=tol) for f in ("alpha", "sigma", "lam"))


@pytest.mark.parametrize("paper", PAPERS)
def test_round_trip(paper):
    level = OWN.get(paper, VP)
    assert close(translate(paper, **express(paper, level)), level)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_reading_is_read(paper):
    for reading in PAPERS[paper].readings:
        symbols = {name: torch.tensor([1.0 if name == "t" and high > 1 else 0.3])
                   for name, (_, high) in reading.symbols.items()}
        level = translate(paper, **symbols)
        assert level.alpha.dtype == torch.float64 and level.alpha.shape == level.t.shape == (1,)
        assert level.lam == pytest.approx((level.alpha / level.sigma).log().item())


def test_three_meanings_of_one_letter():
    assert translate("dpm-solver", alpha=0.99).alpha == pytest.approx(0.99)
    assert translate("ddim", alpha=0.99).alpha == pytest.approx(math.sqrt(0.99))
    assert translate("ddpm", alpha=torch.full((100,), 0.99)).alpha[-1] == pytest.approx(0.99**50)
    with pytest.raises(ValueError, match="whole chain"):
        translate("ddpm", alpha=0.99)


def test_a_chain_is_the_discrete_schedule():
    chain = d.DiscreteVP.linear(1000)
    ours = chain.level(torch.arange(1, 1001).double() / 1000)
    assert close(translate("ddpm", beta=chain.betas), ours)
    assert close(translate("analytic-dpm", alpha=1 - chain.betas), ours)
    assert close(translate("ddpm", t=torch.arange(1, 1001)), ours)
    assert torch.equal(translate("ddpm", t=500).t, torch.tensor(0.5, dtype=torch.float64))
    steps = express_step("analytic-dpm", ours[1:], ours[:-1])
    assert (steps["beta"] - chain.betas[1:]).abs().max() < 1e-14
    assert (steps["beta_tilde"] - d.kernel(d.levels(chain, 1000, to_zero=True)).omega2.flip(0)[1:]).abs().max() < 1e-14
    assert torch.equal(steps["beta_tilde"].sqrt(), express_step("ddim", ours[1:], ours[:-1])["sigma"])


def test_known_numbers():
    assert translate("score-sde-vp", t=1.0).lam == pytest.approx(-5.025, abs=2e-3)
    assert translate("edm", sigma=80.0).lam == pytest.approx(-math.log(80))
    assert translate("vdm", gamma=2.0).lam == pytest.approx(-1)
    assert translate("vdm++", lam=2.0).lam == pytest.approx(1)
    assert translate("flow-matching", t=0.25).t == 0.75
    assert translate("flow-matching", t=0.25, sigma_min=0.1).sigma == pytest.approx(0.775)
    assert close(translate("stable-diffusion-3", t=0.75), translate("flow-matching", t=0.25))
    assert translate("dpm-solver", lam=30.0).sigma == pytest.approx(math.exp(-30), rel=1e-12)


@pytest.mark.parametrize("schedule", [d.LinearVP(), d.DiscreteVP.linear(), d.VE(), d.Flow()], ids=repr)
def test_carrying_a_level_changes_no_belief(schedule):
    gm = toy_mixture("grid8")
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edm = translate("edm", sigma=torch.tensor(2.5))
    there, factor = carry(edm, schedule)
    assert there.lam == pytest.approx(edm.lam.item(), abs=1e-9)
    assert factor == pytest.approx((there.alpha / edm.alpha).item()) == pytest.approx((there.sigma / edm.sigma).item())
    assert (gm.denoiser()(x, edm).mean - gm.denoiser()(factor * x, there).mean).abs().max() < 1e-8


def test_labels():
    level = d.DiscreteVP.linear().level(torch.tensor([1 / 1000, 1.0], dtype=torch.float64))
    expected = {"ddpm": (0, 999), "ddim": (0, 999), "u-vit": (1, 1000), "score-sde-vp": (0.999, 999)}
    for paper, numbers in expected.items():
        assert PAPERS[paper].label(level).tolist() == pytest.approx(numbers, abs=1e-9)
    assert PAPERS["edm"].label(translate("edm", sigma=80.0)) == pytest.approx(math.log(80) / 4)
    assert PAPERS["flow-matching"].label(translate("flow-matching", t=0.2)) == pytest.approx(0.2)
    assert PAPERS["stable-diffusion-3"].label(translate("stable-diffusion-3", t=0.2)) == pytest.approx(200)


def test_guidance():
    assert [guidance_scale(paper, 2.0) for paper in GUIDANCE] == [3, 2, 2, 2]


@pytest.mark.parametrize("call, words", [
    (lambda: translate("ddmp", t=3), "ddmp.*'ddpm'"),
    (lambda: translate("ddpm", gamma=3), r"gamma.*\(alpha_bar\) or \(beta\)"),
    (lambda: translate("ddpm"), "name no level"),
    (lambda: translate("ddpm", alpha_bar=1.2), r"alpha_bar = \[1.2\].*\[0, 1\]"),
    (lambda: translate("ddpm", alpha_bar=math.nan), "alpha_bar"),
    (lambda: translate("ddpm", t=0), "t = "),
    (lambda: translate("ddpm", t=500.5), "whole number"),
    (lambda: translate("analytic-dpm", beta=0.01), "whole chain"),
    (lambda: translate("edm", sigma=-1.0), "sigma"),
    (lambda: translate("edm", sigma=torch.ones(2), s=torch.ones(3)), "shapes"),
    (lambda: express("ddpm", d.VE().level(0.5)), "carry"),
    (lambda: express("score-sde-ve", VP), "carry"),
    (lambda: express("flow-matching", VP), "carry"),
    (lambda: express_step("edm", VP[1], VP[0]), "no chain"),
    (lambda: express_step("ddpm", VP[0], VP[1]), "the first must be"),
    (lambda: carry(translate("edm", sigma=1e4), d.LinearVP()), "outside"),
    (lambda: guidance_scale("glide", 3.0), "paper"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
