"""Moving pictures for a page that has no kernel, no script and no network: animated PNG.

Such a file is an image: every browser plays it by itself, notebooks show it as image/png wherever they are read, printing shows
its first frame, and a notebook's checker compares no ids in it, for it has none.
"""

import io

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from .style import RC


class Animation:
    """What `animate` returns; a notebook plays it. .png holds the bytes, .frames how many pictures it has."""

    def __init__(self, png, frames, size):
        self.png, self.frames, self.size = png, frames, size

    def _repr_png_(self):
        return self.png

    def __repr__(self):
        return f"<animation of {self.frames} frames, {self.size[0]} × {self.size[1]} pixels>"

    def save(self, path):
        with open(path, "wb") as file:
            file.write(self.png)


def animate(draw, frames, figsize=(3.6, 3.6), seconds=4., hold=1.5, colors=64, most_bytes=500_000):
    """Pictures drawn one after another, played for ever: `draw(ax, frame)` draws each of `frames` on empty axes.

    seconds: the length of one round, to which the last picture adds `hold`; colors: of the palette that all pictures share
    (2…256). Drawn in the house style, whatever the session's.
    ValueError: no frames, or a result above `most_bytes`, which tells what to change.
    """
    frames = list(frames)
    if not frames:
        raise ValueError("frames is empty; an animation needs at least one")
    if not 2 <= colors <= 256:
        raise ValueError(f"colors is {colors}; it must lie in 2…256")
    pictures = []
    with mpl.rc_context(RC):
        figure = Figure(figsize=figsize)  # not pyplot's: nothing is shown twice, no backend is asked
        canvas = FigureCanvasAgg(figure)
        for frame in frames:
            figure.clear()
            draw(figure.add_subplot(), frame)
            canvas.draw()
            pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    # The palette comes from the first, middle and last picture together; one for all, or colours would flicker.
    probe = np.concatenate([np.asarray(pictures[i]) for i in (0, len(pictures) // 2, -1)])
    palette = Image.fromarray(probe).quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    entries = np.array(palette.getpalette()).reshape(-1, 3)
    entries[entries.min(1) >= 248] = 255  # the background: an average of whites and near-whites would be grey
    palette.putpalette(entries.flatten().tolist())
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    step = max(1, round(1000 * seconds / len(pictures)))
    file = io.BytesIO()
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:], loop=0,
                     duration=[step] * (len(pictures) - 1) + [step + round(1000 * hold)])
    png = file.getvalue()
    if len(png) > most_bytes:
        raise ValueError(f"the animation has {len(png)} bytes, more than most_bytes = {most_bytes}: "
                         f"draw fewer than {len(frames)} frames, a smaller figsize or fewer colors")
    return Animation(png, len(frames), pictures[0].size)
