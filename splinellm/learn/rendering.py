"""Texts made from templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def render(
    template: str, /, *filters: Callable[..., Any], package: str = "splinellm.learn", **facts: Any
) -> str:
    """Fill in a template.

    Parameters
    ----------
    template : str
        File name. In ``.html.j2``, what is filled in is escaped.
    *filters : callable
        What the template calls by their names, without the leading underscore.
    package : str
        Whose folder ``templates`` it is in.
    **facts
        What it is about; a name that is not among them is an error.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {one.__name__.lstrip("_"): one for one in filters}
    return environment.get_template(template).render(facts)
