"""The service of stage 08, watched from outside: an ASGI application around it counts, keeps and prints."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from litestar import Response, get

import diary
import serve

PREDICT = "/v1/predict"
ROUTES = {PREDICT, "/healthz", "/readyz", "/version", "/openapi.json", "/metrics"}
BUCKETS = [0.001 * 2**n for n in range(15)]


class Numbers:
    def __init__(self):
        self.requests, self.predictions, self.seconds, self.buckets = Counter(), Counter(), Counter(), {}

    def count(self, route, status, version, rows, seconds):
        self.requests[route, status, version] += 1
        if rows:
            self.predictions[version] += rows
        self.seconds[route] += seconds
        at = next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))
        self.buckets.setdefault(route, [0] * (len(BUCKETS) + 1))[at] += 1

    def text(self, version):
        out = ["# HELP mlekit_requests_total requests answered", "# TYPE mlekit_requests_total counter"]
        for (route, status, by), n in sorted(self.requests.items()):
            out.append(f'mlekit_requests_total{{model_version="{by}",route="{route}",status="{status}"}} {n}')
        out += ["# HELP mlekit_predictions_total rows scored", "# TYPE mlekit_predictions_total counter"]
        out += [f'mlekit_predictions_total{{model_version="{by}"}} {n}' for by, n in self.predictions.items()]
        out += ["# HELP mlekit_request_seconds seconds until the end of an answer", "# TYPE mlekit_request_seconds histogram"]
        for route, counts in self.buckets.items():
            so_far = 0
            for bound, n in zip([*(f"{b:g}" for b in BUCKETS), "+Inf"], counts, strict=True):
                so_far += n
                out.append(f'mlekit_request_seconds_bucket{{le="{bound}",route="{route}"}} {so_far}')
            out.append(f'mlekit_request_seconds_sum{{route="{route}"}} {self.seconds[route]:.9f}')
            out.append(f'mlekit_request_seconds_count{{route="{route}"}} {so_far}')
        out += ["# HELP mlekit_model_info the version that answers", "# TYPE mlekit_model_info gauge"]
        if version is not None:
            out.append(f'mlekit_model_info{{version="{version}"}} 1')
        return "\n".join(out) + "\n"


class Watched:
    def __init__(self, app, numbers, frames):
        self.app, self.numbers, self.frames, self.writer = app, numbers, frames, ThreadPoolExecutor(1)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        since, route = time.perf_counter(), scope["path"] if scope["path"] in ROUTES else "other"
        kept = route == PREDICT and scope["method"] == "POST"
        answer = []

        async def hold(message):
            answer.append(message)

        await self.app(scope, receive, hold)
        status, (version, scored) = answer[0]["status"], scope["state"].get("scored", (None, []))
        if status != 200:
            version, scored = None, []
        identity = next((value.decode() for name, value in answer[0]["headers"] if name == b"x-request-id"), "")
        if kept:
            try:
                entry = identity, time.perf_counter() - since, status, version, scored
                await asyncio.get_running_loop().run_in_executor(self.writer, self.frames.keep, *entry)
            except OSError as problem:
                print(f"not kept: {problem.strerror}", file=sys.stderr, flush=True)
                status, version, scored = 503, None, []
                body = json.dumps({"request_id": identity, "detail": [{"loc": [], "msg": "what is answered cannot be kept"}]}).encode()
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                headers += [(b"retry-after", b"1"), (b"x-request-id", identity.encode())]
                answer = [{"type": "http.response.start", "status": 503, "headers": headers}, {"type": "http.response.body", "body": body}]
        seconds = time.perf_counter() - since
        self.numbers.count(route, status, version or "", len(scored), seconds)
        if kept:
            line = {"request_id": identity, "route": route, "status": status, "seconds": seconds, "model_version": version}
            print(json.dumps(line), flush=True)
        for message in answer:
            await send(message)


def main():
    case, desk = serve.read()
    numbers = Numbers()

    @get("/metrics", media_type="text/plain")
    async def metrics() -> Response[str]:
        """Counters and times."""
        champion = desk.champion()
        return Response(numbers.text(champion and champion.version), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = serve.application(case, desk, [metrics])
    asyncio.run(serve.run(Watched(app, numbers, diary.Frames(os.environ["MLEKIT_STATE"]))))


if __name__ == "__main__":
    main()
