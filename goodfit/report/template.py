"""The templates of all pages: values are escaped and made visible, and the page's policy knows its own style alone."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import jinja2

from goodfit.visible import visible

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def template(name: str, **filters: Any) -> jinja2.Template:
    """A page's template, ready to be rendered. filters: functions of its own.

    ``{{ policy }}`` is a content security policy under which nothing is loaded but images within the page, and no style
    or script works but those that stand in the template's own text, told by their SHA-256 (CSP level 3): what data
    brings into the page could neither fetch nor run anything even if the escaping failed.
    """
    loader = jinja2.PackageLoader("goodfit", "report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(filters)
    environment.globals["policy"] = policy(loader.get_source(environment, name)[0])
    return environment.get_template(name)


def policy(source: str) -> str:
    """The content security policy of a page that is made from this template text."""
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, text in _INLINE.findall(source):
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    allowed = "; ".join(f"{kind}-src {' '.join(found) or repr('none')}" for kind, found in hashes.items())
    return f"default-src 'none'; img-src data:; {allowed}; base-uri 'none'; form-action 'none'"
