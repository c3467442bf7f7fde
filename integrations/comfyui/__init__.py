"""Nodes of ComfyUI, which reads these names when it starts."""

from .nodes import Enlarge, Score

NODE_CLASS_MAPPINGS = {"CaflowEnlarge": Enlarge, "CaflowScore": Score}
NODE_DISPLAY_NAME_MAPPINGS = {"CaflowEnlarge": "CAFLOW: enlarge", "CaflowScore": "CAFLOW: score"}
