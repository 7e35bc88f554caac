"""Figures draw what they are given and leave the world as it was; tables and animations come out the same every time."""

import io
import re

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

matplotlib.use("agg")

import matplotlib.pyplot as plt  # noqa: E402

from dpmlib import data, plots  # noqa: E402


def g():
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def the_world_stays(request):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    with matplotlib.rc_context():
        yield
    plt.close("all")
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])


def test_every_method_has_a_look_of_its_own():
    looks = [plots.color(method) for method in plots.methods]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == len(looks)
    for look in looks:
        plt.plot([0, 1], [0, 1], **look)
    with pytest.raises(ValueError, match="ddpm, ddim"):
        plots.color("nothing")


def test_style_sets_every_setting_and_says_nothing():
    assert plots.style() is None
    expected = matplotlib.RcParams(plots.RC)
    assert {key: matplotlib.rcParams[key] for key in plots.RC} == dict(expected)
    width, dpi = plots.RC["figure.figsize"][0], plots.RC["figure.dpi"]
    assert min(v for k, v in plots.RC.items() if "size" in k and "font" in k) / 72 * 350 / width >= 10  # pixels on a telephone
    assert width * dpi <= 600


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scatter_and_trajectory_show_the_first_points(dtype):
    x = torch.randn(50, 2, generator=g()).to(dtype).requires_grad_()
    ax = plots.scatter2d(x, label="data", most=20)
    assert np.allclose(ax.collections[0].get_offsets(), x[:20].detach().double())
    path = [x, x / 2, x / 3]
    ax = plots.trajectory2d(path, most=7)
    assert len(ax.lines) == 7 and np.allclose(ax.lines[3].get_ydata(), [s[3, 1].item() for s in path])
    assert len(plots.trajectory2d(torch.stack(path).float().detach()).lines) == 50
    for bad in (x[0], x[:, :1]):
        with pytest.raises(ValueError, match="points"):
            plots.scatter2d(bad)
        with pytest.raises(ValueError, match="path"):
            plots.trajectory2d([bad, bad])


def test_density_shows_the_density_in_its_place():
    ax = plots.density2d(lambda x: -((x - torch.tensor([1., -0.5])).square().sum(1)) / 0.02, lim=2, n=80)
    image = ax.images[0]
    row, column = np.unravel_index(image.get_array().argmax(), (80, 80))
    left, right, bottom, top = image.get_extent()
    assert image.origin == "lower"
    assert left + (column + 0.5) * (right - left) / 80 == pytest.approx(1, abs=0.03)
    assert bottom + (row + 0.5) * (top - bottom) / 80 == pytest.approx(-0.5, abs=0.03)
    assert len(plots.density2d(data.toy_mixture("petals").log_prob, levels=3).collections) >= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_keeps_every_pixel(channels):
    images = torch.randint(256, (7, channels, 8, 8), generator=g(), dtype=torch.uint8)
    shown = plots.image_grid(images, ncol=3, pad=1).images[0].get_array()
    assert shown.shape[:2] == (3 * 9 - 1, 3 * 9 - 1)
    image = shown[9:17, 18:26].reshape(8, 8, channels)  # row 1, column 2
    assert np.array_equal(image, images[5].permute(1, 2, 0)) and (shown[8] == 255).all()
    assert np.array_equal(plots.image_grid(data.to_unit(images), ncol=3).images[0].get_array(), shown)
    for bad in (images[0], images[:, :, :, 0], images.expand(7, 3, 8, 8)[:, :2], images[:0], data.to_unit(images) * float("nan")):
        with pytest.raises(ValueError, match="images|x "):
            plots.image_grid(bad)
    with pytest.raises(ValueError, match="ncol"):
        plots.image_grid(images, ncol=0)


def test_image_grid_enlarges_by_whole_pixels_on_the_screen():
    images = torch.randint(256, (6, 3, 8, 8), generator=g(), dtype=torch.uint8)
    figure = plots.image_grid(images, ncol=3, title="six").figure
    file = io.BytesIO()
    figure.savefig(file)
    picture = np.asarray(Image.open(file).convert("RGB"))
    zoom = picture.shape[1] // 26
    assert picture.shape[1] == 26 * zoom <= 560
    last = picture[-8 * zoom:, -8 * zoom:][zoom // 2::zoom, zoom // 2::zoom]
    assert np.array_equal(last, images[5].permute(1, 2, 0))


def test_loss_curve_smooths_without_bias():
    lines = plots.loss_curve(range(10), torch.full((10,), 3.), label="loss").lines
    assert np.allclose(lines[1].get_ydata(), 3)
    for bad in (dict(steps=[1], losses=[1., 2.]), dict(steps=[1], losses=[1.], smooth=1.), dict(steps=[], losses=[])):
        with pytest.raises(ValueError):
            plots.loss_curve(**bad)


def test_table_in_three_forms():
    t = plots.table([{"method": "DDPM|a", "FID": torch.tensor(3.17), "NFE": 1000}, {"method": "<ddim>", "FID": 4.1644, "NFE": 50},
                     {"method": "none", "NFE": np.int64(10)}], caption="A & B", digits=2, best={"FID": "min"})
    assert repr(t) == ("A & B\nmethod   FID   NFE\n------  ----  ----\nDDPM|a  3.17  1000\n<ddim>  4.16    50\nnone       –    10")
    assert t.markdown().splitlines()[2:] == ["| method | FID | NFE |", "|:--|--:|--:|", "| DDPM\\|a | **3.17** | 1000 |",
                                             "| <ddim> | 4.16 | 50 |", "| none | – | 10 |"]
    page = t._repr_html_()
    assert "<b>3.17</b>" in page and "&lt;ddim&gt;" in page and "<caption>A &amp; B</caption>" in page and page.count("<tr>") == 4
    assert not re.search(r"color|id=", page)


def test_table_digits():
    assert "0.00" in repr(plots.table([[-0.0004, 1]], ["a", "b"], digits=2)) and "-" not in repr(
        plots.table([[-0.0004, 1]], ["a", "b"], digits=2)).splitlines()[2]
    line = repr(plots.table([[1.23456, 1.23456, float("nan"), True]], list("abcd"), digits={"a": 1})).splitlines()[2]
    assert line.split() == ["1.2", "1.235", "nan", "True"]
    tied = plots.table([[1.001], [1.002], [2.]], ["a"], digits=2, best={"a": "min"})
    assert tied.markdown().count("**1.00**") == 2


@pytest.mark.parametrize("arguments, match", [
    (dict(rows=[]), "rows"), (dict(rows=[[1]]), "columns"), (dict(rows=[[1, 2]], columns=["a"]), "2 entries"),
    (dict(rows=[{"a": 1}, {"b": 1}]), "'b'"), (dict(rows=[{"a": 1}], best={"a": "least"}), "'min', 'max'"),
    (dict(rows=[{"a": 1}], best={"b": "min"}), "best"), (dict(rows=[{"a": 1}], digits={"b": 1}), "digits")])
def test_table_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        plots.table(**arguments)


def test_animation_plays_by_itself_and_comes_out_the_same():
    def draw(ax, x):
        ax.plot([0, 1], [0, x])
        ax.set_ylim(0, 1)

    shown = [plots.animate(draw, [0.1, 0.5, 0.9], figsize=(2, 1.5), seconds=0.3, hold=1.) for _ in range(2)]
    assert shown[0].png == shown[1].png == shown[0]._repr_png_() and repr(shown[0]) == "<animation of 3 frames, 200 × 150 pixels>"
    assert not plt.get_fignums()
    picture = Image.open(io.BytesIO(shown[0].png))
    assert picture.format == "PNG" and picture.n_frames == 3 and picture.info["loop"] == 0
    durations, pixels = [], []
    for i in range(3):
        picture.seek(i)
        durations.append(picture.info["duration"])
        pixels.append(np.asarray(picture.convert("RGB")).copy())
    assert durations == [100, 100, 1100] and pixels[0][0, 0].tolist() == [255] * 3
    assert not np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[1], pixels[2])


def test_animation_refuses():
    with pytest.raises(ValueError, match="frames"):
        plots.animate(lambda ax, _: None, [])
    with pytest.raises(ValueError, match="colors"):
        plots.animate(lambda ax, _: None, [1], colors=1)
    with pytest.raises(ValueError, match="most_bytes"):
        plots.animate(lambda ax, _: None, [1], most_bytes=100)
