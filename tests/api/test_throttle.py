"""The store in which tries to sign in are counted: a Redis cluster that is there at the start and not later."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path

from pydantic import SecretStr

from tasks.settings import Settings
from tests.api.conftest import serving

ONE_NODE = "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$1\r\na\r\n"  # it has all slots


HELLO = "%1\r\n$5\r\nproto\r\n:3\r\n"


def serve_the_start_alone(listener: socket.socket) -> None:
    """What a client asks a node of a cluster before its first command, over two connections; then the node is gone."""
    with ExitStack() as open_until_then:
        open_until_then.enter_context(listener)
        for last in (b"CLUSTER", b"COMMAND"):
            answer_until(last, open_until_then.enter_context(listener.accept()[0]))


def answer_until(last: bytes, client: socket.socket) -> None:
    slots = ONE_NODE.format(port=client.getsockname()[1])
    answers = {b"HELLO": HELLO, b"CLUSTER": slots, b"COMMAND": "*0\r\n"}
    with client.makefile("rb") as lines:
        name = b""
        while name != last:
            count = int(lines.readline()[1:])
            name = [lines.readline().strip() for _ in range(2 * count)][1]  # the size of a word is before it
            client.sendall(answers.get(name, "+OK\r\n").encode())


def test_a_cluster_that_has_gone_is_named_to_who_signs_in(tmp_path: Path) -> None:
    """It was `Something went wrong here`, while any other store was named."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve_the_start_alone, args=(listener,), daemon=True).start()
    settings = Settings(
        _env_file=None,
        supabase_url="http://127.0.0.1:9",
        supabase_key=SecretStr("sb_x"),
        cache_dir=tmp_path,
        api_limits_store=f"redis+cluster://127.0.0.1:{listener.getsockname()[1]}",
    )
    with serving(settings) as http:
        answer = http.post("/auth/sign-in", json={"email": "somebody@example.com", "password": "wrong"})
    assert (answer.status_code, answer.json()["remedy"]) == (503, "The operator looks at ETL_API_LIMITS_STORE.")
