"""Draw only a part of a layer, on the graphics card: nothing is read or computed anew while an edge is dragged.

A vispy filter in the layer's shader throws away the fragments outside its part. napari builds what draws a layer anew now and then
(2-D to 3-D and back, an image that outgrows a texture), so the filters are looked after before every drawing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from vispy.visuals.filters import Filter
from vispy.visuals.shaders import Function, Varying

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.compare.parts import Band, Part, Squares, square_step

if TYPE_CHECKING:
    import napari

__all__ = ["Clipper"]

_POSITION = "void remember_position() { $v_position = gl_Position; }"

# Screen coordinates of vispy run from -1 to 1, upwards.
_BAND = """
void show_band() {
    vec2 at = 0.5 + 0.5 * $v_position.xy / $v_position.w;
    float along = $across > 0.5 ? at.x : 1.0 - at.y;
    if (along < $low || along >= $high) discard;
}
"""

_SQUARES = """
void show_squares() {
    vec4 scene = $to_scene($v_position);
    vec2 square = floor(scene.xy / scene.w / $size);
    float ahead = square.x + $step * square.y;
    float mine = floor(ahead - $n * floor(ahead / $n) + 0.5);
    if (mine > $n - 0.5) mine = 0.0;
    if (abs(mine - $index) > 0.5) discard;
}
"""


class _PartFilter(Filter):
    """One part for one visual."""

    def __init__(self, part: Part) -> None:
        self.kind = type(part)
        code = _BAND if isinstance(part, Band) else _SQUARES
        super().__init__(
            vcode=Function(_POSITION), vhook="post", vpos=1, fcode=Function(code), fhook="pre", fpos=1
        )
        position = Varying("v_position", "vec4")
        self.vshader["v_position"] = position
        self.fshader["v_position"] = position
        self.part: Part | None = None
        self.show(part)

    def show(self, part: Part) -> bool:
        """Change the part (of the same kind); only uniforms change, the shader stays compiled. Whether it was another."""
        if part == self.part:
            return False
        self.part = part
        if isinstance(part, Band):
            values = {"low": part.low, "high": part.high, "across": float(part.across)}
        else:
            values = {
                "size": part.size_um,
                "n": float(part.n),
                "index": float(part.index),
                "step": float(square_step(part.n)),
            }
        for name, value in values.items():
            self.fshader[name] = value
        return True

    def _attach(self, visual: Any) -> None:
        super()._attach(visual)
        if self.kind is Squares:
            self.fshader["to_scene"] = visual.get_transform("render", "scene")


class Clipper:
    """Keeps the filters of one viewer's layers in step with the parts that they are to show."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._filters: WeakKeyDictionary[Any, _PartFilter] = WeakKeyDictionary()

    def apply(self, parts: dict[Any, Part]) -> None:
        """Show these parts of these layers, and all of every other layer."""
        wanted = {
            node: part for layer, part in parts.items() for node in seam.drawn_nodes(self._viewer, layer)
        }
        for node in [node for node in self._filters if node not in wanted]:
            node.detach(self._filters.pop(node))
            node.update()
        for node, part in wanted.items():
            own = self._filters.get(node)
            if own is not None and own.kind is not type(part):
                node.detach(self._filters.pop(node))
                own = None
            if own is None:
                self._filters[node] = own = _PartFilter(part)
                node.attach(own)
                node.update()
            elif own.show(part):
                node.update()
