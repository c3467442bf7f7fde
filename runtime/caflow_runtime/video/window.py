"""Window that shows frames when they are done. It uses pygame, because OpenCV's headless package has no windows."""

import os
from typing import Any

import numpy as np

from caflow_runtime.errors import InputError
from caflow_runtime.image import Image

SHARE_OF_SCREEN = 0.9
UNSEEN = ("offscreen", "dummy")
"""Drivers that SDL silently chooses if there is no display."""
DRIVER_VARIABLE = "SDL_VIDEODRIVER"


class Screen:
    """Window that shows frames at their own size, or reduced to fit the screen. Use it only from the main thread."""

    def __init__(self, title: str) -> None:
        """Open the window.

        Raises:
            InputError: if pygame or a display is missing.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError:
            raise InputError("--show needs pygame: pip install 'caflow-deploy[show]'") from None
        self._pygame = pygame
        try:
            pygame.display.init()
        except pygame.error as error:
            raise InputError(f"--show requires a display, and there is none: {error}") from None
        if pygame.display.get_driver() in UNSEEN and DRIVER_VARIABLE not in os.environ:
            raise InputError("--show requires a display, and there is none: omit --show, or set DISPLAY")
        self._screen_sides = pygame.display.get_desktop_sizes()[0]
        pygame.display.set_caption(title)
        self._surface: Any = None

    def show(self, image: Image) -> bool:
        """Show (H, W, 3) uint8 RGB. Return False if the user has closed the window or pressed q or Escape."""
        pygame = self._pygame
        picture = pygame.surfarray.make_surface(np.swapaxes(image, 0, 1))
        largest = [SHARE_OF_SCREEN * side for side in self._screen_sides]
        factor = min(1.0, *(most / side for most, side in zip(largest, picture.get_size(), strict=True)))
        sides = tuple(int(factor * side) for side in picture.get_size())
        if self._surface is None or self._surface.get_size() != sides:
            self._surface = pygame.display.set_mode(sides)
        self._surface.blit(picture if factor == 1.0 else pygame.transform.smoothscale(picture, sides), (0, 0))
        pygame.display.flip()
        quits = (pygame.KEYDOWN, pygame.K_q), (pygame.KEYDOWN, pygame.K_ESCAPE)
        events = pygame.event.get()
        return not any(e.type == pygame.QUIT or (e.type, getattr(e, "key", None)) in quits for e in events)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
