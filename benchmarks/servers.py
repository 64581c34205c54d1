"""What `make bench` starts: nginx with constant answers and as a reverse proxy, the ceiling, a bare LiteLLM proxy."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHAT_ANSWER = {
    "id": "chatcmpl-bench00000000000000000000001",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A constant answer of some length. " * 6, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 48,
        "total_tokens": 68,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_bench",
}

EVENTS = 83


def event_stream() -> bytes:
    """An answer of 83 events and some 16 kB, as a provider streams it; the last but one brings the usage."""
    head = {"id": CHAT_ANSWER["id"], "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-4o-mini"}
    said = [
        {"role": "assistant", "content": ""},
        *({"content": f" word{number:02}"} for number in range(EVENTS - 4)),
        {},
    ]
    chunks = [
        head
        | {
            "system_fingerprint": "fp_bench",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}],
        }
        for delta in said
    ]
    chunks.append(head | {"system_fingerprint": "fp_bench", "choices": [], "usage": CHAT_ANSWER["usage"]})
    lines = [json.dumps(chunk, separators=(",", ":")) for chunk in chunks] + ["[DONE]"]
    assert len(lines) == EVENTS
    return "".join(f"data: {line}\n\n" for line in lines).encode()


NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 0;
  client_body_buffer_size 4m;
  open_file_cache max=16;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /v1/chat/completions {{ default_type application/json; return 200 '{answer}'; }}
    location = /sse/v1/chat/completions {{
      default_type text/event-stream; alias {directory}/stream.sse; error_page 405 =200 $uri;
    }}
    location / {{ return 200 'ok'; }}
  }}
  upstream constant {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{proxy_port};
    location / {{
      proxy_pass http://constant; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


LITELLM_KEY = "sk-" + secrets.token_hex(24)  # it refuses to start without one


@dataclass(frozen=True)
class Running:
    """A started server: the ids of its processes by name, and the seconds until it answered."""

    url: str
    pids: Mapping[str, int]
    start_s: float


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rss_mb(pid: int) -> float:
    """Resident memory in MB, from /proc (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(url: str, timeout_s: float = 60, headers: Mapping[str, str] | None = None) -> float:
    """Seconds until `url` answers 200."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=2) as answer:
                if answer.status == 200:
                    return time.monotonic() - began
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{url} did not answer within {timeout_s:g} s")


@contextmanager
def process(
    command: list[str], environment: Mapping[str, str], directory: Path, name: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a group of its own, ended with everything it started; its output goes to `<name>.log`."""
    with (directory / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@contextmanager
def nginx(directory: Path) -> Iterator[tuple[Running, str]]:
    """The upstream: a constant chat answer of some 660 bytes, a constant stream under /sse; and the address of the same
    nginx as a reverse proxy before it."""
    port, proxy_port = free_port(), free_port()
    (directory / "stream.sse").write_bytes(event_stream())
    directory.chmod(0o755)  # started by root, its worker is nobody
    conf = directory / "nginx.conf"
    answer = json.dumps(CHAT_ANSWER, separators=(",", ":"))
    conf.write_text(NGINX.format(directory=directory, port=port, proxy_port=proxy_port, answer=answer))
    with process(["nginx", "-c", str(conf), "-p", str(directory)], {}, directory, "nginx") as child:
        start_s = wait_for(f"http://127.0.0.1:{port}/")
        yield Running(f"http://127.0.0.1:{port}", {"nginx": child.pid}, start_s), f"http://127.0.0.1:{proxy_port}"


@contextmanager
def module(name: str, directory: Path, *arguments: str) -> Iterator[Running]:
    """A module of this package as a server: its first argument is the port, and it answers anything with 200."""
    port = free_port()
    command = [sys.executable, "-m", f"benchmarks.{name}", str(port), *arguments]
    with process(command, {}, directory, name) as child:
        began = time.monotonic()
        while time.monotonic() - began < 30:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield Running(f"http://127.0.0.1:{port}", {name: child.pid}, time.monotonic() - began)


@contextmanager
def bare_litellm(directory: Path, upstream: str) -> Iterator[Running]:
    """A LiteLLM proxy of the locked version, as plain as it gets: one worker, no database, no callbacks."""
    port = free_port()
    config = directory / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: bench\n    litellm_params:\n"
        f"      {{model: openai/gpt-4o-mini, api_base: '{upstream}/v1', api_key: sk-none}}\n"
        "  - model_name: stream\n    litellm_params:\n"
        f"      {{model: openai/gpt-4o-mini, api_base: '{upstream}/sse/v1', api_key: sk-none}}\n"
        "litellm_settings: {num_retries: 0}\n"
    )
    environment = {
        "LITELLM_MASTER_KEY": LITELLM_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
    }
    command = [str(Path(sys.executable).parent / "litellm"), "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with process(command, environment, directory, "litellm") as child:
        start_s = wait_for(f"http://127.0.0.1:{port}/health/liveliness", 120)
        yield Running(f"http://127.0.0.1:{port}", {"litellm": child.pid}, start_s)
