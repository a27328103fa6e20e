"""Lighthouse's rules that depend on the pages alone. Performance: ``make lighthouse``."""

from __future__ import annotations

import pytest

from tests.support.merchant import Merchant
from tests.support.stack import Stack
from tools import lighthouse


@pytest.mark.timeout(300)  # the first time it installs the pinned packages
def test_every_page_has_full_marks(stack: Stack, merchant: Merchant) -> None:
    merchant.sign_in()
    cookie = f"omnifund_session={merchant.cookies['omnifund_session']}"
    # As a phone: axe looks at every page at both widths.
    pages = [page for page in lighthouse.every_page(stack.url, cookie) if page.preset == "mobile"]
    for page, result in zip(pages, lighthouse.audit(pages, lighthouse.RULES), strict=True):
        assert result.address == page.url
        assert result.scores == dict.fromkeys(lighthouse.RULES, 100), (page, result.wanting)
