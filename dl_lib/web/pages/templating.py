"""Jinja2 environment of all pages: every value is escaped, and a missing one is an error."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dl_lib.utils.escaping import printable_lines

__all__ = ["render"]


def render(template: str, **values: Any) -> Markup:
    """Render a template, with escapes for control characters in texts, see `printable_lines`.

    Args:
        template: File name of the template, in the folder `templates` of the shared parts or of a page.
        values: Values by name; text is escaped, and `Markup` is not.
    """
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(f"dl_lib.web.{folder}") for folder in ("pages", "report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable_lines(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
