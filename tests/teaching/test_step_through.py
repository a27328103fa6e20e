"""Step through a sign-in: every objection is that of the server or the rule that objects."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urljoin

import pytest

from app import create_app
from demo.step_through import CODE_SECONDS, PARAMETERS
from tests.support.browsing import Form, Page, forms, query_of
from tests.support.merchant import Merchant
from tests.support.stack import Stack, app_settings, running_stack

START = "/inspector/step-through"


def verdict(page: Page) -> tuple[str, str, str]:
    """Who objected, why, and by which clause."""
    found = re.search(r'<h2 id="verdict">(.*?)</h2>(.*?)</section>', page.text, re.DOTALL)
    assert found is not None, page
    clause = re.search(r'<span class="clause"><a [^>]*>([^<]+)</a>', found[2].partition("</p>")[0])
    reason = re.search(r"<strong>(.*?)</strong>", found[2].partition("</p>")[0])
    return found[1], unescape(reason[1]) if reason else "", clause[1] if clause else ""


def form(page: Page, step: str) -> Form:
    """The form of a step, with nothing left out."""
    (found,) = (each for each in forms(page) if each.action == f"{START}/{step}")
    found.fields.pop("leave_out", None)
    return found


def send(merchant: Merchant, page: Page, step: str, *left_out: str, **changes: str) -> Page:
    """Send the form of a step; ``changes``: what is typed instead, by parameter."""
    found = form(page, step)
    data = [*(found.fields | {f"p.{k}": v for k, v in changes.items()}).items()]
    data += [("leave_out", name) for name in left_out]
    return merchant.post(found.url, data)


def arrive(merchant: Merchant, **changes: str) -> Page:
    """Send the first message, sign in, and return the page that has the callback."""
    sent = send(merchant, merchant.get(START), "authorize", **changes)
    assert sent.status_code == 303, sent
    back = merchant.get(merchant.authorize_at(sent.headers["Location"]))
    assert back.headers["Location"] == f"{START}/callback", back
    return merchant.get(back.headers["Location"])


def accepted(merchant: Merchant) -> Page:
    """Return the page that halts before the token request."""
    page = send(merchant, arrive(merchant), "callback")
    assert verdict(page)[0] == "The app accepted the callback"
    return page


def test_untouched_every_message_is_accepted(merchant: Merchant) -> None:
    """L22"""
    page = send(merchant, accepted(merchant), "token", client_secret="real")
    assert verdict(page)[0] == "Nobody objected"
    page = send(merchant, page, "api", access_token="real")
    assert verdict(page)[0] == "Nobody objected"
    assert "HTTP 200" in page.text
    assert "hydra:totalItems" in page.text


def test_each_field_says_what_it_stops(merchant: Merchant) -> None:
    """L22"""
    first = merchant.get(START)
    for page, step in ((first, "authorize"), (accepted(merchant), "token")):
        names = {name[2:] for name in form(page, step).fields if name.startswith("p.")}
        assert names | {"client_secret"} == set(PARAMETERS[step]) | {"client_secret"}
        for name in names:
            assert PARAMETERS[step][name].stops in unescape(page.text)


@pytest.mark.parametrize(
    ("left_out", "changes", "objection"),
    [
        ((), {"state": "x" * 43}, "RFC 6749 §10.12"),
        (("state",), {}, "RFC 6749 §4.1.2"),
        (("code",), {}, "RFC 6749 §4.1.2"),
        ((), {"code": "no code?"}, "RFC 6749 §4.1.2"),
    ],
)
def test_the_app_objects_to_a_callback_that_was_tampered_with(
    merchant: Merchant, left_out: tuple[str, ...], changes: dict[str, str], objection: str
) -> None:
    """L22"""
    page = send(merchant, arrive(merchant), "callback", *left_out, **changes)
    who, _, clause = verdict(page)
    assert (who, clause) == ("This app objected", objection)
    assert "<strong>Refused:</strong>" in page.text
    # What was typed is still there, and correcting it leads on.
    page = send(merchant, merchant.get(f"{START}/callback"), "callback")
    assert verdict(page)[0] == "The app accepted the callback"


def test_a_parameter_may_be_added(merchant: Merchant) -> None:
    """L22"""
    page = arrive(merchant)
    found = form(page, "callback")
    page = merchant.post(found.url, {**found.fields, "more": "code=another"})
    assert verdict(page)[::2] == ("This app objected", "RFC 6749 §3.1")


@pytest.mark.parametrize(
    ("left_out", "changes", "clause"),
    [
        (("code_verifier",), {}, "RFC 7636 §4.6"),
        ((), {"code_verifier": "y" * 43}, "RFC 7636 §4.6"),
        ((), {"redirect_uri": "http://localhost/other"}, "RFC 6749 §4.1.3"),
        ((), {"code": "a-code-of-another-person"}, "RFC 6749 §5.2"),
        ((), {"client_secret": "altered"}, "RFC 6749 §5.2"),
        (("client_secret",), {}, "RFC 6749 §5.2"),
        ((), {"grant_type": "magic"}, "RFC 6749 §5.2"),
    ],
)
def test_omnifund_objects_to_a_token_request_that_was_tampered_with(
    merchant: Merchant, left_out: tuple[str, ...], changes: dict[str, str], clause: str
) -> None:
    """L22"""
    fields = {"client_secret": "real", **changes}
    page = send(merchant, accepted(merchant), "token", *left_out, **fields)
    who, reason, by = verdict(page)
    assert (who, by) == ("OmniFund objected", clause)
    assert reason
    assert "HTTP 400" in page.text
    for name in left_out:
        assert re.search(rf'value="{name}" checked', page.text)


def test_a_code_is_accepted_once(merchant: Merchant) -> None:
    """L22"""
    page = send(merchant, accepted(merchant), "token", client_secret="real")
    page = send(merchant, page, "token", client_secret="real")
    assert verdict(page)[::2] == ("OmniFund objected", "RFC 6749 §5.2")


def test_a_late_code_is_refused_and_the_fuse_has_burned(merchant: Merchant, stack: Stack) -> None:
    """L22"""
    page = accepted(merchant)
    assert 'begin="-0.0s"' in page.text
    stack.clock.advance(CODE_SECONDS - 10)
    halfway = send(merchant, merchant.get(f"{START}/callback"), "callback")
    assert 'begin="-20.0s"' in halfway.text
    stack.clock.advance(12)
    page = send(merchant, page, "token", client_secret="real")
    who, reason, _ = verdict(page)
    assert (who, "expired" in reason) == ("OmniFund objected", True)
    assert "<animate" not in page.text
    assert "The code is 32 seconds old." in page.text


def test_an_altered_access_token_is_refused(merchant: Merchant) -> None:
    """L22"""
    page = send(merchant, accepted(merchant), "token", client_secret="real")
    page = send(merchant, page, "api", access_token="altered")
    assert verdict(page)[::2] == ("OmniFund objected", "RFC 6750 §3.1")
    page = send(merchant, page, "api", "access_token", access_token="real")
    assert verdict(page)[::2] == ("OmniFund objected", "RFC 6750 §3.1")


@pytest.mark.parametrize(
    "more", ["access_token=", "access_token=%C3%A9", "access_token=a%0D%0AX:1"]
)
def test_what_cannot_be_sent_as_an_access_token_is_the_apps_objection(
    merchant: Merchant, more: str
) -> None:
    """L22"""
    page = send(merchant, accepted(merchant), "token", client_secret="real")
    found = form(page, "api")
    page = merchant.post(found.url, found.fields | {"p.access_token": "real", "more": more})
    reason = "This cannot be sent as an access token"
    assert verdict(page) == ("This app objected", reason, "RFC 6750 §2.1")


def test_an_api_response_that_the_app_cannot_read_is_the_apps_objection(
    merchant: Merchant, stack: Stack
) -> None:
    """L22"""
    page = send(merchant, accepted(merchant), "token", client_secret="real")
    assert merchant.post(f"{stack.omnifund_url}/faults", {"id": "api_odd_json"}).status_code == 201
    page = send(merchant, page, "api", access_token="real")
    assert verdict(page)[0] == "This app objected"
    assert "HTTP 200" in page.text


def test_a_denial_is_told(merchant: Merchant) -> None:
    """L22"""
    sent = send(merchant, merchant.get(START), "authorize")
    back = merchant.get(merchant.authorize_at(sent.headers["Location"], "rejected"))
    page = send(merchant, merchant.get(back.headers["Location"]), "callback")
    assert verdict(page)[::2] == ("This app objected", "RFC 6749 §4.1.2")


def test_a_state_that_was_changed_on_the_way_out_comes_back_and_is_refused(
    merchant: Merchant,
) -> None:
    """L22"""
    page = send(merchant, arrive(merchant, state="z" * 43), "callback")
    assert verdict(page)[::2] == ("This app objected", "RFC 6749 §10.12")


def test_the_visitors_session_is_left_alone(merchant: Merchant) -> None:
    """L22: a session goes on, and a sign-in that begins as usual is not halted."""
    merchant.sign_in()
    session, tokens = merchant.session_id, merchant.stored
    send(merchant, accepted(merchant), "token", client_secret="real")
    assert (merchant.session_id, merchant.stored) == (session, tokens)
    merchant.get(START)
    assert merchant.sign_in().headers["Location"] == "/dashboard"
    assert merchant.session_id != session


def test_a_sign_in_from_the_lab_is_not_halted(merchant: Merchant) -> None:
    """L22"""
    merchant.get(START)
    started = merchant.press("/lab", "/lab/deny")
    callback = merchant.authorize_at(urljoin(merchant.site, started.headers["Location"]))
    assert merchant.get(callback).headers.get("Location") != f"{START}/callback"


def test_no_page_shows_the_client_secret_or_a_token(merchant: Merchant, stack: Stack) -> None:
    """L22, D2"""
    pages = [merchant.get(START), arrive(merchant)]
    pages.append(send(merchant, pages[-1], "callback"))
    pages.append(send(merchant, pages[-1], "token", client_secret="real"))
    pages.append(send(merchant, pages[-1], "api", access_token="real"))
    secret = stack.settings.omnifund_client_secret.get_secret_value()
    assert not any(secret in page.text for page in pages)
    assert '"p.access_token"' in pages[3].text
    assert not any(re.search(r"[\w-]{86}", page.text) for page in pages[4:])


TYPED = [
    "<script>alert(1)</script>",
    "a\r\nSet-Cookie: planted=1",
    "\x00\x1b[31m",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "x" * 20_000,
    "//evil.example.com/",
    "&code=1&state=2",
]


@pytest.mark.parametrize("text", TYPED, ids=range(len(TYPED)))
def test_anything_may_be_typed_and_goes_to_local_omnifund_alone(
    merchant: Merchant, stack: Stack, text: str
) -> None:
    """L22"""
    sent = send(merchant, merchant.get(START), "authorize", client_id=text, redirect_uri=text)
    assert sent.status_code == 303
    assert sent.headers["Location"].startswith(f"{stack.omnifund_url}/oauth/v2/auth?")
    assert query_of(sent.headers["Location"])["client_id"] == text
    page = arrive(merchant)
    assert send(merchant, page, "callback", state=text).status_code == 200
    page = send(merchant, page, "callback")
    page = send(merchant, page, "token", code=text, client_secret=text)
    assert verdict(page)[0] == "OmniFund objected"
    assert "planted" not in merchant.cookies
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("step", ["callback", "token", "api"])
def test_without_a_beginning_each_step_leads_to_it(merchant: Merchant, step: str) -> None:
    token = form(merchant.get(START), "authorize").fields["csrf_token"]
    merchant.cookies.set("omnifund_step", "made-up", domain="localhost.local", path="/")
    page = merchant.post(f"{START}/{step}", {"csrf_token": token})
    assert page.headers["Location"] == START
    if step == "callback":
        assert merchant.get(f"{START}/{step}").headers["Location"] == START


def test_another_tab_does_not_turn_it_into_a_real_sign_in(merchant: Merchant) -> None:
    """Each tab gets its own callback, and the session stays what it was."""
    merchant.sign_in()
    before = merchant.session_id
    first, second = (
        send(merchant, merchant.get(START), "authorize").headers["Location"] for _ in range(2)
    )
    merchant.get("/login")
    for url in (first, second):
        back = merchant.get(merchant.authorize_at(url))
        assert back.headers["Location"] == f"{START}/callback", back
        page = send(merchant, merchant.get(back.headers["Location"]), "callback")
        assert verdict(page)[0] == "The app accepted the callback"
    assert merchant.session_id == before


def test_the_labs_callback_is_not_halted(merchant: Merchant) -> None:
    """The forged state is no sign-in's, so nothing else tells it from a state typed here."""
    merchant.get(START)
    page = merchant.get(merchant.press("/lab", "/lab/state_tampered").headers["Location"])
    assert page.status_code == 400
    assert "The state is forged" in page.text


def test_it_works_without_the_inspector_too(redis_url: str) -> None:
    """L22"""
    with running_stack(redis_url, flow_inspector=False) as stack:
        page = send(stack.person(), stack.person().get(START), "authorize")
        assert page.headers["Location"] == f"/login?next={START}"  # another browser's form
        merchant = stack.person()
        assert verdict(send(merchant, accepted(merchant), "token", client_secret="real"))[0] == (
            "Nobody objected"
        )


@pytest.mark.parametrize("path", [START, f"{START}/callback", f"{START}/token", f"{START}/api"])
def test_outside_local_there_is_no_stepping_through(redis_url: str, path: str) -> None:
    """L22"""
    settings = app_settings(
        redis_url,
        omnifund_environment="sandbox",
        flow_inspector=True,
        omnifund_client_id="1_x",
        omnifund_client_secret="made-up-secret-made-up",
        omnifund_redirect_uri="https://app.example.com/callback",
    )
    client = create_app(settings).test_client()
    assert client.get(path).status_code == 404
    assert client.post(path).status_code in (400, 404)
