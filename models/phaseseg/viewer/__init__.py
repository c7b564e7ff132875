"""A viewer for frames and their fields: one HTML page that works offline, also in notebooks.

The page draws with WebGL 2 and contains all it needs: scripts, style and data. Without WebGL it shows a still
picture. Nothing else must be installed.
"""

from __future__ import annotations

from phaseseg.viewer.page import View, view
from phaseseg.viewer.scene import Scene

__all__ = ["Scene", "View", "view"]
