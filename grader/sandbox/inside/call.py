"""What a submission's tests call in place of its commands: hands the call over and repeats what came of it.

    python call.py SOCKET COMMAND ARGUMENT...

It is the same program in every run, so that tests cannot tell by it what stands behind. What the command printed comes out on stderr.
"""

import json
import os
import socket
import sys

COULD_NOT_RUN = 126  # as shells say it


def main(address, command, argv):
    request = {"command": command, "argv": argv, "env": dict(os.environ), "cwd": os.getcwd()}
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(address)
            with line.makefile("rw", encoding="utf-8", errors="surrogateescape") as talk:
                talk.write(json.dumps(request) + "\n")
                talk.flush()
                answer = json.loads(talk.readline())
    except (OSError, ValueError) as problem:
        print(f"{command} could not be run ({problem})", file=sys.stderr)
        return COULD_NOT_RUN
    sys.stderr.write(answer["output"])
    return answer["code"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
