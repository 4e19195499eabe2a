"""The paths of A1111's API."""

from typing import Final

from stablediffusiond.gateway.a1111 import catalogue, drawing, png_info, progress

ROUTES: Final = [*drawing.ROUTES, *progress.ROUTES, *png_info.ROUTES, *catalogue.ROUTES]
