"""Drawing of synthetic street scenes: the picture and its labels, painted together."""

from fastscnn.streets.draw.scene import Scene, draw_street

__all__ = ["Scene", "draw_street"]
