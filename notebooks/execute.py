"""`make notebooks`: run each notebook on this workspace and keep what it shows, small.

Only on the built-in sample, since notebooks are committed: no photograph of FER2013 may be in them.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
TOP = FOLDER.parent
sys.path.insert(0, str(TOP))
LIMIT = 500_000  # bytes of a notebook


def execute(path, folder=TOP):
    """The notebook at `path` with fresh outputs, run in `folder`: no times, no warnings."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False
    ).execute()
    notebook.metadata.pop("language_info", None)  # the version of Python that ran it
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata = {}
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = _smaller(output.data["image/png"])
    return notebook


def _smaller(picture):
    """The base64 of a PNG in 64 colours: a third of the bytes, no difference to see in grays."""
    out = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(64).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def main():
    from ferlab import cli, files
    from ferlab.data.dataset import Dataset

    with cli.errors_in_one_line():
        name = Dataset.load(TOP / "data/balanced").name
        if name != "sample":
            raise files.UserError(
                f"data/balanced: is {name}; committed notebooks show drawn faces only: make reset"
            )
        for path in sorted(FOLDER.glob("*.ipynb")):
            text = nbformat.writes(execute(path)) + "\n"
            if len(text) > LIMIT:
                raise files.UserError(f"{path.name}: {len(text):,} bytes, at most {LIMIT:,}")
            files.write_text(path, text)
            print(f"{path.name}: {len(text) // 1000} kB")


if __name__ == "__main__":
    main()
