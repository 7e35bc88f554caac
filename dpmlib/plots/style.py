"""Sizes, fonts and colours of every figure in the book.

A figure is 5.6 inches wide at 100 dpi, so 560 pixels, and its letters are 13 pt: scaled down to a telephone's 350 pixels they
are still as large as the text around them. Hence few labels and at most three panels in a row. The background is white and
opaque, a card with a margin of its own, so that a page in dark mode shows the same picture; a transparent one would put black
axes on black.
"""

import matplotlib as mpl

# Okabe and Ito's palette, told apart with any of the common colour blindnesses; its yellow is too faint for a line on white.
_BLACK, _GREY = "#000000", "#7f7f7f"
_ORANGE, _SKY, _GREEN, _BLUE, _RED, _PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"

RC = {
    "figure.figsize": (5.6, 3.6), "figure.dpi": 100, "savefig.dpi": 100, "figure.constrained_layout.use": True,
    "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
    "font.size": 13, "axes.titlesize": 13, "axes.labelsize": 13, "xtick.labelsize": 12, "ytick.labelsize": 12,
    "legend.fontsize": 12, "legend.frameon": False, "legend.handlelength": 2.2,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e3e3e3", "grid.linewidth": 0.8,
    "axes.axisbelow": True, "lines.linewidth": 2, "lines.markersize": 6, "image.cmap": "cividis",
    "axes.prop_cycle": mpl.cycler(color=[_BLUE, _RED, _GREEN, _ORANGE, _PURPLE, _SKY, _BLACK]),
    "mathtext.fontset": "cm", "svg.hashsalt": "dpmlib", "animation.html": "none",
}

# One look per method, the same in every chapter; no two share both colour and line, and each has its marker for black and white.
_LOOKS = {
    "data": (_GREY, "o", "-"), "exact": (_BLACK, "", "-"), "noise": (_GREY, "x", ":"), "prior": (_GREY, "+", "--"),
    # ancestral samplers and their variances
    "ddpm": (_RED, "o", "-"), "ddim": (_BLUE, "s", "-"), "analytic": (_GREEN, "^", "-"), "npr": (_PURPLE, "D", "-"),
    "sn": (_ORANGE, "v", "-"), "beta": (_RED, "*", ":"), "beta-tilde": (_BLUE, "*", ":"),
    # solvers
    "em": (_RED, "x", "--"), "predictor-corrector": (_RED, "P", "-."), "euler": (_BLUE, "x", "--"), "heun": (_ORANGE, "X", "--"),
    "rk": (_GREY, "h", "-."), "dpm-solver": (_SKY, "<", "-"), "dpm-solver++": (_BLACK, ">", "--"),
    "sde-dpm-solver++": (_PURPLE, ">", ":"), "unipc": (_GREEN, "p", "--"), "pndm": (_PURPLE, "d", "--"), "deis": (_SKY, "H", "--"),
    # models
    "flow": (_SKY, "s", "-."), "vae": (_PURPLE, "^", "-."), "gan": (_ORANGE, "D", "-."), "autoregressive": (_GREEN, "v", "-."),
    "fvsbn": (_ORANGE, "o", ":"), "nade": (_GREEN, "s", (0, (5, 1, 1, 1, 1, 1))), "transformer": (_BLUE, "P", "-."),
    # what the network predicts
    "eps": (_BLACK, "o", "-."), "x0": (_GREEN, "*", ":"), "v": (_SKY, "v", ":"), "score": (_BLACK, "*", ":"),
}

methods = tuple(_LOOKS)


def style():
    """Set the house style for every figure from here on. For a few figures only: `with matplotlib.rc_context(plots.RC):`."""
    mpl.rcParams.update(RC)


def color(method):
    """The method's fixed look, to be spread into a call: ax.plot(x, y, **plots.color("ddim")).

    A dict of color, marker and linestyle; `color(method)["color"]` is the colour alone. ValueError: unknown method.
    """
    if method not in _LOOKS:
        raise ValueError(f"method is {method!r}; allowed: {', '.join(methods)}")
    return dict(zip(("color", "marker", "linestyle"), _LOOKS[method], strict=True))
