"""The explorer page, in a real browser: what people see, and what documents cannot do to it."""

import json
import re
import shlex
from importlib.resources import files
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright", reason="needs playwright (extra `dev`)")
pytest.importorskip("axe_playwright_python", reason="needs playwright (extra `dev`)")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from runtime.server.browser import CHROMIUM, Visit, chromium, serving

from spladelet import Document, Index
from spladelet.server import explorer

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium; .ci/run installs Debian's"
)

QUERY = "Why does my kitten make a vibrating noise?"
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u202e ${alert(3)} {{4}}"
TEXTS = [
    ("cats", "Why Cats Purr", "A purring cat makes a steady hum when it is content.", 2015, "home"),
    (
        "strings",
        "Guitar Strings",
        "A string is pressed to shorten its vibrating part.",
        2019,
        "art",
    ),
    ("noise", "Noise", "Any noise that neighbours make at night is annoying.", 2021, "home"),
    ("snow", "", "Snow falls in winter and covers the roofs.", 2022, "out"),
    ("dough", "Why Dough Rises", "Yeast makes bread dough rise.", 2023, "home"),
]
DOCUMENTS = [
    *(
        Document(name, text, title, {"year": year, "kind": kind})
        for name, title, text, year, kind in TEXTS
    ),
    Document(EVIL, f"{EVIL} purple elephants", EVIL, {"year": 1999, EVIL: EVIL}),
    Document("rtl", "\u05d7\u05ea\u05d5\u05dc \u202e purple \U0001f600 elephants", "", {}),
]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def index(encoder):
    return Index.build(encoder.encode_documents(DOCUMENTS), DOCUMENTS, model_name="default")


@pytest.fixture(scope="module")
def url(encoder, index):
    with serving(encoder, index) as found:
        yield found


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; what it must not do is looked at when the test ends."""
    begun = []

    def begin(url, **options):
        begun.append(Visit(browser, url, **options))
        return begun[-1]

    yield begin
    for one in begun:
        one.check()
        one.context.close()


@pytest.fixture
def at(visit, url):
    """Return a function that opens a page at what its address says."""
    return lambda **state: visit(url).go(urlencode(state))


def hits(page):
    return page.locator(".hit")


def ids(page):
    return hits(page).evaluate_all("hits => hits.map(hit => hit.dataset.id)")


def test_it_searches_as_one_types_and_says_so(at):
    page = at()
    expect(page.locator("#served")).to_contain_text("7 documents · model default and words")
    page.get_by_label("Query").press_sequentially("vibrating noise")
    expect(hits(page).first).to_be_visible()
    expect(page.locator("#status")).to_contain_text(re.compile(r"^\d+ hits? in \d+ ms$"))
    assert set(ids(page)[:2]) == {"strings", "noise"}
    expect(hits(page).first.locator(".share")).to_be_visible()
    assert "#q=vibrating+noise" in page.url


def test_the_newest_answer_wins(at):
    page = at()

    def slowly(route):
        if '"cat"' in (route.request.post_data or ""):
            page.wait_for_timeout(300)
        route.continue_()

    page.route("**/v1/search", slowly)
    page.get_by_label("Query").fill("cat")
    page.wait_for_timeout(250)
    page.get_by_label("Query").fill("bread dough")
    expect(hits(page).first).to_have_attribute("data-id", "dough")
    page.wait_for_timeout(300)
    assert ids(page)[0] == "dough"


def test_an_address_says_it_all_and_back_works(at):
    page = at(q="bread dough", words="only")
    expect(page.locator("#mix-text")).to_have_text("words alone (BM25)")
    expect(hits(page)).to_have_count(1)
    assert ids(page) == ["dough"]
    page.get_by_label("Query").fill("winter roofs")
    expect(hits(page).first).to_have_attribute("data-id", "snow")
    page.go_back()
    expect(hits(page).first).to_have_attribute("data-id", "dough")
    expect(page.get_by_label("Query")).to_have_value("bread dough")


def test_a_term_shows_which_word_brought_it(at):
    page = at(q=QUERY)
    term = page.locator(".term[data-term=kitten]")
    term.hover()
    expect(page.locator("#query-terms .echo .lit")).to_have_text("kitten")
    added = page.locator(".term.added[data-term=cat]")
    added.focus()
    expect(page.locator("#query-terms .echo .lit")).to_have_text("kitten")
    expect(added).to_contain_text("kitten")
    expect(page.locator("#query-terms .note")).to_contain_text("because of “kitten”")
    lit = page.locator(".hit mark.lit")
    expect(lit.first).to_be_visible()
    assert "cat" in {text.lower() for text in lit.all_inner_texts()}


def test_words_for_bm25_are_pointed_at_too(at):
    page = at(q="vibrating noise", words="only")
    expect(page.locator(".term")).to_have_count(0)
    page.get_by_role("button", name="noise", exact=True).hover()
    expect(page.locator("#query-terms .echo .lit")).to_have_text("noise")
    expect(page.locator(".hit mark.lit").first).to_be_visible()


def test_snippets_mark_what_matched_and_what_was_added(at):
    page = at(q=QUERY)
    expect(page.locator(".hit mark.own").first).to_be_visible()
    added = page.locator(".hit mark.added").first
    expect(added).to_have_attribute("title", re.compile("^stands behind: "))


def test_the_slider_goes_from_words_alone_to_the_model_alone(at):
    page = at(q=QUERY)
    expect(page.locator("#mix-text")).to_have_text("sum, c = 0.8")
    expect(page.locator(".hit[data-id=cats]")).to_be_visible()
    slider = page.get_by_role("slider")
    slider.press("Home")
    expect(page.locator("#mix-text")).to_have_text("words alone (BM25)")
    expect(page.locator(".hit[data-id=noise]")).to_contain_text("words alone")
    assert "words=only" in page.url
    slider.press("End")
    expect(page.locator("#mix-text")).to_have_text("model alone")
    expect(page.locator(".hit[data-id=noise]")).to_contain_text("model alone")
    slider.press("ArrowLeft")
    expect(page.locator("#mix-text")).to_have_text("sum, c = 0.05")


def test_compare_shows_how_ranks_change(at):
    page = at(q=QUERY)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".columns section")).to_have_count(3)
    columns = [
        page.locator(".columns section")
        .nth(number)
        .locator(".hit")
        .evaluate_all(
            "hits => hits.map(hit => [hit.dataset.id, hit.querySelector('.change')?.innerText])"
        )
        for number in range(3)
    ]
    both = [name for name, _ in columns[1]]
    assert {change for _, change in columns[1]} == {None}
    assert any(change != "=" for _, change in columns[0] + columns[2])
    for column in (columns[0], columns[2]):
        for rank, (name, change) in enumerate(column):
            moved = both.index(name) - rank if name in both else None
            shown = "new" if moved is None else f"{'▲' if moved > 0 else '▼'}{abs(moved)}"
            assert change.split("\n")[0] == ("=" if moved == 0 else shown)
    page.locator(".hit[data-id=noise]").first.hover()
    assert (
        page.locator(".hit.same").evaluate_all("hits => hits.map(h => h.dataset.id)")
        == ["noise"] * page.locator(".hit[data-id=noise]").count()
    )


def test_filters_by_chip_and_by_json(at):
    page = at(q="why make noise")
    page.locator(".hit[data-id=noise] .chip", has_text="kind: home").click()
    expect(page.locator("#chips")).to_contain_text("kind: home")
    expect(page.locator(".hit[data-id=strings]")).to_have_count(0)
    assert {"noise"} <= set(ids(page)) <= {"cats", "noise", "dough"}
    page.get_by_text("Filter by metadata").click()
    field = page.get_by_label("Where, as JSON")
    expect(field).to_have_value('{"kind":"home"}')
    expect(page.locator("#where-note")).to_contain_text("year")
    field.fill('{"year": {"gte": 2020}}')
    field.press("Enter")
    expect(page.locator(".hit[data-id=cats]")).to_have_count(0)
    assert ids(page)
    page.get_by_role("button", name="Remove the filter").click()
    expect(page.locator(".hit[data-id=cats]")).to_be_visible()


def test_bad_json_is_said_beside_it(at):
    page = at(q="noise")
    page.get_by_text("Filter by metadata").click()
    field, error = page.get_by_label("Where, as JSON"), page.locator("#where-error")
    for given, said in (('{"year": ', "This is no JSON"), ("7", "Expected an"), ('["a"]', "Expec")):
        field.fill(given)
        field.press("Enter")
        expect(error).to_contain_text(said)
        expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".hit[data-id=noise]")).to_be_visible()


def test_keyboard_alone(at):
    page = at()
    expect(page.get_by_label("Query")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    expect(hits(page).first).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(hits(page).first.locator("h3 button")).to_be_focused()
    name = hits(page).first.get_attribute("data-id")
    page.keyboard.press("Enter")
    dialog = page.locator("#document")
    expect(dialog).to_be_visible()
    expect(dialog.locator("dl")).to_contain_text(name)
    assert f"document={name}" in page.url
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(hits(page).first.locator("h3 button")).to_be_focused()
    expect(page).not_to_have_url(re.compile("document="))
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Query")).to_be_focused()


def test_a_document_says_why_it_is_found(at):
    page = at(q=QUERY, document="cats")
    dialog = page.locator("#document")
    row = dialog.locator("tr", has=page.locator("th", has_text=re.compile("^cat$")))
    expect(row).to_contain_text("in the document, added to the query by “kitten”")
    expect(dialog.locator("dl")).to_contain_text("2015")
    expect(dialog.locator(".body mark", has_text=re.compile("^cat$"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.evaluate("location.hash = '#q=noise&document=noise'")
    expect(dialog).to_contain_text("once in the document")
    page.evaluate("location.hash = '#q=noise&document=nothing'")
    expect(dialog).to_contain_text("There is no such document")


def test_expand_shows_terms_and_their_words(at):
    page = at()
    page.get_by_role("link", name="Expand a text").click()
    page.get_by_role("textbox", name="A text").fill(
        "The kitten sleeps. \U0001f600 Yeast makes dough."
    )
    row = page.locator("#text-terms .term.own[data-term=yeast]")
    row.hover()
    expect(page.locator("#text-terms .echo .lit")).to_have_text("Yeast")
    expect(page.locator("#expand-status")).to_contain_text("added by the model")
    page.get_by_label("Read as").select_option("query")
    expect(page.locator("#text-terms .term.own[data-term=kitten]")).to_be_visible()
    assert "side=query" in page.url
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.get_by_label("Query")).to_be_visible()


def test_what_documents_say_is_text(at):
    page = at(q="purple elephants")
    hit = page.locator(".hit", has_text="alert(1)")
    expect(hit.locator("h3")).to_contain_text(
        "<script>alert(1)</script><img src=x onerror=alert(2)>"
    )
    expect(page.locator(".hit[data-id=rtl] mark", has_text="purple")).to_be_visible()
    hit.locator(".chip", has_text="script").click()
    expect(page.locator("#chips")).to_contain_text("<script>alert(1)</script>")
    expect(hits(page)).to_have_count(1)
    hit.locator("h3 button").click()
    expect(page.locator("#document h2")).to_contain_text("<script>")
    expect(page.locator("#document dl")).to_contain_text("onerror=alert(2)")
    page.wait_for_timeout(100)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert "\u202e" not in page.locator("body").inner_text()  # none turns the page round


def test_what_an_address_says_is_text(visit, url):
    seen = visit(url)
    for key in ("q", "where", "document", "words", "text", "k", "view"):
        page = seen.go(urlencode({"q": "noise"} | {key: EVIL}))
        expect(page.locator("#search")).to_be_visible()
        expect(page.locator("#status:not(:empty), #document[open]").first).to_be_attached()
        assert page.locator("img").count() == 0
        seen.check()


def test_the_policy_stops_scripts_that_get_in(at, url):
    page = at()
    headers = page.request.get(url).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in headers["content-security-policy"]


def test_copies_are_quoted(at, url, index):
    asked = 'it\'s "so" $HOME `id` \\ \U0001f600 \u202e\nnoise'
    page = at(q=asked, words="0", where='{"year": {"gte": 2000}, "on": true, "of": [false, "é\'"]}')
    copied = "void (navigator.clipboard.writeText = async (text) => { window.copied = text; })"
    expect(page.get_by_role("button", name="Copy as curl")).to_be_visible()
    page.evaluate(copied)
    page.get_by_role("button", name="Copy as curl").click()
    words = shlex.split(page.evaluate("window.copied").replace("\\\n", ""))
    assert words[:3] == ["curl", "-s", f"{url}v1/search"]
    body = json.loads(words[words.index("-d") + 1])

    assert body["query"] == asked
    assert body["where"]["of"] == [False, "é'"]
    assert body["lexical"] == 0
    page.get_by_role("button", name="Copy as Python").click()
    code = page.evaluate("window.copied")
    assert "Encoder.load()" in code
    assert "\u202e" not in code
    searched = _run_python(code, index)
    assert searched == [asked, 10, {"lexical": 0, "where": body["where"]}]


def _run_python(code, index):
    """Run what was copied, with an encoder and an index that say what they are asked."""
    asked = []

    class Fake:
        load = open = staticmethod(lambda *names: Fake())
        encode_query = staticmethod(lambda text: text)

        def search(self, query, k, **options):
            asked.extend([query, k, options])
            return []

    exec(code.replace("from spladelet import Encoder, Index", ""), {"Encoder": Fake, "Index": Fake})
    return asked


def test_what_cannot_be_copied_can_be_selected(at):
    page = at(q="noise")
    expect(page.get_by_role("button", name="Copy as curl")).to_be_visible()
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_label("To copy")).to_have_value(re.compile("^curl -s 'http"))
    page.keyboard.press("Escape")
    expect(page.locator("#copied")).to_be_hidden()


def test_dark_as_the_system_is_and_as_one_chooses(visit, url):
    page = visit(url, color_scheme="dark").go()
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    assert max(map(int, re.findall(r"\d+", dark))) < 60
    page.get_by_role("button", name="Light colours").click()
    assert min(map(int, re.findall(r"\d+", page.evaluate(ground))[:3])) > 200
    page.reload()
    expect(page.get_by_role("button", name="Dark colours")).to_be_visible()


VIEWS = {
    "search": {"q": QUERY, "where": '{"year": {"gt": 2000}}'},
    "compare": {"q": QUERY, "compare": 1},
    "document": {"q": QUERY, "document": "cats"},
    "nothing": {"q": "zzz", "words": "only"},
    "expand": {"view": "expand", "text": "Yeast makes bread dough rise."},
}


def _settle(page, name):
    ready = {
        "document": "#document table",
        "expand": "#text-terms .term",
        "search": ".hit mark",
        "compare": ".hit mark",
        "nothing": ".empty",
    }
    expect(page.locator(ready.get(name, ".hit")).first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, url, scheme):
    seen = visit(url, color_scheme=scheme)
    for name, state in VIEWS.items():
        page = seen.go(urlencode(state))
        _settle(page, name)
        for details in page.locator("details:visible").all():
            details.evaluate("node => { node.open = true; }")
        found = Axe().run(page).response["violations"]
        grave = [
            (name, one["id"], one["nodes"][0]["html"])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert grave == []


def test_a_telephone_scrolls_down_only(visit, url):
    seen = visit(url, viewport={"width": 360, "height": 700})
    for name, state in (VIEWS | {"evil": {"q": "purple elephants"}}).items():
        page = seen.go(urlencode(state))
        _settle(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_a_token_is_asked_for_and_kept_in_the_tab(visit, encoder, index):
    with serving(encoder, index, token="secret") as url:
        seen = visit(url)
        page = seen.go(urlencode({"q": "noise"}))
        page.get_by_label("This server wants a token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-error")).to_contain_text("does not take this token")
        page.get_by_label("This server wants a token").fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator(".hit[data-id=noise]")).to_be_visible()
        page.reload()
        expect(page.locator(".hit[data-id=noise]")).to_be_visible()
        assert all("401" in error for error in seen.errors)
        seen.errors.clear()
        assert "secret" not in page.url


def test_an_index_of_words_alone(visit):
    with serving(None, Index.build(None, DOCUMENTS)) as url:
        page = visit(url).go(urlencode({"q": "bread dough", "compare": 1}))
        expect(page.locator("#served")).to_contain_text("words alone")
        expect(hits(page)).to_have_count(1)
        for name in ("#mix", "#compare", "#views", ".term", ".share"):
            expect(page.locator(name)).to_have_count(0 if name.startswith(".") else 1)
            expect(page.locator(name)).to_be_hidden()
        hits(page).first.locator("button").first.click()
        expect(page.locator("#document table")).to_contain_text("once in the document")


def test_an_index_without_words(visit, encoder):
    vectors = encoder.encode_documents(DOCUMENTS)
    index = Index.build(vectors, DOCUMENTS, model_name="default", words=None)
    with serving(encoder, index) as url:
        page = visit(url).go(urlencode({"q": QUERY, "words": "only"}))
        expect(page.locator(".hit[data-id=cats]")).to_be_visible()
        expect(page.locator("#mix")).to_be_hidden()


def test_a_model_without_an_index(visit, encoder):
    with serving(encoder, None) as url:
        page = visit(url).go()
        page.get_by_role("textbox", name="A text").fill("A kitten.")
        expect(page.locator("#text-terms .term.own[data-term=kitten]")).to_be_visible()
        expect(page.locator("#views")).to_be_hidden()


def test_below_a_prefix(visit, encoder, index):
    with serving(encoder, index, prefix="/sparse") as url:
        page = visit(url).go(urlencode({"q": "noise"}))
        expect(page.locator(".hit[data-id=noise]")).to_be_visible()


def test_the_page_is_small_and_one_file():
    html = (files("spladelet") / "server" / "explorer.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 100_000
    assert len(re.findall("<script", html)) == len(re.findall("<style", html)) == 1
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|\sstyle=", html)
    assert explorer.page().headers["content-type"] == "text/html; charset=utf-8"
