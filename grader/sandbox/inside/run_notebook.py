"""Execute a notebook from top to bottom in a fresh kernel; runs inside the sandbox, in the submission's environment.

    python run_notebook.py NOTEBOOK

The kernel is the interpreter that runs this file, whatever the notebook's metadata names.
"""

import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError


def main(path: str) -> int:
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as problem:
        print(f"{path} is not a notebook: {type(problem).__name__}: {problem}")
        return 1
    notebook.metadata.pop("kernelspec", None)
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=None, allow_errors=False, resources={"metadata": {"path": "."}}
    )
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
