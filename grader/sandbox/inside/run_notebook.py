"""Execute a notebook from top to bottom in a fresh kernel; runs inside the sandbox, in the submission's environment.

    python run_notebook.py NOTEBOOK

The kernel is the interpreter that runs this file, whatever the notebook's metadata names.
"""

import os
import sys

try:
    import ipykernel  # noqa: F401
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
except ImportError as lacking:
    print(f"this environment cannot run a notebook ({lacking}); add nbclient and ipykernel to requirements.lock")
    sys.exit(1)


class Runner(NotebookClient):
    """Passes what cells print on to our own output, where it is capped, and keeps no display of theirs."""

    def process_message(self, msg, cell, cell_index):
        kind = msg["msg_type"]
        if kind == "stream":
            sys.stdout.write(msg["content"]["text"])
            sys.stdout.flush()
        if kind in ("stream", "display_data", "update_display_data", "execute_result"):
            return None
        return super().process_message(msg, cell, cell_index)


def main(path: str) -> int:
    try:
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("kernelspec", None)
        if not all(isinstance(c.cell_type + c.source, str) and isinstance(c.metadata, dict) for c in notebook.cells):
            raise ValueError("a cell has no type, source or metadata")
    except RecursionError:
        print(f"{os.path.relpath(path)} is not a notebook: it is nested too deeply")
        return 1
    except Exception as problem:
        said = " ".join(str(problem).split())[:200]
        print(f"{os.path.relpath(path)} is not a notebook: {type(problem).__name__}: {said}")
        return 1
    client = Runner(
        notebook, kernel_name="python3", timeout=None, allow_errors=False, resources={"metadata": {"path": "."}},
        extra_arguments=["--log-level=ERROR"],  # not what the kernel thinks of its network, which is private
    )  # fmt: skip
    try:
        client.execute()
    except CellExecutionError as problem:
        cells = [c for c in notebook.cells if c.cell_type == "code"]
        number = next(
            (i for i, c in enumerate(cells, 1) if any(o.output_type == "error" for o in c.get("outputs", []))), 0
        )
        print(f"code cell {number} of {len(cells)} raised {problem.ename}: {problem.evalue}")
        return 1
    except (CellTimeoutError, DeadKernelError) as problem:
        print(f"the kernel ended: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
