"""A figure as SVG for a page that allows no style sheets but its own."""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def inline_svg(content: bytes) -> str:
    """The ``<svg>`` element of a file that matplotlib wrote, as wide as its container.

    Styles become attributes, because a content security policy may forbid ``style``; ids that
    nothing refers to are removed, and the others get a prefix, so that several figures fit into one
    page. The element has ``role="img"`` and a ``<title>``.
    """
    root = ElementTree.fromstring(content)
    prefix = f"f{hashlib.sha256(content).hexdigest()[:8]}-"
    referred: set[str] = set()
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        for entry in attributes.pop("style", "").split(";"):
            name, colon, value = entry.partition(":")
            if colon:
                attributes[name.strip()] = value.strip()
        for name, value in attributes.items():
            if name == "href" and value.startswith("#"):
                referred.add(value[1:])
                attributes[name] = f"#{prefix}{value[1:]}"
            elif match := _REFERENCE.fullmatch(value):
                referred.add(match[1])
                attributes[name] = f"url(#{prefix}{match[1]})"
        element.attrib.clear()
        element.attrib.update(attributes)
    for element in root.iter():
        own = element.attrib.pop("id", "")
        if own in referred:
            element.set("id", f"{prefix}{own}")
    del root.attrib["height"]
    root.attrib.update(
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": "100%",
            "role": "img",
            "stroke-linejoin": "round",
            "stroke-linecap": "butt",
        }
    )
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
