"""The cleaned rows: operators only, found by what is typed and nothing else, and never anybody else's files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api.cursors import encode
from tests.api.conftest import Site

pytestmark = pytest.mark.xdist_group("api")

# Each is in a name as it stands, and would mean something to a filter, a pattern or a query.
HOSTILE = [
    "O'Hara", '"quoted"', "a,b", "(c)", "100%", "a*b", "under_score", "back\\slash", "x;--", "eq.1", "or(id.gt.0)",
    "name.ilike.*", "'; drop table clean_users; --", "a&b=c", "%25", "{1,2}", "$1", "ü", "名前",
]  # fmt: skip


@pytest.fixture(scope="module")
def named(site: Site) -> Iterator[Site]:
    """Cleaned users whose names are hostile texts, each beside one that a pattern would find as well."""
    for text in HOSTILE:
        site.stack.query(
            "insert into public.clean_users (id, name, status, created_at, updated_at, row_hash) "
            "values (gen_random_uuid(), :'name', 'active', now(), now(), 'hostile')",
            {"name": f"<{text}>"},
        )
    yield site
    site.stack.query("delete from public.clean_users where row_hash = 'hostile'")


def users(site: Site, **query: Any) -> dict[str, Any]:
    answer = site.get("/users", "operator", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_search_is_the_text_as_it_stands(named: Site, text: str) -> None:
    found = users(named, search=f"<{text}>")
    assert [item["name"] for item in found["items"]] == [f"<{text}>"]
    matches = (
        "strpos(lower(name), lower(:'t')) > 0 or strpos(lower(email), lower(:'t')) > 0 or strpos(id::text, :'t') > 0"
    )
    wanted = named.stack.query(f"select count(*) from public.clean_users where {matches}", {"t": text})
    assert users(named, search=text)["total"] == int(wanted)


@pytest.mark.parametrize("text", ["%", "_", "*", ".", ",", "()", "\\", "' or '1'='1"])
def test_a_pattern_finds_only_itself(named: Site, text: str) -> None:
    found = users(named, search=text, per_page=200)
    texts = [f"{item['id']} {item.get('name')} {item.get('email')}".lower() for item in found["items"]]
    assert all(text in one for one in texts)


@pytest.mark.parametrize("status", ["deleted", "active)", "active,inactive", "eq.active"])
def test_an_unknown_status_is_refused(site: Site, status: str) -> None:
    assert site.get("/users", "operator", params={"status": status}).status_code == 422


def test_a_filter_that_is_left_empty_asks_for_nothing(site: Site) -> None:
    assert users(site, status="", search="", page="", per_page="") == users(site)
    assert site.get("/reports/daily_activity?as_of=&run=&columns=&from=&to=&format=").status_code == 200


def test_pages_have_a_total_and_cover_every_user_once(site: Site) -> None:
    counts = site.get("/stats/users", "operator").json()
    first = users(site, per_page=37)
    assert first["total"] == counts["total"] == int(site.stack.query("select count(*) from public.clean_users"))
    assert first["pages"] == -(-first["total"] // 37)
    everyone = [
        item["id"] for page in range(first["pages"]) for item in users(site, per_page=37, page=page + 1)["items"]
    ]
    assert len(set(everyone)) == len(everyone) == first["total"]
    beyond = users(site, per_page=37, page=first["pages"] + 5)
    assert (beyond["items"], beyond["total"]) == ([], first["total"])
    assert sum(counts["by_status"].values()) == counts["total"]
    assert users(site, status="inactive")["total"] == counts["by_status"]["inactive"]


def test_a_user_and_all_of_their_posts(site: Site) -> None:
    row = "select user_id, count(*) from public.clean_posts group by 1 order by 2 desc, 1 limit 1"
    author, posts = site.stack.query(row).split("|")
    user = site.get(f"/users/{author}", "operator").json()
    assert user["id"] == author
    assert "row_hash" not in user
    found, cursor = [], ""
    while True:
        body = site.get(f"/users/{author}/posts?limit=7{cursor}", "operator").json()
        found += body["items"]
        if not body["next"]:
            break
        cursor = f"&cursor={body['next']}"
    assert len({post["id"] for post in found}) == len(found) == int(posts)
    assert {post["user_id"] for post in found} == {author}
    moments = [post["created_at"] for post in found]
    assert moments == sorted(moments, reverse=True)
    for path in (f"{author}/posts?cursor={encode('once', author)}", "%00"):  # what PostgreSQL cannot take
        assert site.get(f"/users/{path}", "operator").status_code == 422


@pytest.mark.parametrize("name", ["nobody", "00000000-0000-4000-8000-000000000000", "x' or true --", "%"])
def test_nobody_is_found_by_a_wrong_id(site: Site, name: str) -> None:
    for path in (f"/users/{quote(name, safe='')}", f"/users/{quote(name, safe='')}/posts"):
        assert site.get(path, "operator").status_code == 404


def test_nothing_here_writes_a_source_or_a_cleaned_row(site: Site) -> None:
    paths = site.http.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if path.startswith(("/users", "/stats")):
            assert set(methods) == {"get"}
    operator = site.people["operator"]
    headers = {"apikey": site.stack.key, **operator.headers}
    for table in ("clean_users", "clean_posts", "etl_runs", "user_statistics"):
        address = f"{site.stack.url}/rest/v1/{table}"
        assert httpx.delete(address, headers=headers, params={"status": "eq.active"}).status_code >= 400
        assert httpx.patch(address, headers=headers, params={"id": "neq.x"}, json={"id": None}).status_code >= 400


@pytest.mark.parametrize("who", ["customer", "analyst"])
def test_row_level_security_hides_the_rows_behind_the_api_too(site: Site, who: str) -> None:
    """The same token, straight at the project: the rights are there, not in this process."""
    headers = {"apikey": site.stack.key, **site.people[who].headers}
    for function, table in (("nightly_users", "clean_users"), ("nightly_user_counts", "clean_users")):
        body = {"p_query": {"table": table, "limit": 10, "offset": 0}}
        answer = httpx.post(f"{site.stack.url}/rest/v1/rpc/{function}", headers=headers, json=body).json()
        assert answer["total"] == 0
    runs = httpx.get(f"{site.stack.url}/rest/v1/nightly_runs?select=run_id", headers=headers).json()
    assert bool(runs) == (who == "analyst")
    token = httpx.get(f"{site.stack.url}/rest/v1/etl_runs?select=token", headers=headers)
    assert token.status_code in (401, 403)


def upload(site: Site, who: str, name: str = "mine.csv", body: bytes = b"a,b\n1,2\n", kind: str = "text/csv") -> Any:
    return site.http.post("/files", headers=site.people[who].headers, files={"file": (name, body, kind)})


def test_a_file_of_a_month_has_a_link(site: Site) -> None:
    """Its folder is `month=2026-01`: the local stack does not decode an address in which the `=` is escaped."""
    run = site.get("/reports").json()["items"][0]["run"]
    days = site.get("/files?prefix=runs").json()["items"]
    folder = next(
        f"{day['path']}{run}/clean/posts" for day in days if run in site.get(f"/files?prefix={day['path']}").text
    )
    month = site.get(f"/files?prefix={folder}").json()["items"][0]["path"]
    link = site.get(f"/files/{month}part-000.parquet").json()
    assert httpx.get(link["url"]).content.startswith(b"PAR1")


def test_two_people_never_see_each_others_files(site: Site) -> None:
    """On all routes: what one has handed in, another cannot list, link to, or delete, whatever the role."""
    stored = upload(site, "analyst").json()
    folder = stored["path"].rpartition("/")[0]
    assert [item["path"] for item in site.get(f"/files?prefix={folder}").json()["items"]] == [stored["path"]]
    link = site.get(f"/files/{stored['path']}").json()
    assert httpx.get(link["url"]).content == b"a,b\n1,2\n"
    for who in ("other analyst", "operator"):
        assert site.get(f"/files?prefix={folder}", who).json()["items"] == []
        assert site.get(f"/files/{stored['path']}", who).status_code == 404
        prefix = f"uploads/{site.people['analyst'].id}"
        assert prefix not in site.get("/files?prefix=uploads", who).text
    answer = site.http.delete(f"/files/{stored['path']}", headers=site.people["operator"].headers)
    assert answer.status_code == 403
    assert site.get(f"/files/{stored['path']}").status_code == 200


@pytest.mark.parametrize("path", ["uploads/someone-else/x.csv", "runs/x.csv", "latest.json"])
def test_nobody_stores_anywhere_else_with_their_own_token(site: Site, path: str) -> None:
    headers = {"apikey": site.stack.key, **site.people["operator"].headers, "content-type": "text/csv"}
    answer = httpx.post(f"{site.stack.url}/storage/v1/object/reports/{path}", headers=headers, content=b"x")
    assert answer.status_code >= 400


REFUSED = {
    "a type that is not taken": ("x.html", b"<script>", "text/html", 415),
    "a content that is not its type": ("x.parquet", b"hello", "application/vnd.apache.parquet", 415),
    "a file that is too large": ("x.csv", b"x" * (10 * 2**20 + 1), "text/csv", 413),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_upload_is_bounded(site: Site, what: str) -> None:
    name, body, kind, status = REFUSED[what]
    assert upload(site, "analyst", name, body, kind).status_code == status


def test_a_type_that_curl_does_not_know_is_named_with_the_way_to_state_it(site: Site) -> None:
    answer = upload(site, "analyst", "x.csv", b"a,b\n1,2\n", "application/octet-stream")
    assert answer.status_code == 415
    assert "application/octet-stream" in answer.json()["detail"]
    assert "type=text/csv" in answer.json()["remedy"]


@pytest.mark.parametrize(
    "name", ["../../latest.json", "..\\x.csv", "ü 名.csv", "a/b/c.csv", "x" * 300 + ".csv", ".csv"]
)
def test_a_name_cannot_leave_the_callers_folder(site: Site, name: str) -> None:
    answer = upload(site, "analyst", name)
    assert answer.status_code == 201
    person, _, rest = answer.json()["path"].removeprefix("uploads/").partition("/")
    assert person == site.people["analyst"].id
    assert ".." not in rest
    assert rest.isascii()


def test_exports_are_deleted_by_operators_and_nothing_else_is(site: Site) -> None:
    service = {
        "apikey": site.stack.key,
        "authorization": f"Bearer {site.stack.service_key}",
        "content-type": "text/csv",
    }
    path, later = (f"exports/2026-01-31/daily_activity-{n}.csv" for n in (1, 2))
    service["apikey"] = site.stack.service_key
    for file in (path, later):
        stored = httpx.post(f"{site.stack.url}/storage/v1/object/reports/{file}", headers=service, content=b"x")
        stored.raise_for_status()
    listed = "/files?prefix=exports/2026-01-31&limit=1"
    after = site.get(listed).json()["next"]
    operator = site.people["operator"].headers
    assert site.http.delete("/files/latest.json", headers=operator).status_code == 403
    assert site.http.delete("/files/exports/../latest.json", headers=operator).status_code in (403, 404, 422)
    assert site.http.delete("/files/exports/%2e%2e/latest.json", headers=operator).status_code in (403, 404, 422)
    assert site.http.delete(f"/files/{path}", headers=site.people["analyst"].headers).status_code == 403
    assert site.http.delete(f"/files/{path}", headers=operator).status_code == 204
    assert site.http.delete(f"/files/{path}", headers=operator).status_code == 404
    assert [file["path"] for file in site.get(f"{listed}&cursor={after}").json()["items"]] == [later]
    assert site.http.delete(f"/files/{later}", headers=operator).status_code == 204
    assert site.get("/files/latest.json").status_code == 200


def test_the_service_key_is_not_in_the_application(site: Site) -> None:
    from api.app import without_master_key

    settings = without_master_key(site.settings)
    assert not settings.supabase_service_key.get_secret_value()
    assert not settings.supabase_db_url.get_secret_value()
