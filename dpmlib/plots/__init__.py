"""Figures and tables: the one place of the book's house style."""

from .animation import Animation, animate
from .figures import density2d, image_grid, loss_curve, scatter2d, trajectory2d
from .style import RC, color, methods, style
from .tables import Table, table

__all__ = ["RC", "Animation", "Table", "animate", "color", "density2d", "image_grid", "loss_curve", "methods", "scatter2d",
           "style", "table", "trajectory2d"]
