"""Let a month pass: python -m world.next"""

from __future__ import annotations

import sys

import httpx


def main() -> None:
    answer = httpx.post("http://127.0.0.1:8000/next", timeout=60)
    if answer.status_code != 200:
        sys.exit(answer.json()["detail"])
    message = answer.json()
    print(f"step {message['step']}: it is {message['now']}, and {', '.join(message['months'])} can be fetched")


if __name__ == "__main__":
    main()
