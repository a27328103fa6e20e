"""docs/five-minutes.md, followed in a browser: each answer stands where the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import allow, follow, start_sign_in
from tests.support.stack import Stack

PAGE = (Path(__file__).parents[2] / "docs" / "five-minutes.md").read_text()


def named(text: str) -> str:
    """Return a word of the script, which has to be in it as it is looked for here."""
    assert text in PAGE, text
    return text


@pytest.mark.timeout(180)
@pytest.mark.expects_console_errors
def test_each_answer_is_where_the_script_says(page: Page, stack: Stack) -> None:
    main = page.get_by_role("main")
    # 1. Sign in.
    start_sign_in(page, stack)
    follow(page.get_by_role("button", name=named("Allow")))
    follow(page.get_by_role("link", name=named("Read them one by one")))
    titles = page.locator(".message h3").all_inner_texts()
    assert titles[1] == named("You sign in at OmniFund and choose Allow or Deny")
    assert titles[-1] == named("The app exchanges the code for tokens")

    # 2. Open a check.
    page.get_by_text(named("The state was issued to this browser")).click()
    expect(main.get_by_text("an attacker could send you a link")).to_be_visible()
    lines = main.locator("pre:visible")
    expect(lines).to_have_attribute("aria-label", re.compile("^omnifund/authorization.py around"))
    assert all(
        place.startswith(("omnifund/", "web/sessions.py"))
        for place in page.locator(".place").all_inner_texts()
    )

    # 3. Place the thief.
    expect(main.get_by_role("heading", name=named("Place the thief"))).to_be_visible()
    verdicts = page.locator(".verdicts li:visible")
    for loss, worth in {
        named("a dump of Redis"): "Worth nothing.",
        named("this app's log"): "Worth nothing.",
        named("your session cookie"): "He is you, until you sign out",
        named("both tokens"): "He reads your data until the access token expires",
    }.items():
        page.get_by_label(loss).check()
        expect(verdicts.first).to_contain_text(worth)
        page.get_by_label(loss).uncheck()
    page.get_by_label(named("both tokens")).check()
    page.get_by_label(named("the client secret")).check()
    expect(verdicts.last).to_contain_text("He has the connection.")

    # 4. Step through a sign-in.
    page.get_by_role("link", name=named("Step through a sign-in")).click()
    for stops in (
        "a callback that an attacker has started",
        "deliver your code to the attacker's own",
    ):
        expect(main.get_by_text(stops)).to_be_visible()
    page.get_by_role("button", name=named("Send to OmniFund")).click()
    allow(page)
    page.get_by_role("button", name=named("Hand it to the app")).click()
    for stops in ("has only the code doesn't have it", "not an attacker who found a code"):
        expect(main.get_by_text(stops)).to_be_visible()
    page.get_by_label(f"{named('Leave out')} code_verifier").check()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(main.get_by_role("heading", name=named("OmniFund objected"))).to_be_visible()
    page.get_by_label("Leave out code_verifier").uncheck()
    page.get_by_role("button", name=named("Send it again")).click()
    expect(main.get_by_role("heading", name=named("Nobody objected"))).to_be_visible()
    expect(main.get_by_text("Its holder needs nothing else")).to_be_visible()

    # 5. Let the token expire.
    page.get_by_role("link", name="Lab").click()
    page.get_by_role("button", name=named("Expire the token")).click()
    expect(page.get_by_role("row")).to_have_count(31)
    page.get_by_role("link", name="Lab", exact=True).click()
    seen = page.locator("#access_token_expired .evidence")
    expect(seen).to_contain_text(named("API 401, 1 refresh, API 200"))

    # 6. Deny.
    page.get_by_role("button", name=named("Deny access")).click()
    allow(page)
    expect(page).to_have_url(re.compile("/callback"))
    expect(main).to_contain_text("You're still signed in.")
