"""Ask a service as planned, and keep what it answered: python http_client.py FOLDER.

For each FOLDER/N.json that appears, from 0 on, the answers go to FOLDER/N.jsonl, a line each as they come, and FOLDER/N.done appears at
the end. FOLDER/N.stop, once it is there, lets no further request begin. A plan is JSON:

    {"url": ..., "requests": [{"method", "path", "headers", "body64"}], asked in turn, from the first again after the last,
     "count": at most so many, "seconds": none begun after so many, "concurrency": so many at a time, "pause": seconds between two of one,
     "deadline": seconds for one, "longest": bytes of an answer, "keep": bytes of it that are kept, "until": the status that ends it, of a
     whole answer}

and an answer {"n": which request, "sent", "done": seconds of the system's monotonic clock, "status", "headers", "body", "error"}.
A request with the header "Transfer-Encoding": "chunked" is sent so, without its length.
Nothing a service answers is unpacked, followed or waited for beyond the deadline.
"""

import asyncio
import base64
import itertools
import json
import os
import random
import sys
import time

import aiohttp

KEPT_HEADERS = ("content-type", "content-encoding", "retry-after", "x-request-id", "location")
LONGEST_HEADER = 200
POLL_SECONDS = 0.005
ROOM = (
    192 << 20
)  # bytes of answers that are kept as they are; of later ones only the beginning is, so that the disk never fills up
SHORT = 1_000
AGENTS = (  # so that nobody can tell by the name who asks
    "curl/8.5.0",
    "python-requests/2.32.3",
    "python-httpx/0.28.1",
    "Python/3.11 aiohttp/3.11.11",
    "Go-http-client/1.1",
    "okhttp/4.12.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
)


class Connector(aiohttp.TCPConnector):
    """Gives no connection on which something has come unasked: it would be taken for the answer to the next request."""

    async def connect(self, req, traces, timeout):
        while (connection := await super().connect(req, traces, timeout)).protocol.should_close:
            connection.close()
        return connection


async def ask(session, request, deadline, longest, keep):
    found = {"status": None, "headers": {}, "body": "", "error": None, "sent": time.monotonic()}
    headers = {
        "User-Agent": random.choice(AGENTS), "Accept-Encoding": "identity", "Content-Type": "application/json",
        **request.get("headers", {}),
    }  # fmt: skip
    chunked = headers.pop("Transfer-Encoding", None) == "chunked" or None
    try:
        async with asyncio.timeout(deadline):
            async with session.request(
                request["method"],
                request["path"],
                data=request["content"],
                headers=headers,
                chunked=chunked,
                allow_redirects=False,
            ) as answer:
                found["status"] = answer.status
                found["headers"] = {
                    name: answer.headers[name][:LONGEST_HEADER] for name in KEPT_HEADERS if name in answer.headers
                }
                size, kept = 0, bytearray()
                async for chunk in answer.content.iter_any():
                    size += len(chunk)
                    kept += chunk[: max(0, keep - len(kept))]
                    if size > longest:
                        found["error"] = f"its answer is longer than {longest:,} bytes"
                        del kept[SHORT:]
                        answer.close()
                        break
                found["body"] = kept.decode("utf-8", "backslashreplace")
    except TimeoutError:
        found["error"] = f"there was no whole answer within {deadline:g} seconds"
    except aiohttp.ClientConnectorError:
        found["error"] = "the connection was refused"
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        found["error"] = "the connection was closed without an answer"
    except aiohttp.ClientPayloadError:
        found["error"] = "the answer broke off"
    except aiohttp.ClientError as problem:
        found["error"] = f"the answer is no HTTP ({type(problem).__name__})"
    found["done"] = time.monotonic()
    return found


async def carry_out(plan, stopped, write):
    requests = [dict(request, content=_content(request)) for request in plan["requests"]]
    numbers, over = itertools.count(), asyncio.Event()
    end = time.monotonic() + plan["seconds"]
    connector = Connector(limit=0)
    async with aiohttp.ClientSession(plan["url"], connector=connector, auto_decompress=False) as session:

        async def one_after_the_other():
            while not over.is_set() and time.monotonic() < end and (number := next(numbers)) < plan["count"]:
                if os.path.exists(stopped):
                    return
                which = number % len(requests)
                found = await ask(session, requests[which], plan["deadline"], plan["longest"], plan["keep"])
                write({"n": which, **found})
                if plan["until"] is not None and found["status"] == plan["until"] and found["error"] is None:
                    over.set()
                if plan["pause"]:
                    await asyncio.sleep(plan["pause"])

        await asyncio.gather(*(one_after_the_other() for _ in range(plan["concurrency"])))


def _content(request):
    return None if request["body64"] is None else base64.b64decode(request["body64"])


class Kept:
    """Writes answers down, as long as there is room with their whole bodies."""

    def __init__(self):
        self.left = ROOM

    def write(self, found, to):
        line = json.dumps(found)
        if len(line) > self.left:
            line = json.dumps({**found, "body": found["body"][:SHORT]})
        self.left = max(0, self.left - len(line))
        to.write(line + "\n")


def main(folder):
    kept = Kept()
    for number in itertools.count():
        plan = os.path.join(folder, f"{number}.json")
        while not os.path.exists(plan):
            time.sleep(POLL_SECONDS)
        with open(plan, encoding="utf-8") as file:
            given = json.load(file)
        with open(os.path.join(folder, f"{number}.jsonl"), "w", encoding="utf-8", buffering=1) as answers:
            stopped = os.path.join(folder, f"{number}.stop")
            asyncio.run(carry_out(given, stopped, lambda found, to=answers: kept.write(found, to)))
        with open(os.path.join(folder, f"{number}.done"), "w", encoding="utf-8"):
            pass


if __name__ == "__main__":
    main(sys.argv[1])
