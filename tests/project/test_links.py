"""Links in the documents lead to files of this checkout, and to headings in them."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [
    document
    for pattern in ("*.md", "docs/**/*.md", "stablediffusiond/**/*.md", "tools/**/*.md")
    for document in sorted(CHECKOUT.glob(pattern))
]


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(CHECKOUT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        linked = document.parent / path if path else document
        if ":" not in target and (not linked.exists() or (anchor and anchor not in anchors(linked))):
            broken.append(target)
    assert broken == []
