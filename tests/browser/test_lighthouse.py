"""Lighthouse's rules that depend on the pages alone. Performance: ``make lighthouse``."""

from __future__ import annotations

import pytest

from tests.support.merchant import Merchant
from tests.support.stack import Stack
from tools import lighthouse


@pytest.mark.timeout(300)  # the first time it installs the pinned packages
def test_the_front_page_and_the_dashboard_have_full_marks(stack: Stack, merchant: Merchant) -> None:
    merchant.sign_in()
    cookie = f"omnifund_session={merchant.cookies['omnifund_session']}"
    pages = [
        lighthouse.Page(stack.url + path, sent, preset)
        for path, sent in (("/", ""), ("/dashboard", cookie))
        for preset in lighthouse.PRESETS
    ]
    for page, result in zip(pages, lighthouse.audit(pages, lighthouse.RULES), strict=True):
        assert result.address == page.url
        assert result.scores == dict.fromkeys(lighthouse.RULES, 100), (page, result.wanting)
