"""``/inspector``: what it shows, to whom, and what it never shows."""

from __future__ import annotations

import ast
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import doctor
from demo import conversation, cookies, rules, storage
from demo.conversation import MAX_LINES
from demo.failures import CARDS
from demo.recorder import ROOT, Recording
from demo.storage import FAILED_SECONDS, MAX_COOKIE_LENGTH, MAX_RECORDINGS
from omnifund.client import OmniFund
from tests.support.browsing import PASSWORD, query_of
from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig
from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer
from tests.teaching.recordings import checks, recordings, steps


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as app:
        yield app


def test_a_sign_in_is_recorded_from_the_start_to_the_new_session(merchant: Merchant) -> None:
    merchant.sign_in()
    (recording,) = recordings(merchant)
    assert steps(recording) == ["login", "authorize", "callback", "authorization_code"]
    assert recording["problem"] == ""
    login, authorize, callback, exchange = recording["exchanges"]
    assert login["status"] == 302
    assert checks(login) == ["safe_next", "new_state", "new_code_verifier"]
    assert authorize["fields"]["code_challenge_method"] == "S256"
    assert checks(callback) == [
        *("require_state", "require_own_request", "require_recent"),
        *("require_no_repetition", "require_code", "claim", "start"),
    ]
    assert callback["status"] == 303
    assert re.fullmatch(r"omnifund_attempt_[\w-]+", callback["headers"]["Cookie"])
    assert checks(exchange)[:3] == ["exchange_code", "add_code_verifier", "add_credentials"]
    assert {"require_bearer_type", "read_lifetime"} <= set(checks(exchange))
    assert not any(
        checks(each, outcome)
        for each in recording["exchanges"]
        for outcome in ("refused", "not reached")
    )
    assert exchange["status"] == 200
    assert exchange["response_fields"]["expires_in"] == "3600"
    # The same secret has the same hash wherever it appears.
    assert authorize["fields"]["state"] == callback["fields"]["state"]
    assert callback["fields"]["code"] == exchange["fields"]["code"]


def test_the_page_that_a_sign_in_leads_to_is_shown_whole(merchant: Merchant) -> None:
    merchant.sign_in("/customers%3Fpage%3D2%26from%3Da%2Bb")
    login = recordings(merchant)[0]["exchanges"][0]
    assert login["fields"] == {"next": "/customers?page=2&from=a+b"}


def test_api_calls_and_refreshes_appear_and_both_tokens_have_changed(merchant: Merchant) -> None:
    merchant.sign_in()
    merchant.get("/customers")
    merchant.press("/dashboard", "/token/refresh")
    found = recordings(merchant)
    assert steps(found[0])[:2] == ["refresh", "refresh_token"]
    before_after = found[0]["changed"]
    assert set(before_after) == {"access_token", "refresh_token"}
    assert all(before != after for before, after in before_after.values())
    assert ["page", "api"] in [steps(each) for each in found]
    page = merchant.get(f"/inspector?show={found[0]['id']}").text
    assert "Before and after the refresh" in page
    assert page.count(">yes<") == 2


def test_an_automatic_refresh_is_recorded_with_its_page(merchant: Merchant) -> None:
    merchant.sign_in()
    merchant.at.clock.advance(3600)
    merchant.get("/customers")
    assert steps(recordings(merchant)[0]) == ["page", "refresh_token", "api"]


@pytest.mark.parametrize(
    ("answer", "problem"), [("rejected", "AccessDenied"), ("accepted", "InvalidGrant")]
)
def test_a_failed_sign_in_can_be_looked_at_without_a_session(
    merchant: Merchant, answer: str, problem: str
) -> None:
    callback = merchant.authorize(button=answer)
    if problem == "InvalidGrant":
        merchant.at.clock.advance(60)
    assert merchant.get(callback).status_code in (400, 403)
    page = merchant.get("/inspector")
    assert page.status_code == 200
    assert problem in page.text
    assert recordings(merchant)[0]["problem"].startswith(problem)
    # Nobody else sees it, and it does not stay for ever.
    assert Merchant(merchant.at).get("/inspector").status_code == 302
    merchant.at.clock.advance(FAILED_SECONDS + 1)
    assert merchant.get("/inspector").status_code == 302


def test_a_wrong_password_is_recorded_without_the_password(merchant: Merchant) -> None:
    """G6"""
    fields = {"username": "somebody-else", "password": "wrong-pw-canary"}
    merchant.press("/login/password", "/login/password", **fields)
    page = merchant.get("/inspector")
    assert page.status_code == 200
    assert not any(value in page.text for value in fields.values())


def test_a_visitor_who_is_not_signed_in_is_led_to_the_sign_in_and_back(merchant: Merchant) -> None:
    answer = merchant.get("/inspector")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=/inspector"


def test_it_is_off_outside_local_and_then_leaves_nothing_behind(redis_url: str) -> None:
    with running_stack(redis_url, flow_inspector=False) as stack:
        merchant = Merchant(stack)
        for path in ("/inspector", "/inspector/recordings.json"):
            assert merchant.get(path).status_code == 404
        merchant.get(merchant.authorize(button="rejected"))
        assert merchant.cookies.get("omnifund_trace") is None
        merchant.sign_in()
        merchant.get("/customers")
        assert merchant.get("/inspector").status_code == 404
        assert "Inspector" not in merchant.get("/dashboard").text
        with redis.Redis.from_url(redis_url) as client:
            assert len(client.keys("omnifund:{*")) == 2


def test_no_secret_is_on_the_page_in_the_download_or_in_the_cookie(
    stack: Stack, merchant: Merchant
) -> None:
    """D1, D3"""
    denied = merchant.authorize(button="rejected")
    merchant.get(denied)
    cookie = merchant.cookies["omnifund_trace"]
    shown = merchant.get("/inspector").text + merchant.get("/inspector/recordings.json").text
    callback = merchant.authorize()
    merchant.get(callback)
    merchant.get("/customers")
    merchant.press("/dashboard", "/token/refresh")
    for recording in recordings(merchant):
        shown += merchant.get(f"/inspector?show={recording['id']}").text
    shown += merchant.get("/inspector/recordings.json").text
    handle = merchant.cookies["omnifund_session"]
    token = stack.app.extensions["omnifund"].tokens.load(handle).token
    customer = merchant.get("/customers").text
    names = re.findall(r"<th scope=\"row\"[^>]*>\s*(\w{5,})", customer)
    assert names
    for secret in (
        *(token.access_token, token.refresh_token, handle, PASSWORD),
        *(query_of(callback)["code"], query_of(callback)["state"], query_of(denied)["state"]),
        stack.settings.omnifund_client_secret.get_secret_value(),
        stack.settings.secret_key.get_secret_value(),
        *names,
    ):
        assert secret not in shown
        assert secret not in cookie


def test_one_visitor_never_sees_anothers_recording(stack: Stack) -> None:
    """D6"""
    one, other = Merchant(stack), Merchant(stack)
    one.sign_in()
    other.sign_in()
    one.get("/customers")
    ids = {each["id"] for each in recordings(one)}
    assert not ids & {each["id"] for each in recordings(other)}
    assert not any(id_ in other.get(f"/inspector?show={id_}").text for id_ in ids)


def test_it_is_bounded_and_the_sign_in_stays(running: Rig) -> None:
    merchant = running.merchant()
    for _ in range(MAX_RECORDINGS + 5):
        merchant.get("/customers")
    found = recordings(merchant)
    assert len(found) == MAX_RECORDINGS
    assert "authorization_code" in steps(found[-1])


def test_its_cookie_is_bounded(merchant: Merchant) -> None:
    """A5"""
    state = query_of(merchant.authorize())["state"]
    merchant.get(f"/callback?state={state}&error=x&error_description={'<long> ' * 2000}")
    cookie = merchant.cookies["omnifund_trace"]
    assert len(cookie) <= MAX_COOKIE_LENGTH
    assert "AuthorizationErrorResponse" in merchant.get("/inspector").text


def test_signing_out_removes_it(merchant: Merchant) -> None:
    """F3"""
    merchant.get(merchant.authorize(button="rejected"))
    merchant.sign_in()
    merchant.get("/customers")
    merchant.press("/dashboard", "/logout")
    assert merchant.get("/inspector").status_code == 302
    with redis.Redis.from_url(merchant.at.redis_url) as client:
        assert client.keys("omnifund:{*") == []


def test_an_error_page_links_to_its_recording_if_there_is_one(
    merchant: Merchant,
) -> None:
    merchant.sign_in()
    merchant.at.clock.advance(3600)
    faults = f"{merchant.at.omnifund_url}/faults"
    merchant.post(faults, data={"id": "token_500", "scope": "all", "times": "0"})
    page = merchant.get("/customers")
    assert page.status_code == 503
    assert f'href="/inspector?show={page.headers["X-Request-ID"]}"' in page.text
    # A refresh that has just failed is not tried again at once.
    page = merchant.get("/customers")
    assert page.status_code == 503
    assert "a refresh has just failed" in page.text
    assert "/inspector?show=" not in page.text


@pytest.mark.parametrize("value", [b"", b"x", b"\x80\x04.", b"cos\nsystem\n(S'true'\ntR."])
def test_a_recording_that_was_altered_is_left_out(merchant: Merchant, value: bytes) -> None:
    """D4"""
    merchant.sign_in()
    with redis.Redis.from_url(merchant.at.redis_url) as client:
        (name,) = client.keys("omnifund:{*:trace")
        client.lset(name, 0, value)
    assert recordings(merchant) == []
    assert merchant.get("/inspector").status_code == 200


@pytest.mark.parametrize("value", ["", "x", "é", "A" * 6000])
def test_a_cookie_that_was_altered_is_left_out(merchant: Merchant, value: str) -> None:
    """D4"""
    header = {"Cookie": f"omnifund_trace={value}".encode()}
    assert merchant.get("/inspector", headers=header).status_code == 302


def test_the_source_lines_are_those_that_ran(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get("/inspector").text
    places = set(re.findall(r"<figcaption><code>([\w/.]+):(\d+)</code>", page))
    assert {file for file, _ in places} >= {"omnifund/oauth.py", "web/auth.py"}
    for file, line in places:
        source = (ROOT / file).read_text().splitlines()[int(line) - 1]
        assert source.strip(), f"{file}:{line} is empty"
    names = {Path(file).parts[0] for file, _ in places}
    assert names <= {"omnifund", "web"}


def test_each_check_names_a_line_of_its_function_that_decides(merchant: Merchant) -> None:
    """Neither the line of its name, nor a blank line, nor one of its docstring."""
    merchant.sign_in()
    for recording in recordings(merchant):
        for exchange in recording["exchanges"]:
            places = [(check["file"], check["line"]) for check in exchange["checks"]]
            assert len(set(places)) == len(places)
            for check in exchange["checks"]:
                lines = (ROOT / check["file"]).read_text().splitlines()
                before = [line for line in lines[: check["line"]] if "def " in line]
                assert f"def {check['function']}(" in before[-1]
                assert re.match(
                    r" +(if|return|for|\w+[.(,]|\w+ =|yield|with|try)", lines[check["line"] - 1]
                )


def test_the_code_of_a_message_is_the_enclosing_function_without_its_docstring(
    merchant: Merchant,
) -> None:
    merchant.sign_in()
    page = merchant.get("/inspector").text
    sources = re.findall(r'<figure class="source">.*?</figure>', page, re.DOTALL)
    assert len(sources) > 10
    for source in sources:
        lines = re.findall(
            r'<span class="line( here)?"><span class="number">\d+</span>(.*)', source
        )
        assert 1 <= len(lines) <= MAX_LINES
        assert [here for here, _ in lines].count(" here") == 1
        assert '"""' not in source.replace("&#34;", '"')


def test_the_files_that_are_shown_are_read_once_and_for_the_download_not_at_all(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing takes longer than all else, and the race of five tabs downloads its recordings."""
    merchant.sign_in()
    parsed: list[str] = []
    parse = rules.parse

    def noting(text: str) -> ast.Module:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(rules, "parse", noting)
    conversation._functions.cache_clear()
    for function in rules.RULES.values():
        rules.describe(function)  # Once in each process.
    parsed.clear()
    assert recordings(merchant)
    assert parsed == []
    for _ in range(2):
        merchant.get("/inspector")
    assert len(parsed) == len(set(parsed)) > 1


def test_every_check_says_what_happens_without_it_and_where_to_try_that(
    merchant: Merchant,
) -> None:
    assert {name.partition(".")[2] for name in rules.RULES} == set(rules.WITHOUT)
    for without in rules.WITHOUT.values():
        assert not without.card or without.card in CARDS
    merchant.sign_in()
    page = merchant.get("/inspector").text
    assert page.count("<b>Without it,</b>") == page.count('<code class="place">')
    assert 'href="/lab/state_tampered">Try it</a>' in page


def test_every_clause_is_a_link_to_its_section(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get("/inspector").text
    address = 'href="https://www.rfc-editor.org/rfc/rfc6749#section-10.12"'
    assert f'<a {address} rel="noreferrer">§10.12</a>' in page
    assert f'<a {address} rel="noreferrer">RFC 6749 §10.12</a>' in page
    steps = [step.clause for step in conversation.STEPS.values()]
    for clause in [*steps, *(rules.describe(each).clause for each in rules.RULES.values())]:
        parts = [part for part, _ in rules.references(clause)]
        assert ", ".join(parts) == clause


def test_commands_to_copy_hold_variables_in_place_of_secrets(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get("/inspector").text
    assert "code_verifier=$CODE_VERIFIER" in page
    assert "client_secret=$OMNIFUND_CLIENT_SECRET" in page
    assert "http --form POST" in page.replace(" \\\n  ", " ")


def test_who_holds_what_names_no_contents(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get("/inspector").text
    with redis.Redis.from_url(merchant.at.redis_url) as client:
        for key in client.keys("omnifund:{*"):
            assert key.decode() in page
    assert "omnifund_session" in page
    assert "HttpOnly, SameSite=Lax, Path=/" in page


def restricted(valkey: ValkeyServer, *, without: str = "") -> str:
    """Return the address of Redis for a user with the documented rights, ``without`` one."""
    text = (ROOT / "docs" / "deploying.md").read_text()
    (line,) = [line for line in text.splitlines() if "`ACL SETUSER`" in line]
    rights = set(re.findall("`([A-Z]+)`", line.partition(". ")[0])) - {without}
    with valkey.client() as client:
        user = ("SETUSER", "app", "reset", "on", ">pw", "~omnifund:*", *(f"+{r}" for r in rights))
        client.execute_command("ACL", *user)
    return f"redis://app:pw@127.0.0.1:{valkey.port}"


def test_the_documented_rights_in_redis_are_enough(redis_url: str, valkey: ValkeyServer) -> None:
    """K27"""
    assert redis_url
    with rig(restricted(valkey)) as running:
        assert running.merchant().get("/readyz").json() == {"status": "ready"}
        merchant = running.merchant()
        merchant.get("/customers")
        page = merchant.get("/inspector")
        assert page.status_code == 200, page
        assert len(recordings(merchant)) == 2
        # How much memory that takes, this user may not know.
        assert re.search(r':trace</code> <span class="soft">expires in \d', page.text)
        with valkey.client() as client:
            client.delete(*client.keys("*:trace"))
        assert ":trace</code>" not in merchant.get("/inspector").text


@pytest.mark.parametrize("right", ["LPUSH", "RPUSH", "RPOP", "LTRIM", "LRANGE", "PEXPIRE"])
def test_a_right_that_recordings_need_is_named(
    redis_url: str, valkey: ValkeyServer, right: str
) -> None:
    """K27"""
    assert redis_url
    with rig(restricted(valkey, without=right)) as running:
        answer = running.merchant().get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reason"] == f"Redis does not permit {right}"
        with running.app.app_context():
            found = {check.id: check.what for check in doctor.examine(lambda: running.settings)}
        assert found["redis"] == f"Redis does not permit this user {right}."


def test_the_download_is_a_file_and_says_where_it_is_from(merchant: Merchant) -> None:
    merchant.sign_in()
    answer = merchant.get("/inspector/recordings.json")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert json.loads(answer.text)["environment"] == "local"


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xff", *map(zlib.compress, (b"", b"[]", b'"\xff"', b'{"\x80": 1}', b'{"at":' * 9000))],
)
def test_a_recording_that_cannot_be_read_is_none(stack: Stack, packed: bytes) -> None:
    """Of another version of this app, or altered: the page is shown without it."""
    with stack.app.app_context():
        client: OmniFund = stack.app.extensions["omnifund"]
        sealed = client.cipher.seal(packed, secret="", name="trace")
        assert cookies.unseal(sealed, Recording, name="trace") is None


def test_the_page_after_a_sign_in_offers_its_messages_once(merchant: Merchant) -> None:
    merchant.sign_in()
    first = merchant.get("/dashboard").text
    (recording,) = recordings(merchant)
    link = f'<a href="/inspector?show={recording["id"]}">Read them one by one</a>'
    assert "You were signed in with 8 messages, 6 of them in your browser's view." in first
    assert link in first
    assert link not in merchant.get("/dashboard").text


@pytest.mark.parametrize("value", ["x", "a" * 16 + ".8", "<b>.1.1", "a" * 16 + ".999.1", "é"])
def test_a_planted_number_of_messages_is_not_shown(merchant: Merchant, value: str) -> None:
    merchant.sign_in()
    merchant.get("/dashboard")
    page = merchant.get("/dashboard", headers={"Cookie": f"omnifund_lesson={value}".encode()})
    assert "You were signed in with" not in page.text


def test_without_a_choice_the_latest_sign_in_is_shown(merchant: Merchant) -> None:
    merchant.sign_in()
    merchant.get("/customers")
    page = merchant.get("/inspector").text
    assert '<h2 id="picture">Sign-in</h2>' in page


def test_only_what_was_measured_has_a_time(merchant: Merchant) -> None:
    """The start of a sign-in and the way to OmniFund are retold; the stay there is a bracket."""
    merchant.sign_in()
    _, _, picture = merchant.get("/inspector").text.partition('<figure class="sequence">')
    assert picture.count('class="count"') == 8
    assert picture.count('class="time"') == 4
    assert picture.count('class="time stay"') == picture.count('class="stay"') == 1


def test_the_same_secret_has_the_same_color_wherever_it_appears(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get("/inspector").text
    chips = set(re.findall(r'<span class="mark (mark-\d+)">(#[0-9a-f]{8})</span>', page))
    (recording,) = recordings(merchant)
    exchange = recording["exchanges"][-1]
    secrets = {exchange["fields"]["code"], *exchange["response_fields"].values()}
    hashes = {secret for secret in secrets if secret.startswith("#")}
    assert len(hashes) >= 3
    assert hashes <= {text for _, text in chips}
    assert len({text for _, text in chips}) == len(chips), "one color for each"


def test_a_value_that_is_no_hash_stays_text() -> None:
    assert conversation.marks("<b>#12345678</b>") == (
        '&lt;b&gt;<span class="mark mark-6">#12345678</span>&lt;/b&gt;'
    )
    assert conversation.marks("#1234567 #123456789 &#12345678;").count("mark") == 2


def test_recordings_are_listed_sign_ins_first_and_like_ones_together(
    stack: Stack, merchant: Merchant
) -> None:
    """L14: the chosen one is named, and says how long ago it was."""
    merchant.sign_in()
    for number in range(3):
        stack.clock.advance(10)
        merchant.get(f"/customers?page={number + 1}")
    merchant.get("/transactions")
    with stack.app.app_context():
        groups = conversation.listed(storage.load(merchant.session_id), stack.clock())
    assert [[each.title for each in group] for group in groups] == [
        ["Sign-in"],
        ["GET /transactions"],
        [f"GET /customers?page={number}" for number in (3, 2, 1)],
    ]
    assert [each.seconds for each in groups[2]] == [0, 10, 20]
    page = merchant.get("/inspector").text
    assert "<b>Sign-in</b> 30 seconds ago" in page
    assert "<summary>2 more</summary>" in page
