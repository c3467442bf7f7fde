"""Nodes for ComfyUI. The program reads the names below when it starts."""

from .nodes import Enlarge, Score

NODE_CLASS_MAPPINGS = {"CaflowEnlarge": Enlarge, "CaflowScore": Score}
NODE_DISPLAY_NAME_MAPPINGS = {"CaflowEnlarge": "CAFLOW: enlarge", "CaflowScore": "CAFLOW: score"}
